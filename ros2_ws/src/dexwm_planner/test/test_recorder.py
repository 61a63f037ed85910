"""What the nodes `recorder` and `player` make of a live planner, and what replay makes of that."""

import os
import subprocess
import sys

import numpy as np
import pytest
from dexwm_msgs.action import PlanToGoal
from rclpy.parameter import Parameter
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from dexwm.bag.bag_reader import BagReader
from dexwm.bag.recorded_run import read_run
from dexwm.cli import main
from dexwm_planner.bag.recorder_node import RecorderNode
from dexwm_planner.graph.domain import DomainLease
from dexwm_planner.message_types import (
    MessageTypeError,
    message_class,
    message_definition,
    type_hash,
)

from .planner_scene import TIMEOUT, Scene, save_tiny_checkpoint

SUMMARY = '{"verdict": "executed", "succeeded": true}'
OWN_TYPES = (
    'dexwm_msgs/msg/Plan',
    'dexwm_msgs/msg/MotionState',
    'dexwm_msgs/action/PlanToGoal_FeedbackMessage',
    'dexwm_msgs/action/ExecutePlan_FeedbackMessage',
    'sensor_msgs/msg/Image',
    'sensor_msgs/msg/CameraInfo',
    'diagnostic_msgs/msg/DiagnosticArray',
    'trajectory_msgs/msg/JointTrajectory',
    'rcl_interfaces/msg/Log',
)


@pytest.mark.parametrize('kind', OWN_TYPES)
def test_definitions_describe_what_goes_over_the_network(kind):
    """Another implementation computes from our text the hash that the ROS packages state."""
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(message_definition(kind), kind))
    assert store.hash_rihs01(kind) == type_hash(kind)
    assert message_class(kind).__name__ == kind.rpartition('/')[2]


@pytest.mark.parametrize('kind', ['nothing_msgs/msg/A', 'std_msgs/msg/Nothing', 'Image'])
def test_types_that_are_not_installed_are_named(kind):
    with pytest.raises(MessageTypeError, match='not installed here'):
        message_class(kind)


class Recorded:
    """A scene whose planner made two plans of a task while it was recorded."""

    def __init__(self, folder, checkpoint, domain_id):
        self.checkpoint = checkpoint
        self.directory = folder
        (folder / 'run.json').write_text('{"graph": "reach"}')
        scene = Scene(domain_id, folder, model=str(checkpoint))
        recorder = RecorderNode(
            context=scene.context,
            parameter_overrides=[Parameter('output_dir', value=str(folder))],
        )
        scene.executor.add_node(recorder)
        assert scene.planner.autostart()
        scene.wait_ready()
        scene.wait_until(lambda: recorder.recorded.get('/camera/color/image_raw'))
        self.result = scene.ask(execute=True, preset='cpu', seed=6)
        assert self.result.error_code == PlanToGoal.Result.SUCCESSFUL
        scene.wait_until(lambda: recorder.recorded.get('/planner/plan') == 3)
        scene.wait_until(
            lambda: recorder.recorded.get('/planner/plan_to_goal/_action/feedback') == 30
        )
        self.plans = list(scene.robot.plans)
        (folder / 'summary.json').write_text(SUMMARY)
        scene.executor.remove_node(recorder)
        recorder.close()
        recorder.destroy_node()
        scene.close()
        self.bag = folder / 'bag'


@pytest.fixture(scope='module')
def domain_id():
    with DomainLease() as lease:
        yield lease.domain_id


@pytest.fixture(scope='module')
def recorded(tmp_path_factory, domain_id):
    checkpoint = save_tiny_checkpoint(tmp_path_factory.mktemp('model'))
    return Recorded(tmp_path_factory.mktemp('run'), checkpoint, domain_id)


def test_a_plan_of_the_live_planner_is_made_again_byte_for_byte(recorded, capsys):
    assert main(['replay', str(recorded.bag)]) == 0
    assert capsys.readouterr().out.count('identical, bit for bit') == 3


def test_the_recording_has_the_run(recorded):
    run = read_run(recorded.bag)
    assert run.problems == [] and run.setup.model == str(recorded.checkpoint)
    assert run.notes == {'run': '{"graph": "reach"}', 'summary': SUMMARY}
    assert [plan.replan for plan in run.plans] == [0, 1, 2]
    for plan, message in zip(run.plans, recorded.plans, strict=True):
        np.testing.assert_array_equal(plan.waypoints[0], message.waypoints[0].positions)
        assert plan.costs == tuple(message.costs)
        assert plan.missing == ()
    assert [(i.step, i.iteration) for i in run.iterations] == [
        (step, iteration) for step in range(3) for iteration in range(10)
    ]
    assert {'start', 'reached', 'overlay', 'predicted'} <= run.pictures.keys()
    assert run.setup.parameters['preset'] == 'cpu' and run.setup.parameters['threads'] == 1


def test_latched_topics_are_recorded_as_latched(recorded):
    """So that the standard player latches them too."""
    text = (recorded.bag / 'metadata.yaml').read_text()
    block = text[text.index('name: /planner/setup') :]
    assert 'durability: transient_local' in block[: block.index('type_description_hash')]
    topics = BagReader(recorded.bag).topics
    assert topics['/joint_states'] == 'sensor_msgs/msg/JointState'
    assert topics['/trajectory/state'] == 'dexwm_msgs/msg/MotionState'


def test_the_report_is_one_page(recorded):
    assert main(['report', str(recorded.bag)]) == 0
    page = (recorded.directory / 'report.html').read_text()
    assert page.count('<img') == 8 and page.count('src="data:image/png;base64,') == 8
    assert 'http' not in page and 'class="verdict good">executed<' in page
    for plan in recorded.plans:
        assert f'{plan.costs[-1]:.4f}' in page
    assert recorded.plans[0].checkpoint_digest[:12] in page


def test_a_recording_is_not_written_over(recorded, domain_id):
    command = [sys.executable, '-m', 'dexwm_planner.bag.recorder_node', '--ros-args']
    ended = subprocess.run(
        [*command, '-p', f'output_dir:={recorded.directory}'],
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert ended.returncode == 1 and 'exists' in ended.stderr


def test_played_to_a_live_planner_the_recording_gives_the_same_plan(recorded, tmp_path):
    command = [
        sys.executable, '-m', 'dexwm_planner.runner', 'replay', f'bag:={recorded.bag}',
        f'runs_dir:={tmp_path}',
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert 'from the recorded picture' in ended.stdout and ': identical, cost' in ended.stdout
