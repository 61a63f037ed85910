import json

import numpy as np
import pytest

from dexwm.robot.joints import HOME
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.cell import Cell
from dexwm_sim.expert import Expert
from dexwm_sim.follow import Follower
from dexwm_sim.pick_run import STAGES, ArmTracking, PickMonitor, PickSummary, stages
from dexwm_sim.scene_config import SceneConfig


@pytest.fixture(scope='module')
def model():
    return RobotModel.from_urdf(robot_description())


def test_stages_cover_the_pick_in_order(model):
    legs = Expert(model).pick([0.55, 0.1, 0.26], HOME)
    plans = stages(legs)
    np.testing.assert_array_equal(
        np.concatenate([plan.waypoints for plan in plans]), [leg.target for leg in legs]
    )
    assert [plan.name for plan in plans] == ['approach+descend', 'curl+close', 'lift']
    assert sum(map(len, STAGES)) == len(legs)
    with pytest.raises(ValueError, match='not the legs'):
        stages(legs[:-1])


@pytest.mark.parametrize('grasps', [True, False])
def test_monitor_judges_what_it_observes(model, grasps):
    cell = Cell(SceneConfig.sample(3, ('box',), quality='fast'))
    position = cell.object_pose('box')[:3]
    monitor = PickMonitor(model, 'box', position[2])
    follower = Follower(cell, HOME)

    def observe():
        monitor.observe(
            round(cell.data.time * 1e9),
            cell.joint_positions(),
            {'box': cell.object_pose('box')[:3]},
            cell.objects_touched(),
        )

    legs = Expert(model).pick(position, HOME)
    for leg in legs if grasps else legs[:2]:
        follower.follow([leg])
        observe()
    # Twice as often as the judge counts, as the cell node does.
    for _ in range(26):
        follower.hold(0.06)
        observe()
    verdict = monitor.verdict()
    assert verdict.success is grasps
    assert verdict.strict_success is grasps
    assert monitor.highest == pytest.approx(max(verdict.measure, 0), abs=0.03)


def test_monitor_counts_time_not_messages(model):
    monitor = PickMonitor(model, 'box', 0.2)
    up = {'box': np.array([0.5, 0.0, 0.3])}
    for k in range(40):
        monitor.observe(k * 20_000_000, HOME, up, frozenset())
    assert not monitor.verdict().strict_success
    for k in range(40, 60):
        monitor.observe(k * 20_000_000, HOME, up, frozenset())
    assert monitor.verdict().strict_success
    assert not monitor.verdict().success


def test_tracking_leaves_out_the_hand():
    tracking = ArmTracking()
    error = np.zeros(23)
    error[3], error[10] = -0.02, 0.5
    tracking.observe(error)
    tracking.observe(np.zeros(23))
    assert tracking.largest == pytest.approx(0.02)


def test_summary_is_json():
    summary = PickSummary(target='can', frames_received=3)
    assert not summary.succeeded
    assert json.loads(summary.to_json())['target'] == 'can'
