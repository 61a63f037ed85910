"""Writes recordings of runs as a planner and a recorder leave them, without ROS."""

from pathlib import Path

import numpy as np
import torch
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from dexwm.bag.bag_writer import BagWriter
from dexwm.bag.planner_setup import PlannerSetup
from dexwm.bag.preset_text import preset_to_text
from dexwm.model.checkpoint import save_checkpoint
from dexwm.model.encoders.registry import build_encoder
from dexwm.model.world_model import WorldModel, WorldModelConfig
from dexwm.planning.compute_setup import ComputeSetup
from dexwm.planning.goal import picture_digest
from dexwm.robot.joints import JOINTS

DEXWM_MSGS = Path(__file__).parents[2] / 'dexwm_msgs'
IMAGE, STATE, STRING = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/JointState', 'std_msgs/msg/String'
PLAN = 'dexwm_msgs/msg/Plan'
DIAGNOSTICS = 'diagnostic_msgs/msg/DiagnosticArray'
FEEDBACK = 'dexwm_msgs/action/PlanToGoal_FeedbackMessage'
TOPICS = {
    '/camera/color/image_raw': IMAGE,
    '/joint_states': STATE,
    '/diagnostics': DIAGNOSTICS,
    '/planner/setup': STRING,
    '/planner/goal': IMAGE,
    '/planner/observed': IMAGE,
    '/planner/overlay': IMAGE,
    '/planner/plan': PLAN,
}
BEGIN_NS = 1_700_000_000_000_000_000


def typestore():
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg((DEXWM_MSGS / 'msg' / 'Plan.msg').read_text(), PLAN))
    return store


STORE = typestore()


def save_tiny_checkpoint(folder, seed=0):
    """A model of the smallest real encoder there is; returns the folder."""
    torch.manual_seed(seed)
    encoder = build_encoder('efficientnet_lite0', {'image_size': [64, 96]})
    written = {
        'name': 'tiny',
        'predictor': {'dim': 8, 'depth': 1, 'heads': 2, 'context': 2, 'residual': True},
        'keypoint_head': {'dim': 8, 'depth': 0, 'heads': 2, 'stride': 8},
        'decoder': None,
        'action': {'absolute': True},
        'heatmap_loss': 'cross_entropy',
    }
    model = WorldModel(WorldModelConfig.for_encoder(written, encoder), encoder)
    for parameter in model.predictor.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_checkpoint(model, folder)
    return folder


def make(kind, **fields):
    return STORE.types[kind](**fields)


def time(stamp_ns):
    return make('builtin_interfaces/msg/Time', sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)


def header(stamp_ns):
    return make('std_msgs/msg/Header', stamp=time(stamp_ns), frame_id='')


def image(picture, stamp_ns=0, encoding='rgb8'):
    pixels = picture if encoding == 'rgb8' else picture[..., ::-1]
    rows, columns = picture.shape[:2]
    return make(
        IMAGE,
        header=header(stamp_ns),
        height=rows,
        width=columns,
        encoding=encoding,
        is_bigendian=0,
        step=3 * columns,
        data=np.ascontiguousarray(pixels).ravel(),
    )


def joint_state(positions, stamp_ns):
    empty = np.empty(0)
    return make(
        STATE,
        header=header(stamp_ns),
        name=list(JOINTS),
        position=np.array(positions, np.float64),
        velocity=empty,
        effort=empty,
    )


def camera_info(intrinsics):
    fx, fy, cx, cy = intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy
    return make(
        'sensor_msgs/msg/CameraInfo',
        header=header(0),
        height=intrinsics.height,
        width=intrinsics.width,
        distortion_model='',
        d=np.empty(0),
        k=np.array([fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]),
        r=np.zeros(9),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=make(
            'sensor_msgs/msg/RegionOfInterest',
            x_offset=0,
            y_offset=0,
            height=0,
            width=0,
            do_rectify=False,
        ),
    )


def plan_message(plan, seen, planner, seen_ns, stamp_ns, budget=0.0, goal_keypoints=()):
    """What the planner node publishes of a plan."""
    zero = make('builtin_interfaces/msg/Duration', sec=0, nanosec=0)
    empty = np.empty(0)
    points = [
        make(
            'trajectory_msgs/msg/JointTrajectoryPoint',
            positions=q,
            velocities=empty,
            accelerations=empty,
            effort=empty,
            time_from_start=zero,
        )
        for q in plan.waypoints
    ]
    return make(
        PLAN,
        header=header(stamp_ns),
        task=plan.task,
        goal_name='',
        goal_keypoints=np.array(goal_keypoints, np.float64),
        joint_names=list(JOINTS),
        waypoints=points,
        observation_stamp=time(seen_ns),
        picture_digest=picture_digest(seen.image),
        camera_info=camera_info(seen.intrinsics),
        t_base_from_camera=seen.T_base_from_camera.ravel(),
        observed_positions=seen.joint_positions,
        seed=plan.seed,
        checkpoint_digest=plan.checkpoint_digest,
        goal_digest=plan.goal_digest,
        preset=planner.preset.name,
        preset_settings=preset_to_text(planner.preset),
        replan=plan.replan,
        previous_waypoints=(
            empty if plan.previous_waypoints is None else plan.previous_waypoints.ravel()
        ),
        budget=budget,
        outcome=plan.outcome,
        costs=np.array(plan.costs),
        term_names=list(plan.terms),
        terms=np.array(list(plan.terms.values())),
        planning_time=plan.seconds['total'],
        timing_names=list(plan.seconds),
        timings=np.array(list(plan.seconds.values())),
    )


def setup_message(planner, folder, urdf, boxes=()):
    setup = PlannerSetup(
        str(folder),
        planner.checkpoint_digest,
        urdf,
        tuple(boxes),
        ComputeSetup.of_this_process('cpu'),
        {'preset': planner.preset.name},
    )
    return make(STRING, data=setup.to_text())


def write_messages(path, messages, notes=None):
    """Writes (topic, message) pairs, a hundredth of a second apart."""
    with_topics = dict.fromkeys(topic for topic, _ in messages)
    writer = BagWriter(path)
    for topic in with_topics:
        kind = TOPICS[topic]
        definition, _ = STORE.generate_msgdef(kind, ros_version=2)
        writer.add_topic(topic, kind, definition, STORE.hash_rihs01(kind))
    for number, (topic, message) in enumerate(messages):
        data = bytes(STORE.serialize_cdr(message, TOPICS[topic]))
        writer.write(topic, BEGIN_NS + number * 10**7, data)
    writer.close(notes)
    return path
