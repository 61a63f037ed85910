"""RViz beside a graph, on a machine with it and on one without."""

from pathlib import Path

import pytest
import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from dexwm_planner.graph.graph import GraphError, RunContext, parse_assignments
from dexwm_planner.graph.graphs import CAMERA_NAMESPACE, PLAN
from dexwm_planner.graph.node_process import node_command
from dexwm_planner.graph.rviz_node import rviz_node
from dexwm_planner.planner.plan_markers import BASE_FRAME, NAMESPACES
from dexwm_planner.planner.plan_markers_node import TOPIC

REMAPPINGS = ((f'{CAMERA_NAMESPACE}/image_raw', '/cam/image_raw'),)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A prefix in which there is a program called rviz2."""
    marker = tmp_path / 'share' / 'ament_index' / 'resource_index' / 'packages' / 'rviz2'
    program = tmp_path / 'lib' / 'rviz2' / 'rviz2'
    for path in (marker, program):
        path.parent.mkdir(parents=True)
        path.touch()
    program.chmod(0o755)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path), prepend=':')
    return program


def test_without_rviz_the_graph_says_what_is_missing():
    try:
        get_package_prefix('rviz2')
    except PackageNotFoundError:
        with pytest.raises(GraphError, match='rviz:=true needs the package rviz2'):
            rviz_node(())
    else:
        pytest.skip('RViz is installed')


def test_rviz_is_started_with_our_configuration(installed, tmp_path):
    command = node_command(rviz_node(REMAPPINGS), tmp_path)
    assert command[:2] == [str(installed), '-d']
    assert Path(command[2]).is_file() and command[3] == '--ros-args'
    assert ':='.join(REMAPPINGS[0]) in command


def test_where_goals_are_waited_for_the_plan_is_shown_once(installed, tmp_path):
    texts = parse_assignments(
        ['arm:=franka_ros2', 'hand:=none', 'camera:=none', f'model:={tmp_path}']
    )
    (tmp_path / 'config.json').touch()
    for rviz in ('false', 'true'):
        values = PLAN.values(texts | {'rviz': rviz})
        names = [spec.name for spec in PLAN.nodes(values, RunContext(77, tmp_path))]
        assert names.count('plan_markers') == 1
        assert ('rviz2' in names) is (rviz == 'true')


def test_the_configuration_shows_what_the_nodes_publish(installed):
    config = yaml.safe_load(Path(rviz_node(()).arguments[1]).read_text())
    manager = config['Visualization Manager']
    assert manager['Global Options']['Fixed Frame'] == BASE_FRAME
    shown = {each['Name']: each for each in manager['Displays']}
    assert shown['Plan']['Topic']['Value'] == TOPIC
    assert set(shown['Plan']['Namespaces']) == set(NAMESPACES)
    assert shown['Camera']['Topic']['Value'] == f'{CAMERA_NAMESPACE}/image_raw'
    assert shown['Predicted keypoints']['Topic']['Value'] == '/planner/overlay'
    # Latched topics are missed by who does not ask for what was said before.
    for name in ('Plan', 'Predicted keypoints'):
        assert shown[name]['Topic']['Durability Policy'] == 'Transient Local'
    (panel,) = (each for each in config['Panels'] if each['Class'] == 'dexwm_rviz/DexWM')
    # The name that a graph remaps.
    assert panel['Camera Topic'] == shown['Camera']['Topic']['Value']
