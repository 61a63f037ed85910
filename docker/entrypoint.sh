#!/usr/bin/env bash
# Runs a command with ROS, Franka's packages (where they are) and our workspace sourced.
set -eo pipefail
source /opt/ros/jazzy/setup.bash
[ ! -f /opt/franka/install/setup.bash ] || source /opt/franka/install/setup.bash
source /opt/dexwm/tools/env.sh
exec "$@"
