"""The graphs that can be started: which nodes, with which parameters and remappings.

Parts that something else starts are `none` or named after it. A real FR3 under franka_ros2 has a
launch file of its own, `ros2 launch dexwm_franka_bringup fr3_allegro.launch.py`, with arm,
controllers, robot_state_publisher and the hand's driver: with `arm:=franka_ros2` a graph starts
what is left of it beside that one, and with `hand:=none` no driver of the hand. Without
franka_ros2, `arm:=libfranka` starts the FCI node for the arm at `robot_ip`. A camera with a ROS
driver is started elsewhere, too: with `camera:=none`, `camera_namespace` says where the driver
publishes `image_raw` and `camera_info`, for a RealSense of realsense2_camera
`/camera/camera/color`.
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)

from dexwm.planning.preset import PRESETS, PresetError, default_preset, parse_preset
from dexwm_franka_bringup.cell_config import load_cell_config
from dexwm_franka_bringup.description import robot_description
from dexwm_planner.bag.recorded_topics import EXECUTE, PLANNER, PREFIX, TOPICS
from dexwm_planner.graph.graph import (
    AUTO,
    Argument,
    Graph,
    GraphError,
    NodeSpec,
    OnExit,
    RunContext,
)
from dexwm_planner.graph.parameter_files import ParameterValue, read_parameter_file
from dexwm_planner.graph.rviz_node import RVIZ, rviz_node

PACKAGE = 'dexwm_planner'
CAMERA_NAMESPACE = '/camera/color'
DEFAULT_MODEL = Path(__file__).resolve().parents[5] / 'models' / 'default'
"""The model that this project ships, in the source tree that the package was built from."""

_SPEED_IN_SIMULATION = 0.5
# Through the FCI, a busy machine makes the simulated robot's seconds long. So what costs time is
# kept cheap; motions are as slow as on the robot.
_SPEED_THROUGH_FCI = 0.2
_JOINT_STATE_RATE_THROUGH_FCI = 50.0
# A simulator shares its cores with everything else: its messages may be late (s).
_STATE_TIMEOUT_IN_SIMULATION = 0.5
_HEARTBEAT_TIMEOUT_IN_SIMULATION = 1.0
# How the drivers' diagnostic statuses are called that the trajectory node watches.
_ARM_STATUS = 'fci: arm'
_HAND_STATUS = 'hand: can'
_HAND_RECOVERY = '/hand/recover'
# The cell has to build its scene first (s).
_START_IN_SIMULATION = 60.0
# Pictures that may be missing before a motion stops.
_HEARTBEAT_PICTURES = 3.0

CELL_ARGUMENTS = (
    Argument(
        'arm',
        str,
        'sim',
        'Who moves the arm: sim (the simulated cell), fci (the simulated cell, through '
        "libfranka's protocol and the FCI node), libfranka (a real arm, through the FCI node), "
        'franka_ros2 (a real arm, started elsewhere).',
        choices=('sim', 'fci', 'libfranka', 'franka_ros2'),
    ),
    Argument('robot_ip', str, '', 'Address of the real arm, for arm:=libfranka.'),
    Argument(
        'hand',
        str,
        'sim',
        'Who moves the hand: sim (the simulated cell), can (its driver, through CAN frames: the '
        "simulated cell's hand, or with a real arm a real one), none (its driver, started "
        'elsewhere and watched as with can), unwatched (a driver other than ours, started '
        'elsewhere: nobody notices when it lets go).',
        choices=('sim', 'can', 'none', 'unwatched'),
    ),
    Argument('seed', int, 0, 'Seed that the simulated scene is drawn from.', minimum=0),
    Argument(
        'objects',
        str,
        AUTO,
        'Kinds of the objects of the simulated scene, separated by commas, the target first; '
        'auto: drawn from the seed.',
    ),
    Argument(
        'quality',
        str,
        AUTO,
        'Quality of the simulated pictures; auto: fast with arm:=fci, otherwise standard.',
        choices=(AUTO, 'fast', 'standard', 'fine'),
    ),
    Argument(
        'camera',
        str,
        'sim',
        'Where pictures come from: sim (the simulated cell), device (V4L2), file (picture or '
        'video), none (a driver of its own, started elsewhere).',
        choices=('sim', 'device', 'file', 'none'),
    ),
    Argument('camera_device', str, '/dev/video0', 'Device of camera:=device, path or index.'),
    Argument('camera_file', str, '', 'Picture or video of camera:=file.'),
    Argument(
        'camera_namespace',
        str,
        CAMERA_NAMESPACE,
        'Where image_raw and camera_info are.',
    ),
    Argument(
        'cell_config',
        str,
        '',
        'YAML file of a real cell: its camera, mount of the hand, boxes to keep out of; empty: '
        "dexwm_franka_bringup's config/cell.yaml, which the simulated cell is.",
    ),
    Argument(
        'camera_calibration',
        str,
        '',
        "Camera pose as the tool calibrate wrote it; empty: cell_config's.",
    ),
    Argument('rate', float, 10.0, 'Rate of the pictures (Hz).', minimum=0.1, maximum=120.0),
    Argument('width', int, 392, 'Width of the pictures (pixels).', minimum=1, maximum=8192),
    Argument('height', int, 224, 'Height of the pictures (pixels).', minimum=1, maximum=8192),
    Argument(
        'speed_scale',
        float,
        AUTO,
        f'Part of the velocity limits that motions use; auto: {_SPEED_IN_SIMULATION} with '
        f'arm:=sim, {_SPEED_THROUGH_FCI} with arm:=fci, otherwise as in config/trajectory.yaml.',
        minimum=0.01,
        maximum=1.0,
    ),
    Argument(
        'confirm',
        bool,
        AUTO,
        'Whether a person confirms each execution (in the terminal, in RViz, or by the service '
        '/trajectory/confirm); auto: true where something real moves, otherwise false.',
    ),
)

RECORD = Argument(
    'record',
    bool,
    True,
    'Whether to record the run (MCAP, for ros2 bag, dexwm replay and dexwm report) and its '
    'pictures as a video.',
)

PICK_ARGUMENTS = (
    *(
        replace(
            argument,
            default='can',
            description='Kinds of the objects of the scene, separated by commas.',
        )
        if argument.name == 'objects'
        else argument
        for argument in CELL_ARGUMENTS
    ),
    Argument('object', str, AUTO, 'The object to lift; auto: the first of objects.'),
    RECORD,
)

PLANNER_ARGUMENTS = (
    Argument(
        'model', str, AUTO, "Folder of the world model; auto: this project's models/default."
    ),
    Argument(
        'preset',
        str,
        AUTO,
        f'How plans are made: {", ".join(PRESETS)}; auto: {default_preset("push")} for a push, '
        f'otherwise {default_preset("grasp")}. Settings may follow after commas: '
        'hybrid,samples=64.',
    ),
    Argument('device', str, 'cpu', 'Where the model computes, such as cpu or cuda.'),
)

PLAN_ARGUMENTS = (
    *CELL_ARGUMENTS,
    Argument(
        'task',
        str,
        'grasp',
        'Of which the simulated cell makes an episode from the seed: its scene and start, and, '
        "as episode/goal.png in the run's directory, a picture of its end.",
        choices=('reach', 'grasp', 'place', 'push'),
    ),
    *PLANNER_ARGUMENTS,
    replace(
        RECORD,
        default=False,
        description='Whether to record the run (MCAP, for ros2 bag, dexwm replay and dexwm '
        'report): what is recorded grows until the run is stopped.',
    ),
    RVIZ,
)

TASK_ARGUMENTS = (
    *CELL_ARGUMENTS,
    Argument(
        'goal',
        str,
        AUTO,
        'The goal: a picture, or keypoints of the hand in a YAML file; auto: the simulated cell '
        'makes an episode of the task from the seed, with a picture of its end, and judges.',
    ),
    *PLANNER_ARGUMENTS,
    Argument('plan_seed', int, 0, 'Seed of the planner.', minimum=0),
    Argument('execute', bool, True, 'Whether plans are executed; false: one plan is made.'),
    RECORD,
    RVIZ,
)

REPLAY_ARGUMENTS = (
    Argument('bag', str, '', 'The recording: a rosbag2 folder, an .mcap or a .db3 file.'),
    Argument('model', str, AUTO, 'Folder of the world model; auto: the recorded one.'),
    Argument('device', str, 'cpu', 'Where the model computes, such as cpu or cuda.'),
    Argument('rate', float, 1.0, 'Played over recorded time.', minimum=0.01, maximum=100.0),
)


def cell_nodes(values: Mapping[str, Any], context: RunContext) -> tuple[NodeSpec, ...]:
    """Robot, camera and trajectory node.

    Raises:
        GraphError: The parts asked for do not go together, or one is not there yet.
    """
    _check_parts(values)
    specs = []
    if _is_simulated(values):
        specs += _simulated_robot(values, context)
    if values['arm'] == 'libfranka':
        specs.append(NodeSpec('dexwm_franka_bringup', 'fci', 'fci', _real_fci(values)))
    if values['arm'] != 'franka_ros2':
        specs += _state_publisher(values)
    if values['hand'] == 'can':
        specs.append(_hand(values, context))
    if values['camera'] != 'none':
        specs.append(_camera(values))
    specs.append(_trajectory(values))
    if _is_confirmed(values):
        specs.append(NodeSpec(PACKAGE, 'confirm', 'confirm', on_exit=OnExit.REPORT, asks=True))
    return tuple(_with_clock(spec, values) for spec in specs)


def pick_nodes(values: Mapping[str, Any], context: RunContext) -> tuple[NodeSpec, ...]:
    """The cell and the scripted grasp, whose end is the end of the run.

    Raises:
        GraphError: As `cell_nodes`, and if nothing is simulated.
    """
    if not _is_simulated(values):
        raise GraphError(
            'The scripted grasp knows where the object is from the simulated cell: '
            'use arm:=sim or arm:=fci.'
        )
    specs = cell_nodes(values, context)
    parameters: dict[str, ParameterValue] = {
        'target': values['object'] or values['objects'].split(',')[0],
        'output_dir': str(context.directory),
        'record': values['record'],
    }
    remappings = _camera_remappings(values)
    pick = NodeSpec('dexwm_sim', 'pick', 'pick', parameters, remappings, OnExit.FINISH)
    return (*_recorder(values, context), *specs, _with_clock(pick, values))


def _task_nodes(task: str, values: Mapping[str, Any], context: RunContext) -> tuple[NodeSpec, ...]:
    """The cell, the planner, and who asks it for the goal; his end is the end of the run.

    Raises:
        GraphError: As `_planning_nodes`, and if there is no goal.
    """
    _check_preset(values)
    episode_file = ''
    if values['goal'] is not None:
        goal = Path(values['goal']).expanduser().absolute()
        if not goal.is_file():
            raise GraphError(f'goal:={values["goal"]}: there is no file {goal}.')
    elif not _is_simulated(values):
        raise GraphError(f'arm:={values["arm"]} needs a goal: goal:=PATH.')
    else:
        episode_file = str(_make_episode(task, values, context.directory / 'episode'))
        goal = Path(episode_file).with_name('goal.png')
    request: dict[str, ParameterValue] = {
        'task': task,
        'goal': str(goal),
        'episode_file': episode_file,
        'preset': values['preset'] or '',
        'seed': values['plan_seed'],
        'execute': values['execute'],
        'output_dir': str(context.directory),
        'record': values['record'],
    }
    remappings = _camera_remappings(values)
    asker = NodeSpec('dexwm_sim', 'task', 'task', request, remappings, OnExit.FINISH)
    return (*_planning_nodes(values, context, episode_file), _with_clock(asker, values))


def _plan_nodes(values: Mapping[str, Any], context: RunContext) -> tuple[NodeSpec, ...]:
    """The cell and the planner, which others give goals to; they run until they are stopped.

    Raises:
        GraphError: As `_planning_nodes`.
    """
    _check_preset(values)
    episode_file = ''
    if _is_simulated(values):
        episode_file = str(_make_episode(values['task'], values, context.directory / 'episode'))
    specs = _planning_nodes(values, context, episode_file)
    # RViz may run on another machine.
    return specs if values['rviz'] else (*specs, _plan_markers(values))


def _planning_nodes(
    values: Mapping[str, Any], context: RunContext, episode_file: str
) -> tuple[NodeSpec, ...]:
    """The cell, in the scene of an episode if there is one, and the planner.

    Raises:
        GraphError: As `cell_nodes`, and if there is no model or no RViz.
    """
    specs = [
        replace(spec, parameters={**spec.parameters, 'episode_file': episode_file})
        if episode_file and spec.name == 'cell'
        else spec
        for spec in cell_nodes(values, context)
    ]
    planner: dict[str, ParameterValue] = {
        'model': str(_model_folder(values['model'])),
        'preset': values['preset'] or '',
        'device': values['device'],
        **_cell_files(values),
    }
    remappings = _camera_remappings(values)
    if values['rviz']:
        specs += [_with_clock(rviz_node(remappings), values), _plan_markers(values)]
    specs.append(_with_clock(NodeSpec(PACKAGE, 'planner', 'planner', planner, remappings), values))
    # First, so that it is stopped last.
    return (*_recorder(values, context), *specs)


def _task_graph(task: str, description: str) -> Graph:
    return Graph(task, description, TASK_ARGUMENTS, partial(_task_nodes, task))


def _replay_nodes(values: Mapping[str, Any], context: RunContext) -> tuple[NodeSpec, ...]:
    """A planner, and who plays a recording to it; his end is the end of the run.

    Raises:
        GraphError: If the recording cannot be played, or there is no model.
    """
    # Only a replay reads recordings.
    from dexwm.bag.bag_reader import BagError
    from dexwm.bag.recorded_run import camera_topic, read_run

    bag = Path(values['bag']).expanduser().absolute()
    try:
        run = read_run(bag, course=False)
        image = camera_topic(bag)
    except BagError as error:
        raise GraphError(f'bag:={values["bag"]}: {error}.') from error
    if run.setup is None:
        raise GraphError(f"bag:={values['bag']}: it lacks the planner's setup.")
    given = values['model']
    if given is None and Path(run.setup.model).is_dir():
        given = run.setup.model
    parameters: dict[str, ParameterValue] = {
        'model': str(_model_folder(given)),
        'preset': run.plans[0].preset.name,
        'device': values['device'],
        'threads': run.setup.compute.threads,
        'use_sim_time': True,
    }
    for name in ('cell_config', 'camera_calibration'):
        parameters[name] = run.setup.parameters.get(name, '')
    namespace = image.rpartition('/')[0]
    inputs = {
        f'{CAMERA_NAMESPACE}/{topic}': f'{namespace}/{topic}'
        for topic in ('image_raw', 'camera_info')
    }
    inputs |= {topic: topic for topic in ('/joint_states', '/clock')}
    # What it hears is the recording's, what it says is under its own name, and a motion that
    # somebody asks of it finds no trajectory node, not even a real one.
    remappings = [(inner, f'{PREFIX}{outer}') for inner, outer in inputs.items()]
    remappings += [('/diagnostics', f'{PREFIX}/diagnostics')]
    remappings += [
        (f'{EXECUTE}/_action/{part}', f'{PREFIX}{EXECUTE}/_action/{part}')
        for part in ('send_goal', 'cancel_goal', 'get_result', 'feedback', 'status')
    ]
    player: dict[str, ParameterValue] = {'bag': str(bag), 'rate': values['rate']}
    return (
        NodeSpec(PACKAGE, 'planner', PLANNER, parameters, tuple(remappings)),
        NodeSpec(PACKAGE, 'player', 'player', player, on_exit=OnExit.FINISH),
    )


CELL = Graph('cell', 'robot cell, camera and trajectory node', CELL_ARGUMENTS, cell_nodes)
PICK = Graph(
    'pick',
    'the cell, and a scripted grasp in it: exits 0 if the object was lifted',
    PICK_ARGUMENTS,
    pick_nodes,
)
PLAN = Graph(
    'plan',
    'the cell and the planner: goals come from the panel or the action; runs until stopped',
    PLAN_ARGUMENTS,
    _plan_nodes,
)
REACH = _task_graph('reach', 'plans from a goal picture: the hand goes where the picture has it')
GRASP = _task_graph('grasp', 'plans from a goal picture: the hand grasps what it holds there')
PLACE = _task_graph('place', 'plans from a goal picture: the held object goes where it is there')
PUSH = _task_graph('push', 'plans from a goal picture: objects go where it shows them')
REPLAY = Graph(
    'replay',
    'plays a recording to a planner whose plans reach no robot, and compares its plans',
    REPLAY_ARGUMENTS,
    _replay_nodes,
)
GRAPHS = {graph.name: graph for graph in (CELL, PICK, PLAN, REACH, GRASP, PLACE, PUSH, REPLAY)}


def _make_episode(task: str, values: Mapping[str, Any], folder: Path) -> Path:
    """Makes scene, start and goal picture of a task; the path of its file."""
    # Only a run with a simulated cell needs the simulator.
    from dexwm_sim.episode_file import save_episode
    from dexwm_sim.episode_maker import EpisodeError, EpisodeMaker

    if values['objects'] is not None:
        raise GraphError('The objects of an episode are drawn from the seed: leave objects out.')
    try:
        maker = EpisodeMaker(quality=_quality(values))
        return save_episode(folder, maker.make(task, values['seed']))
    except EpisodeError as error:
        raise GraphError(f'seed:={values["seed"]}: {error}; try another seed.') from error


def _check_preset(values: Mapping[str, Any]) -> None:
    try:
        if values['preset'] is not None:
            parse_preset(values['preset'])
    except PresetError as error:
        raise GraphError(f'preset:={values["preset"]}: {error}.') from error


def _model_folder(given: str | None) -> Path:
    folder = DEFAULT_MODEL if given is None else Path(given).expanduser().absolute()
    if not (folder / 'config.json').is_file():
        raise GraphError(f'There is no world model in {folder}: give another with model:=PATH.')
    return folder


def _quality(values: Mapping[str, Any]) -> str:
    return str(values['quality'] or ('fast' if values['arm'] == 'fci' else 'standard'))


def _is_simulated(values: Mapping[str, Any]) -> bool:
    return values['arm'] in ('sim', 'fci')


def _is_confirmed(values: Mapping[str, Any]) -> bool:
    if values['confirm'] is not None:
        return bool(values['confirm'])
    return not _is_simulated(values)


def _with_clock(spec: NodeSpec, values: Mapping[str, Any]) -> NodeSpec:
    """The node with ROS time from where the graph has it."""
    if values['arm'] != 'fci':
        return spec
    return replace(spec, parameters={**spec.parameters, 'use_sim_time': True})


def _simulated_robot(values: Mapping[str, Any], context: RunContext) -> list[NodeSpec]:
    parameters: dict[str, ParameterValue] = {
        'arm': values['arm'],
        'hand': values['hand'],
        'scene_seed': values['seed'],
        'quality': _quality(values),
    }
    if values['objects'] is not None:
        parameters['objects'] = values['objects'].split(',')
    if values['hand'] == 'can':
        parameters['hand_channel'] = _hand_channel(context)
    specs = [NodeSpec('dexwm_sim', 'cell', 'cell', parameters)]
    if values['arm'] == 'fci':
        # libfranka's port is fixed: two runs on one machine need two addresses.
        address = f'127.0.1.{context.domain_id}'
        rate = _JOINT_STATE_RATE_THROUGH_FCI
        parameters |= {'fci_address': address, 'joint_state_rate': rate}
        # No real robot, no need for a real-time kernel.
        fci: dict[str, ParameterValue] = {
            'robot_ip': address,
            'realtime': 'ignore',
            'joint_state_rate': rate,
            'connect_timeout': _START_IN_SIMULATION,
        }
        specs.append(NodeSpec('dexwm_franka_bringup', 'fci', 'fci', fci))
    return specs


def _real_fci(values: Mapping[str, Any]) -> dict[str, ParameterValue]:
    if not values['robot_ip']:
        raise GraphError('arm:=libfranka needs the address of the arm: robot_ip:=172.16.0.2.')
    return {'robot_ip': values['robot_ip'], 'realtime': 'enforce'}


def _state_publisher(values: Mapping[str, Any]) -> list[NodeSpec]:
    name = 'robot_state_publisher'
    if not _is_installed(name):
        return []
    files = _cell_files(values)
    cell = load_cell_config(files['cell_config'], files['camera_calibration'])
    description: dict[str, ParameterValue] = {'robot_description': robot_description(cell)}
    return [NodeSpec(name, name, name, description, on_exit=OnExit.REPORT)]


def _plan_markers(values: Mapping[str, Any]) -> NodeSpec:
    """The plan as markers for RViz."""
    name = 'plan_markers'
    cell: dict[str, ParameterValue] = {'cell_config': _cell_files(values)['cell_config']}
    return _with_clock(NodeSpec(PACKAGE, name, name, cell, on_exit=OnExit.REPORT), values)


def _cell_files(values: Mapping[str, Any]) -> dict[str, str]:
    """Paths of the cell's file and of its camera's calibration, each empty if none was given."""
    paths = {}
    for name in ('cell_config', 'camera_calibration'):
        given: str = values[name]
        path = Path(given).expanduser().absolute()
        if given and not path.is_file():
            raise GraphError(f'{name}:={given}: there is no file {path}.')
        paths[name] = str(path) if given else ''
    return paths


def _hand(values: Mapping[str, Any], context: RunContext) -> NodeSpec:
    """The driver of the hand; a real one is on can0 unless a parameter file says otherwise."""
    parameters: dict[str, ParameterValue] = {}
    if _is_simulated(values):
        parameters = {
            'interface': 'unix',
            'channel': _hand_channel(context),
            'connect_timeout': _START_IN_SIMULATION,
            'command_timeout': _HEARTBEAT_TIMEOUT_IN_SIMULATION,
            'pose_timeout': _HEARTBEAT_TIMEOUT_IN_SIMULATION,
        }
    return NodeSpec('allegro_driver', 'hand', 'hand', parameters)


def _hand_channel(context: RunContext) -> str:
    """Socket between the simulated hand and its driver; the run's directory may be too deep."""
    name = f'dexwm-hand-{os.getuid()}-{context.domain_id}'
    return str(Path(tempfile.gettempdir()) / name)


