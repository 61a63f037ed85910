"""A plan as a message: all that is needed to judge it and to make it again."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time as TimeMessage
from dexwm_msgs.action import PlanToGoal
from dexwm_msgs.msg import Plan
from numpy.typing import NDArray
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo
from trajectory_msgs.msg import JointTrajectoryPoint

from dexwm.bag.preset_text import preset_to_text
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.planning.goal import Goal, KeypointGoal, picture_digest
from dexwm.planning.planner import PlanResult
from dexwm.planning.preset import Preset
from dexwm.robot.joints import JOINTS
from dexwm_planner.planner.planner_inputs import Inputs


def plan_message(
    plan: PlanResult,
    preset: Preset,
    seen: Inputs,
    T_base_from_camera: NDArray[np.float64],
    request: PlanToGoal.Goal,
    goal: Goal,
    stamp: TimeMessage,
) -> Plan:
    """The message of a plan.

    Args:
        plan: the plan.
        preset: how it was made.
        seen: what it was made from.
        T_base_from_camera: (4, 4), m.
        request: who asked for it.
        goal: what was asked for.
        stamp: when it was ready.
    """
    previous = plan.previous_waypoints
    message = Plan(
        task=plan.task,
        goal_name=request.goal_name,
        goal_keypoints=goal.to_message() if isinstance(goal, KeypointGoal) else [],
        joint_names=list(JOINTS),
        waypoints=[JointTrajectoryPoint(positions=q.tolist()) for q in plan.waypoints],
        observation_stamp=Time(nanoseconds=seen.stamp_ns).to_msg(),
        picture_digest=picture_digest(seen.image),
        camera_info=_camera_info(seen.intrinsics),
        t_base_from_camera=T_base_from_camera.ravel().tolist(),
        observed_positions=seen.joint_positions.tolist(),
        seed=plan.seed,
        checkpoint_digest=plan.checkpoint_digest,
        goal_digest=plan.goal_digest,
        preset=preset.name,
        preset_settings=preset_to_text(preset),
        replan=plan.replan,
        previous_waypoints=[] if previous is None else previous.ravel().tolist(),
        budget=request.budget,
        outcome=plan.outcome,
        costs=list(plan.costs),
        term_names=list(plan.terms),
        terms=list(plan.terms.values()),
        planning_time=plan.seconds['total'],
        timing_names=list(plan.seconds),
        timings=list(plan.seconds.values()),
    )
    message.header.stamp = stamp
    return message


def _camera_info(intrinsics: CameraIntrinsics) -> CameraInfo:
    fx, fy, cx, cy = intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy
    return CameraInfo(
        height=intrinsics.height,
        width=intrinsics.width,
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
    )
