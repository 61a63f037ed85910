"""Arguments, parameter files and what the graphs make of them."""

import os
import subprocess
from pathlib import Path

import pytest

from dexwm_franka_bringup.cell_config import load_cell_config
from dexwm_franka_bringup.description import robot_description
from dexwm_planner.graph.graph import (
    AUTO,
    Argument,
    ArgumentError,
    Graph,
    GraphError,
    NodeSpec,
    OnExit,
    RunContext,
    parse_assignments,
)
from dexwm_planner.graph.graphs import CELL, GRAPHS, GRASP, PICK, PLAN, PUSH, REACH
from dexwm_planner.graph.parameter_files import (
    ParameterFileError,
    read_parameter_file,
    write_parameter_file,
)
from dexwm_sim.episode_file import load_episode
from dexwm_sim.tasks import TASKS

CONTEXT = RunContext(domain_id=77, directory=Path('/run'))


def nodes(graph: Graph, *assignments: str) -> dict[str, NodeSpec]:
    specs = graph.nodes(graph.values(parse_assignments(assignments)), CONTEXT)
    return {spec.name: spec for spec in specs}


def test_assignments_are_split_as_ros2_launch_does():
    assert parse_assignments(['a:=1', 'b:=x:=y', 'a:=2', 'c:=']) == {
        'a': '2',
        'b': 'x:=y',
        'c': '',
    }


@pytest.mark.parametrize('text', ['a', 'a=1', ':=1', ''])
def test_what_is_not_an_assignment_is_refused(text):
    with pytest.raises(ArgumentError, match='name:=value'):
        parse_assignments([text])


@pytest.mark.parametrize(
    ('kind', 'text', 'value'),
    [
        (bool, 'true', True),
        (bool, 'False', False),
        (bool, '0', False),
        (int, '-3', -3),
        (float, '10', 10.0),
        (float, '1e-1', 0.1),
        (str, 'x y', 'x y'),
        (str, '', ''),
    ],
)
def test_texts_become_values_of_the_argument_s_type(kind, text, value):
    argument = Argument('a', kind, kind(), 'An argument.')
    assert argument.parse(text) == value
    assert type(argument.parse(text)) is kind


@pytest.mark.parametrize(
    ('argument', 'text', 'expected'),
    [
        (Argument('a', bool, True, ''), 'maybe', 'true or false'),
        (Argument('a', int, 1, ''), '1.5', 'a whole number'),
        (Argument('a', float, 1.0, ''), 'fast', 'a number'),
        (Argument('a', float, 1.0, '', minimum=0.0), '-1', 'at least 0'),
        (Argument('a', float, 1.0, '', minimum=0.0), 'nan', 'at least 0'),
        (Argument('a', int, 1, '', maximum=5), '6', 'at most 5'),
        (Argument('a', str, 'x', '', choices=('x', 'y')), 'z', 'one of x, y'),
        (Argument('a', float, 1.0, ''), AUTO, 'a number'),
    ],
)
def test_impossible_values_are_refused_with_what_is_possible(argument, text, expected):
    with pytest.raises(ArgumentError, match=expected):
        argument.parse(text)


def test_an_argument_cannot_have_an_impossible_default():
    with pytest.raises(ArgumentError):
        Argument('a', str, 'z', '', choices=('x', 'y'))


@pytest.mark.parametrize('graph', GRAPHS.values(), ids=list(GRAPHS))
def test_unknown_arguments_are_refused_with_the_list_of_all(graph):
    with pytest.raises(ArgumentError) as refusal:
        graph.values({'speed': '1'})
    for argument in graph.arguments:
        assert f"'{argument.name}':\n        {argument.description}" in str(refusal.value)


def test_the_cell_by_default_is_simulated():
    specs = nodes(CELL)
    assert list(specs) == ['cell', 'camera', 'trajectory']
    assert specs['cell'].parameters['scene_seed'] == 0
    assert 'objects' not in specs['cell'].parameters
    assert specs['camera'].parameters['source'] == 'sim'
    assert specs['trajectory'].parameters['speed_scale'] == 0.5
    assert all(spec.on_exit is OnExit.FAIL and spec.remappings == () for spec in specs.values())


