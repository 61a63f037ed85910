# Source this (bash) for a shell in which the project's environment and workspace are active:
#   . tools/env.sh
_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ -n "${ROS_DISTRO:-}" ] && _ros2="$(command -v ros2)"; then
  # What is compiled in ROS loads in one version of Python only: that of its own programs.
  IFS= read -r _python <"$_ros2"
  _python="${_python#??}"
  _version='import sys; print("%d.%d" % sys.version_info[:2])'
  if [ "$($_python -c "$_version")" != "$("$_root/.venv/bin/python" -c "$_version")" ]; then
    echo "tools/env.sh: .venv has another version of Python than $_python, with which $_ros2 runs;" \
      "make it again: make clean && make setup PYTHON=\"$_python\"" >&2
    unset _root _ros2 _python _version
    return 1
  fi
  unset _ros2 _python _version
fi
# The set-up scripts of colcon use unset variables.
case $- in *u*) _nounset=1 ;; *) _nounset= ;; esac
set +u
. "$_root/.venv/bin/activate"
if [ -n "${ROS_DISTRO:-}" ]; then
  # A ros2 that finds what is installed in .venv.
  PATH="$_root/tools/bin:$PATH"
else
  # ROS 2 out of the wheels: their prefix is the virtual environment.
  [ -d "$VIRTUAL_ENV/share/rclpy" ] ||
    echo "tools/env.sh: .venv was made with ROS 2 sourced; source it again first." >&2
  export AMENT_PREFIX_PATH="$VIRTUAL_ENV" CMAKE_PREFIX_PATH="$VIRTUAL_ENV"
fi
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
[ ! -f "$_root/ros2_ws/install/setup.bash" ] || . "$_root/ros2_ws/install/setup.bash"
[ -z "$_nounset" ] || set -u
unset _root _nounset
