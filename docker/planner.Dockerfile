# The machine that plans: camera, world model, planner and trajectory node. Ubuntu 24.04, Python
# 3.12, ROS 2 Jazzy. CUDA comes with PyTorch's wheels; the host brings driver and container toolkit.
#   docker build -f docker/planner.Dockerfile -t dexwm-planner .
# Another build of PyTorch: --build-arg PIP_TORCH_ARGS="--index-url ..."
FROM ros:jazzy-ros-base-noble AS base
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
# What runs: the middleware, the simulated camera's software rendering, the driver of a camera.
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        libegl1 \
        libgl1-mesa-dri \
        libopengl0 \
        python3-venv \
        ros-jazzy-control-msgs \
        ros-jazzy-controller-manager-msgs \
        ros-jazzy-realsense2-camera \
        ros-jazzy-rmw-cyclonedds-cpp \
        ros-jazzy-robot-state-publisher \
    && rm -rf /var/lib/apt/lists/*

# The messages of franka_ros2, which the arm's state and its recovery come by: of the same version
# as in robot.Dockerfile.
FROM base AS franka
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ARG FRANKA_ROS2_VERSION=v3.4.0
WORKDIR /opt/franka
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        cmake g++ git make python3-colcon-common-extensions python3-dev \
    && rm -rf /var/lib/apt/lists/* \
    && git clone --depth 1 --branch "${FRANKA_ROS2_VERSION}" \
        https://github.com/frankarobotics/franka_ros2.git src/franka_ros2
RUN set +u \
    && . /opt/ros/jazzy/setup.bash \
    && set -u \
    && colcon build --merge-install --packages-select franka_msgs \
        --cmake-args -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF

FROM base AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake g++ make python3-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/dexwm
# Packages first: they change less often than sources, and take minutes.
COPY requirements.lock ./
COPY tools tools
ARG PIP_TORCH_ARGS=""
RUN set +u \
    && . /opt/ros/jazzy/setup.bash \
    && set -u \
    && PIP_NO_CACHE_DIR=1 PIP_TORCH_ARGS="${PIP_TORCH_ARGS}" tools/setup.sh venv
COPY ros2_ws/src ros2_ws/src
RUN set +u \
    && . /opt/ros/jazzy/setup.bash \
    && set -u \
    && tools/setup.sh workspace

FROM base AS runtime
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ARG UID=1001
ARG GID=1001
# Ubuntu's image has a user of its own, with the number that a first user has on most hosts.
RUN if id ubuntu > /dev/null 2>&1; then userdel --remove ubuntu; fi \
    && groupadd --gid "${GID}" dexwm \
    && useradd --uid "${UID}" --gid "${GID}" --groups dialout,video --create-home dexwm \
    && install --directory --owner dexwm --group dexwm /runs /home/dexwm/.local/share/dexwm/goals
COPY --from=franka /opt/franka/install /opt/franka/install
# At the path of the build, for the workspace is linked.
COPY --from=build /opt/dexwm /opt/dexwm
COPY docker/entrypoint.sh docker/healthcheck.py docker/cyclonedds.xml /opt/dexwm/docker/
ENV RMW_IMPLEMENTATION=rmw_cyclonedds_cpp \
    CYCLONEDDS_URI=file:///opt/dexwm/docker/cyclonedds.xml \
    ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility
USER ${UID}
WORKDIR /runs
HEALTHCHECK --interval=30s --timeout=20s --start-period=120s --retries=3 \
    CMD ["/opt/dexwm/docker/entrypoint.sh", "python3", "/opt/dexwm/docker/healthcheck.py", \
         "planner: plans"]
ENTRYPOINT ["/opt/dexwm/docker/entrypoint.sh"]
CMD ["ros2", "launch", "--show-args", "dexwm_planner", "grasp.launch.py"]