def test_arguments_reach_their_nodes():
    specs = nodes(
        CELL, 'seed:=3', 'objects:=can,box', 'rate:=30', 'speed_scale:=1', 'log_level:=debug'
    )
    assert specs['cell'].parameters['scene_seed'] == 3
    assert specs['cell'].parameters['objects'] == ['can', 'box']
    assert specs['camera'].parameters['rate'] == 30.0
    assert specs['trajectory'].parameters['speed_scale'] == 1.0
    assert {spec.log_level for spec in specs.values()} == {'debug'}


def test_the_fci_node_talks_to_the_cell_at_an_address_of_the_run():
    specs = nodes(CELL, 'arm:=fci')
    assert list(specs) == ['cell', 'fci', 'camera', 'trajectory']
    assert specs['fci'].parameters['realtime'] == 'ignore'
    address = specs['fci'].parameters['robot_ip']
    assert address == specs['cell'].parameters['fci_address']
    assert address.startswith('127.') and '77' in address.split('.')


def test_where_robot_state_publisher_is_installed_it_gets_the_robot(tmp_path, monkeypatch):
    index = tmp_path / 'share/ament_index/resource_index/packages'
    index.mkdir(parents=True)
    (index / 'robot_state_publisher').touch()
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{tmp_path}:{os.environ["AMENT_PREFIX_PATH"]}')
    spec = nodes(CELL)['robot_state_publisher']
    assert 'fr3_joint7' in spec.parameters['robot_description']
    assert spec.on_exit is OnExit.REPORT
    thick = tmp_path / 'cell.yaml'
    thick.write_text(load_cell_config().path.read_text().replace('0.012', '0.034'))
    real = ('arm:=libfranka', 'robot_ip:=10.0.0.2', 'hand:=can', 'camera:=none')
    spec = nodes(CELL, *real, f'cell_config:={thick}')['robot_state_publisher']
    expected = robot_description(load_cell_config(thick))
    assert spec.parameters['robot_description'] == expected != robot_description()
    assert 'robot_state_publisher' not in nodes(
        CELL, 'arm:=franka_ros2', 'hand:=none', 'camera:=none'
    )


def test_beside_franka_ros2_there_is_no_simulated_robot_and_motion_is_slow():
    specs = nodes(CELL, 'arm:=franka_ros2', 'hand:=none', 'camera:=device')
    assert list(specs) == ['camera', 'trajectory', 'confirm']
    assert specs['camera'].parameters['device.path'] == '/dev/video0'
    trajectory = specs['trajectory'].parameters
    assert trajectory['speed_scale'] == 0.2
    assert trajectory['confirm'] is True
    assert trajectory['recovery'] == 'franka_ros2'
    # A fault is held until a person resumes, unless the robot is simulated.
    assert 'hold_after_fault' not in trajectory
    assert specs['confirm'].asks


def test_a_real_hand_is_watched_wherever_its_driver_runs_unless_told_otherwise():
    real = ('arm:=franka_ros2', 'camera:=none')
    for hand in ('can', 'none'):
        trajectory = nodes(CELL, *real, f'hand:={hand}')['trajectory'].parameters
        assert trajectory['drivers'] == ['hand: can']
        assert trajectory['hand_recovery'] == '/hand/recover'
    specs = nodes(CELL, *real, 'hand:=unwatched')
    assert list(specs) == ['trajectory', 'confirm']
    assert not {'drivers', 'hand_recovery'} & set(specs['trajectory'].parameters)


def test_a_real_arm_without_franka_ros2_has_the_fci_node():
    specs = nodes(CELL, 'arm:=libfranka', 'robot_ip:=10.0.0.2', 'hand:=can', 'camera:=none')
    assert list(specs) == ['fci', 'hand', 'trajectory', 'confirm']
    assert specs['fci'].parameters == {'robot_ip': '10.0.0.2', 'realtime': 'enforce'}
    assert specs['hand'].parameters == {}
    trajectory = specs['trajectory'].parameters
    assert trajectory['drivers'] == ['fci: arm', 'hand: can']
    assert trajectory['speed_scale'] == 0.2 and trajectory['confirm'] is True
    assert trajectory['recovery'] == 'fci' and 'hold_after_fault' not in trajectory
    assert not any('use_sim_time' in spec.parameters for spec in specs.values())


