# Source this (bash) for a shell in which the project's environment and workspace are active:
#   . tools/env.sh
_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# The set-up scripts of colcon use unset variables.
case $- in *u*) _nounset=1 ;; *) _nounset= ;; esac
set +u
. "$_root/.venv/bin/activate"
if [ -z "${ROS_DISTRO:-}" ]; then
  # ROS 2 out of the wheels: their prefix is the virtual environment.
  [ -d "$VIRTUAL_ENV/share/rclpy" ] ||
    echo "tools/env.sh: .venv was made with ROS 2 sourced; source it again first." >&2
  export AMENT_PREFIX_PATH="$VIRTUAL_ENV" CMAKE_PREFIX_PATH="$VIRTUAL_ENV"
fi
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
[ ! -f "$_root/ros2_ws/install/setup.bash" ] || . "$_root/ros2_ws/install/setup.bash"
[ -z "$_nounset" ] || set -u
unset _root _nounset
