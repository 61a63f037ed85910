"""Which runs are recorded, and that a replay can reach no robot."""

from dataclasses import replace
from pathlib import Path

import pytest
import rclpy
from rclpy.node import Node

from dexwm_planner.bag.recorded_topics import TOPICS
from dexwm_planner.graph.graph import GraphError, OnExit, RunContext, parse_assignments
from dexwm_planner.graph.graphs import PICK, REPLAY
from dexwm_planner.graph.node_process import node_command

CONTEXT = RunContext(domain_id=77, directory=Path('/run'))


def nodes(graph, *assignments):
    return graph.nodes(graph.values(parse_assignments(assignments)), CONTEXT)


def test_a_run_is_recorded_until_its_other_nodes_have_ended():
    recorder, *others = nodes(PICK)
    assert recorder.name == 'recorder' and recorder.on_exit is OnExit.REPORT
    assert recorder.parameters == {'output_dir': '/run', 'topics': list(TOPICS)}
    assert [spec.name for spec in nodes(PICK, 'record:=false')] == [spec.name for spec in others]


def test_the_recorder_listens_where_the_camera_is():
    recorder = nodes(PICK, 'camera_namespace:=/camera/camera/color')[0]
    topics = recorder.parameters['topics']
    assert '/camera/camera/color/image_raw' in topics and len(topics) == len(TOPICS)
    assert not any(topic.startswith('/camera/color') for topic in topics)


@pytest.mark.parametrize('bag', ['', '/nowhere'])
def test_a_replay_needs_a_recording(bag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GraphError, match='recording'):
        nodes(REPLAY, f'bag:={bag}')


@pytest.fixture
def specs(monkeypatch):
    """The graph's nodes, for a recording that only has to be there."""
    from types import SimpleNamespace

    model = str(Path(__file__).parents[4] / 'models' / 'default')
    setup = SimpleNamespace(
        model=model,
        compute=SimpleNamespace(threads=3),
        parameters={'cell_config': '/cell.yaml', 'camera_calibration': '/eye.yaml'},
    )
    plan = SimpleNamespace(preset=SimpleNamespace(name='cpu'))
    monkeypatch.setattr(
        'dexwm.bag.recorded_run.read_run',
        lambda path, course: SimpleNamespace(setup=setup, plans=[plan]),
    )
    monkeypatch.setattr('dexwm.bag.recorded_run.camera_topic', lambda path: '/eye/image_raw')
    return {spec.name: spec for spec in nodes(REPLAY, 'bag:=bag')}


def test_the_replayed_planner_is_the_recorded_one(specs):
    assert list(specs) == ['replay_planner', 'player']
    parameters = specs['replay_planner'].parameters
    assert parameters['preset'] == 'cpu' and parameters['threads'] == 3
    assert parameters['cell_config'] == '/cell.yaml' and parameters['use_sim_time'] is True
    assert parameters['camera_calibration'] == '/eye.yaml'
    assert specs['player'].on_exit is OnExit.FINISH


def test_nothing_that_a_replay_says_or_hears_is_a_robots(specs, tmp_path):
    """Names as rcl resolves them: every one of the planner's is its own or begins with /replay."""
    spec = replace(specs['replay_planner'], parameters={})
    arguments = node_command(spec, tmp_path)[1:]
    context = rclpy.Context()
    rclpy.init(args=arguments, context=context)
    try:
        node = Node('planner', context=context)
        assert node.get_fully_qualified_name() == '/replay_planner'
        parts = ('send_goal', 'cancel_goal', 'get_result')
        for name in [f'/trajectory/execute_plan/_action/{part}' for part in parts]:
            assert node.resolve_service_name(name) == f'/replay{name}'
        for name in ('/joint_states', '/clock', '/diagnostics'):
            assert node.resolve_topic_name(name) == f'/replay{name}'
        image = node.resolve_topic_name('/camera/color/image_raw')
        assert image == '/replay/eye/image_raw'
        assert node.resolve_topic_name('~/plan') == '/replay_planner/plan'
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