@pytest.mark.parametrize('arm', ['sim', 'fci'])
def test_nobody_confirms_in_simulation_unless_asked_to(arm):
    specs = nodes(CELL, f'arm:={arm}')
    assert specs['trajectory'].parameters['confirm'] is False and 'confirm' not in specs
    specs = nodes(CELL, f'arm:={arm}', 'confirm:=true')
    assert specs['trajectory'].parameters['confirm'] is True and 'confirm' in specs
    watched = ['fci: arm'] if arm == 'fci' else []
    assert specs['trajectory'].parameters.get('drivers', []) == watched
    specs = nodes(CELL, 'arm:=franka_ros2', 'hand:=none', 'camera:=device', 'confirm:=false')
    assert specs['trajectory'].parameters['confirm'] is False and 'confirm' not in specs


def test_a_picture_s_path_does_not_depend_on_where_a_node_runs(tmp_path, monkeypatch):
    (tmp_path / 'picture.png').touch()
    monkeypatch.chdir(tmp_path)
    specs = nodes(CELL, 'camera:=file', 'camera_file:=picture.png')
    assert specs['camera'].parameters['file.path'] == str(tmp_path / 'picture.png')


def test_a_slow_camera_may_be_silent_for_longer():
    at_10_hz, at_1_hz = (nodes(CELL, f'rate:={rate}')['trajectory'] for rate in (10, 1))
    assert at_10_hz.parameters['heartbeat_timeout'] == 1.0
    assert at_1_hz.parameters['heartbeat_timeout'] == 3.0


def test_a_camera_with_a_driver_of_its_own_is_remapped():
    specs = nodes(PICK, 'camera:=none', 'camera_namespace:=/camera/camera/color/')
    assert 'camera' not in specs
    for name in ('trajectory', 'pick'):
        assert dict(specs[name].remappings) == {
            '/camera/color/image_raw': '/camera/camera/color/image_raw',
            '/camera/color/camera_info': '/camera/camera/color/camera_info',
        }


def test_the_hand_s_driver_and_the_cell_s_hand_meet_on_a_bus():
    for arm in ('sim', 'fci'):
        specs = nodes(CELL, 'hand:=can', f'arm:={arm}')
        assert specs['hand'].parameters['interface'] == 'unix'
        assert specs['cell'].parameters['hand'] == 'can'
        channel = specs['hand'].parameters['channel']
        assert channel == specs['cell'].parameters['hand_channel']
        assert len(channel) < 100  # What a socket's path may have.
        assert specs['hand'].parameters.get('use_sim_time', False) == (arm == 'fci')
    real = nodes(CELL, 'hand:=can', 'arm:=franka_ros2', 'camera:=none')
    assert 'cell' not in real and real['hand'].parameters == {}
    assert 'hand' not in nodes(CELL)


def test_a_pick_ends_with_the_node_that_picks():
    specs = nodes(PICK, 'record:=false', 'objects:=box,can')
    assert list(specs)[:-1] == list(nodes(CELL))
    assert specs['pick'].on_exit is OnExit.FINISH
    expected = {'target': 'box', 'output_dir': '/run', 'record': False}
    assert specs['pick'].parameters == expected
    assert nodes(PICK, 'objects:=box,can', 'object:=can')['pick'].parameters['target'] == 'can'