def _camera(values: Mapping[str, Any]) -> NodeSpec:
    parameters: dict[str, ParameterValue] = {
        'source': values['camera'],
        'rate': values['rate'],
        'width': values['width'],
        'height': values['height'],
    }
    if values['camera'] == 'device':
        parameters['device.path'] = values['camera_device']
    if values['camera'] == 'file':
        parameters['file.path'] = str(Path(values['camera_file']).expanduser().absolute())
    return NodeSpec(PACKAGE, 'camera', 'camera', parameters, _camera_remappings(values))


def _trajectory(values: Mapping[str, Any]) -> NodeSpec:
    name = 'trajectory'
    file = Path(get_package_share_directory(PACKAGE)) / 'config' / f'{name}.yaml'
    parameters = read_parameter_file(file, [name])[name]
    if values['speed_scale'] is not None:
        parameters['speed_scale'] = values['speed_scale']
    elif _is_simulated(values):
        parameters['speed_scale'] = (
            _SPEED_THROUGH_FCI if values['arm'] == 'fci' else _SPEED_IN_SIMULATION
        )
    parameters['confirm'] = _is_confirmed(values)
    parameters['cell_config'] = _cell_files(values)['cell_config']
    drivers = []
    if values['arm'] in ('fci', 'libfranka'):
        drivers.append(_ARM_STATUS)
        parameters['recovery'] = 'fci'
    if values['hand'] in ('can', 'none'):
        drivers.append(_HAND_STATUS)
        parameters['hand_recovery'] = _HAND_RECOVERY
    if drivers:
        parameters['drivers'] = drivers
    if values['arm'] == 'franka_ros2':
        parameters['recovery'] = 'franka_ros2'
    if _is_simulated(values):
        # Nobody stands beside it: a message that came late ends one motion, not the run.
        parameters['hold_after_fault'] = False
        parameters['joint_state_timeout'] = _STATE_TIMEOUT_IN_SIMULATION
        parameters['heartbeat_timeout'] = _HEARTBEAT_TIMEOUT_IN_SIMULATION
    if values['camera'] != 'none':
        timeout = _HEARTBEAT_PICTURES / values['rate']
        parameters['heartbeat_timeout'] = max(parameters['heartbeat_timeout'], timeout)
    return NodeSpec(PACKAGE, name, name, parameters, _camera_remappings(values))


