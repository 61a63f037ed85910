# The machine at the robot: franka_ros2, the driver of the Allegro hand, the FCI node. Ubuntu 24.04,
# ROS 2 Jazzy, no CUDA, no PyTorch. Its host needs a real-time kernel (docs/robot.md).
#   docker build -f docker/robot.Dockerfile -t dexwm-robot .
FROM ros:jazzy-ros-base-noble AS base
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        can-utils \
        iproute2 \
        python3-venv \
        ros-jazzy-controller-manager \
        ros-jazzy-joint-state-broadcaster \
        ros-jazzy-joint-trajectory-controller \
        ros-jazzy-rmw-cyclonedds-cpp \
        ros-jazzy-robot-state-publisher \
    && rm -rf /var/lib/apt/lists/*

# Franka's packages. The matching libfranka and franka_description are those that franka_ros2 names;
# which version fits your robot's system version: Franka's compatibility table.
FROM base AS franka
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# The same version as in planner.Dockerfile, for messages go from one to the other.
ARG FRANKA_ROS2_VERSION=v3.4.0
WORKDIR /opt/franka
# Dependencies of the packages that are built, and of no others: some need what rosdep does not know.
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        git python3-colcon-common-extensions python3-vcstool \
    && git clone --depth 1 --branch "${FRANKA_ROS2_VERSION}" \
        https://github.com/frankarobotics/franka_ros2.git src/franka_ros2 \
    && vcs import --recursive --shallow src < src/franka_ros2/dependency.repos \
    && mkdir /opt/built \
    && colcon list --paths-only --packages-up-to franka_hardware franka_robot_state_broadcaster \
        franka_msgs franka_description \
        | sed 's|$|/package.xml|' | xargs cp --parents --target-directory=/opt/built \
    && rosdep update --rosdistro jazzy \
    && rosdep install --from-paths /opt/built --ignore-src --rosdistro jazzy -y \
    && rm -rf /var/lib/apt/lists/*
# Release: libfranka's loop does not keep up otherwise.
RUN set +u \
    && . /opt/ros/jazzy/setup.bash \
    && set -u \
    && colcon build --merge-install --cmake-args -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF \
        --packages-up-to franka_hardware franka_robot_state_broadcaster franka_msgs \
        franka_description

FROM base AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake g++ make python3-dev \
        python3-colcon-common-extensions \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/dexwm
COPY requirements.lock docker/robot-packages.txt ./
RUN python3 -m venv --system-site-packages .venv \
    && grep -iE "^($(grep -v '^#' robot-packages.txt | sed 's/[-_]/[-_]/g' | paste -sd '|'))==" \
        requirements.lock > locked.txt \
    && .venv/bin/pip install --no-cache-dir --no-deps -r locked.txt
COPY tools tools
COPY ros2_ws/src ros2_ws/src
RUN set +u \
    && . /opt/ros/jazzy/setup.bash \
    && set -u \
    && tools/setup.sh workspace

FROM base AS runtime
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ARG UID=1001
ARG GID=1001
# Names of the group and its limits as on the host (docs/robot.md). Ubuntu's image has a user of its
# own, with the number that a first user has on most hosts.
RUN if id ubuntu > /dev/null 2>&1; then userdel --remove ubuntu; fi \
    && groupadd --gid "${GID}" dexwm \
    && groupadd realtime \
    && useradd --uid "${UID}" --gid "${GID}" --groups dialout,realtime --create-home dexwm
COPY --from=franka /opt/franka/install /opt/franka/install
# What franka_ros2's libraries are linked against.
COPY --from=franka /opt/built /opt/built
RUN apt-get update \
    && rosdep update --rosdistro jazzy \
    && rosdep install --from-paths /opt/built --ignore-src --rosdistro jazzy -y \
        --dependency-types=exec \
    && rm -rf /var/lib/apt/lists/* /opt/built /root/.ros
# At the path of the build, for the workspace is linked.
COPY --from=build /opt/dexwm /opt/dexwm
COPY docker/entrypoint.sh docker/healthcheck.py docker/cyclonedds.xml /opt/dexwm/docker/
ENV RMW_IMPLEMENTATION=rmw_cyclonedds_cpp \
    CYCLONEDDS_URI=file:///opt/dexwm/docker/cyclonedds.xml \
    ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET
USER ${UID}
WORKDIR /home/dexwm
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=3 \
    CMD ["/opt/dexwm/docker/entrypoint.sh", "python3", "/opt/dexwm/docker/healthcheck.py", \
         "hand: can", "fr3_joint1"]
ENTRYPOINT ["/opt/dexwm/docker/entrypoint.sh"]
CMD ["ros2", "launch", "dexwm_franka_bringup", "fr3_allegro.launch.py"]