@pytest.mark.parametrize(
    ('assignments', 'reason'),
    [
        (['hand:=none'], 'simulated cell has its hand'),
        (['hand:=unwatched'], 'simulated cell has its hand'),
        (['arm:=franka_ros2'], 'hand:=sim needs the simulated cell'),
        (['arm:=libfranka'], 'hand:=sim needs the simulated cell'),
        (['arm:=libfranka', 'hand:=can', 'camera:=none'], 'robot_ip:=172.16.0.2'),
        (['robot_ip:=10.0.0.2'], 'robot_ip is for arm:=libfranka'),
        (['arm:=franka_ros2', 'hand:=none'], 'camera:=sim needs the simulated cell'),
        (['camera:=file'], 'camera_file:=PATH'),
        (['camera:=file', 'camera_file:=/no/such.png'], "no file '/no/such.png'"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(assignments, reason):
    with pytest.raises(GraphError, match=reason):
        nodes(CELL, *assignments)


def test_there_is_no_scripted_pick_on_a_real_robot():
    with pytest.raises(GraphError, match='scripted grasp'):
        nodes(PICK, 'arm:=franka_ros2', 'hand:=none', 'camera:=none')


def test_a_parameter_file_has_the_last_word(tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text(
        'camera:\n  ros__parameters: {rate: 5.0, qos: {depth: 3}}\n'
        '/**:\n  ros__parameters: {shared: a}\n'
        '/trajectory:\n  ros__parameters: {shared: b}\n'
    )
    specs = nodes(CELL, f'params_file:={file}', 'rate:=30')
    assert specs['camera'].parameters['rate'] == 5.0
    assert specs['camera'].parameters['qos.depth'] == 3
    assert specs['camera'].parameters['width'] == 392
    assert specs['cell'].parameters['shared'] == 'a'
    assert specs['trajectory'].parameters['shared'] == 'b'


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        (None, 'No such file'),
        ('a: [', 'not YAML'),
        ('', 'no entry for a node'),
        ('camra:\n  ros__parameters: {rate: 5.0}\n', 'the nodes of this graph are camera, cell'),
        ('camera:\n  rate: 5.0\n', 'no group named ros__parameters'),
    ],
)
def test_unusable_parameter_files_are_refused(tmp_path, text, reason):
    file = tmp_path / 'mine.yaml'
    if text is not None:
        file.write_text(text)
    with pytest.raises(ParameterFileError, match=reason) as refusal:
        read_parameter_file(file, ['camera', 'cell'])
    assert str(file) in str(refusal.value)


def test_what_is_written_is_read_again(tmp_path):
    parameters = {
        'yes': True,
        'n': 3,
        'x': 1e-5,
        'text': 'a: "b"\n 1',
        'names': ['1', 'b'],
        'g.x': 1.0,
    }
    file = write_parameter_file(tmp_path, 'camera', parameters)
    assert read_parameter_file(file, ['camera']) == {'camera': parameters}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / 'model'
    folder.mkdir()
    (folder / 'config.json').write_text('{}')
    return folder


def test_a_goal_picture_is_given_to_who_asks_and_to_nobody_else(model, tmp_path, monkeypatch):
    (tmp_path / 'goal.png').write_bytes(b'any')
    monkeypatch.chdir(tmp_path)
    specs = nodes(
        GRASP, 'goal:=goal.png', f'model:={model}', 'preset:=hybrid,samples=64', 'plan_seed:=7',
        'camera_namespace:=/other',
    )  # fmt: skip
    assert list(specs) == ['recorder', 'cell', 'camera', 'trajectory', 'planner', 'task']
    assert 'episode_file' not in specs['cell'].parameters
    assert specs['task'].parameters['goal'] == str(tmp_path / 'goal.png')
    assert specs['task'].parameters['task'] == 'grasp'
    assert specs['task'].parameters['seed'] == 7
    assert specs['task'].on_exit is OnExit.FINISH
    assert specs['planner'].parameters == {
        'model': str(model), 'preset': 'hybrid,samples=64', 'device': 'cpu',
        'cell_config': '', 'camera_calibration': '',
    }  # fmt: skip
    for name in ('planner', 'task'):
        assert ('/camera/color/image_raw', '/other/image_raw') in specs[name].remappings


def test_without_a_preset_the_planner_takes_that_of_the_task(model, tmp_path):
    goal = tmp_path / 'goal.png'
    goal.write_bytes(b'any')
    specs = nodes(PUSH, f'goal:={goal}', f'model:={model}')
    assert specs['planner'].parameters['preset'] == specs['task'].parameters['preset'] == ''
    assert specs['task'].parameters['task'] == 'push'


def test_without_a_goal_the_cell_makes_an_episode_that_only_cell_and_judge_get(model, tmp_path):
    context = RunContext(77, tmp_path / 'run')
    texts = parse_assignments([f'model:={model}', 'seed:=1', 'quality:=fast'])
    specs = {spec.name: spec for spec in REACH.nodes(REACH.values(texts), context)}
    episode = tmp_path / 'run' / 'episode' / 'episode.json'
    for name in ('cell', 'task'):
        assert specs[name].parameters['episode_file'] == str(episode)
    assert specs['task'].parameters['goal'] == str(episode.with_name('goal.png'))
    assert episode.exists() and episode.with_name('goal.png').exists()
    assert not {'goal', 'episode_file'} & set(specs['planner'].parameters)


def test_beside_a_real_robot_a_planner_waits_for_goals_until_it_is_stopped(model):
    specs = nodes(
        PLAN, 'arm:=libfranka', 'robot_ip:=10.0.0.2', 'hand:=can', 'camera:=none',
        'camera_namespace:=/other', f'model:={model}',
    )  # fmt: skip
    assert list(specs) == ['fci', 'hand', 'trajectory', 'confirm', 'planner', 'plan_markers']
    # Nothing that is done before somebody stops it: the hand would let go.
    assert OnExit.FINISH not in {spec.on_exit for spec in specs.values()}
    assert specs['planner'].on_exit is OnExit.FAIL
    assert specs['plan_markers'].on_exit is OnExit.REPORT
    for name in ('planner', 'trajectory'):
        assert ('/camera/color/image_raw', '/other/image_raw') in specs[name].remappings


def test_a_simulated_planner_has_the_scene_of_an_episode_and_a_picture_of_its_end(model, tmp_path):
    context = RunContext(77, tmp_path / 'run')
    texts = parse_assignments(
        [f'model:={model}', 'seed:=1', 'quality:=fast', 'task:=reach', 'record:=true']
    )
    specs = {spec.name: spec for spec in PLAN.nodes(PLAN.values(texts), context)}
    assert list(specs) == ['recorder', 'cell', 'camera', 'trajectory', 'planner', 'plan_markers']
    episode = tmp_path / 'run' / 'episode' / 'episode.json'
    assert specs['cell'].parameters['episode_file'] == str(episode)
    assert load_episode(episode).task == 'reach'
    assert episode.with_name('goal.png').exists()
    (task,) = (argument for argument in PLAN.arguments if argument.name == 'task')
    assert task.choices == TASKS


@pytest.mark.parametrize(
    ('assignments', 'message'),
    [
        (['goal:=nothing.png'], r'there is no file .*/nothing.png'),
        (['arm:=franka_ros2', 'hand:=none', 'camera:=none'], 'needs a goal'),
        (['objects:=can'], 'leave objects out'),
        (['goal:=HERE', 'model:=/nowhere'], 'no world model in /nowhere'),
        (['preset:=quick'], "there is no preset 'quick'; there are paper-sim"),
        (['preset:=hybrid,samples=few'], "samples must be of type int, got 'few'"),
    ],
)
def test_a_task_that_cannot_begin_is_refused_at_once(assignments, message, model, tmp_path):
    (tmp_path / 'goal.png').write_bytes(b'any')
    texts = [text.replace('HERE', str(tmp_path / 'goal.png')) for text in assignments]
    if not any(text.startswith('model') for text in texts):
        texts.append(f'model:={model}')
    with pytest.raises(GraphError, match=message):
        nodes(GRASP, *texts)


def test_all_nodes_get_the_same_cell_and_camera_pose(model, tmp_path):
    cell, camera = tmp_path / 'my_cell.yaml', tmp_path / 'camera.yaml'
    for path in (cell, camera):
        path.write_text('')
    arguments = ('arm:=franka_ros2', 'hand:=none', 'camera:=none', f'model:={model}')
    found = nodes(PLAN, *arguments, f'cell_config:={cell}', f'camera_calibration:={camera}')
    assert found['planner'].parameters['camera_calibration'] == str(camera)
    for name in ('planner', 'trajectory', 'plan_markers'):
        assert found[name].parameters['cell_config'] == str(cell)
    found = nodes(PLAN, *arguments)
    assert found['planner'].parameters['camera_calibration'] == ''
    for name in ('planner', 'trajectory', 'plan_markers'):
        assert found[name].parameters['cell_config'] == ''
    for name in ('cell_config', 'camera_calibration'):
        with pytest.raises(GraphError, match=f'{name}:=.*there is no file'):
            nodes(PLAN, *arguments, f'{name}:={tmp_path}/absent.yaml')
    with pytest.raises(GraphError, match='cell_config is for a real arm'):
        nodes(CELL, f'cell_config:={cell}')


def test_make_passes_every_argument_of_every_graph_on():
    names = sorted({argument.name for graph in GRAPHS.values() for argument in graph.arguments})
    assert len(names) > 20
    said = subprocess.run(
        ['make', '-n', 'grasp', *(f'{name.upper()}=of {name}' for name in names)],
        cwd=Path(__file__).resolve().parents[4],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [name for name in names if f"'{name}:=of {name}'" not in said] == []