def _recorder(values: Mapping[str, Any], context: RunContext) -> list[NodeSpec]:
    if not values['record']:
        return []
    renamed = dict(_camera_remappings(values))
    parameters: dict[str, ParameterValue] = {
        'output_dir': str(context.directory),
        'topics': [renamed.get(topic, topic) for topic in TOPICS],
    }
    # A run without its recording is still a run.
    return [NodeSpec(PACKAGE, 'recorder', 'recorder', parameters, on_exit=OnExit.REPORT)]


def _camera_remappings(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    namespace = values['camera_namespace'].rstrip('/')
    if namespace == CAMERA_NAMESPACE:
        return ()
    topics = ('image_raw', 'camera_info')
    return tuple((f'{CAMERA_NAMESPACE}/{topic}', f'{namespace}/{topic}') for topic in topics)


def _check_parts(values: Mapping[str, Any]) -> None:
    if not _is_simulated(values):
        for part in ('hand', 'camera'):
            if values[part] == 'sim':
                raise GraphError(
                    f'{part}:=sim needs the simulated cell, which arm:={values["arm"]} does not '
                    f'start: choose another {part} (none if it is started elsewhere).'
                )
    elif values['hand'] in ('none', 'unwatched'):
        raise GraphError(
            f'hand:={values["hand"]} is for a real arm: the simulated cell has its hand.'
        )
    if values['cell_config'] and _is_simulated(values):
        raise GraphError(
            'cell_config is for a real arm: the simulated cell is that of config/cell.yaml.'
        )
    if values['robot_ip'] and values['arm'] != 'libfranka':
        raise GraphError('robot_ip is for arm:=libfranka.')
    if values['camera'] == 'file' and not Path(values['camera_file']).expanduser().is_file():
        raise GraphError(
            f"camera:=file needs camera_file:=PATH; there is no file '{values['camera_file']}'."
        )


def _is_installed(package: str) -> bool:
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return False
    return True
