"""The launch files: the same nodes with the same parameters as the runner's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dexwm_planner.graph.graph import RunContext
from dexwm_planner.graph.graphs import GRAPHS
from dexwm_planner.graph.parameter_files import read_parameter_file

pytestmark = pytest.mark.realtime

LAUNCH_FOLDER = Path(__file__).parent.parent / 'launch'

# What `ros2 launch FILE name:=value ...` does (ros2launch.api).
ROS2_LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

arguments = [tuple(text.split(':=', 1)) for text in sys.argv[2:]]
source = PythonLaunchDescriptionSource(sys.argv[1])
service = LaunchService(argv=sys.argv[2:], noninteractive=True)
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""


def test_every_graph_has_a_launch_file_that_compiles():
    files = {path.name.removesuffix('.launch.py'): path for path in LAUNCH_FOLDER.iterdir()}
    files.pop('__pycache__', None)
    assert set(files) == set(GRAPHS)
    for path in files.values():
        compile(path.read_text(), path, 'exec')


@pytest.fixture
def launch():
    pytest.importorskip('launch_ros', reason='the ROS packages launch and launch_ros are missing')
    return pytest.importorskip('launch')


def description_of(name):
    from launch.launch_description_sources import (
        get_launch_description_from_python_launch_file,
    )

    path = str(LAUNCH_FOLDER / f'{name}.launch.py')
    return get_launch_description_from_python_launch_file(path)


@pytest.mark.parametrize('graph', GRAPHS.values(), ids=list(GRAPHS))
def test_a_launch_file_declares_the_graph_s_arguments(launch, graph):
    declared = description_of(graph.name).get_launch_arguments()
    assert [argument.name for argument in declared] == [a.name for a in graph.arguments]
    context = launch.LaunchContext()
    for argument, ours in zip(declared, graph.arguments, strict=True):
        assert argument.description.startswith(ours.description)
        assert tuple(argument.choices or ()) == ours.choices
        argument.execute(context)
        assert context.launch_configurations[ours.name] == ours.default_text


# A program in the place of every node: says how it was started, ends as the environment says.
PROGRAM = """
import json, os, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
rules = [value for flag, value in zip(sys.argv, sys.argv[1:]) if flag == '-r']
name = next(rule for rule in rules if rule.startswith('__node:=')).removeprefix('__node:=')
start = {
    'remappings': [rule.split(':=') for rule in rules if not rule.startswith('__')],
    'parameter_file': sys.argv[sys.argv.index('--params-file') + 1],
    'log_level': sys.argv[sys.argv.index('--log-level') + 1],
    'discovery_range': os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'],
}
with open(os.path.join(os.environ['STARTS'], name), 'w') as file:
    json.dump(start, file)
ender, _, code = os.environ['ENDS'].partition(':')
if name == ender:
    time.sleep(1.0)
    sys.exit(int(code))
signal.sigwait([signal.SIGINT])
"""


@pytest.mark.parametrize(
    ('ends', 'status'), [('pick:0', 0), ('pick:1', 1), ('camera:0', 1), ('camera:1', 1)]
)
def test_a_launch_starts_the_graph_and_ends_as_it_says(launch, tmp_path, ends, status):
    texts = {
        'arm': 'fci',
        'objects': 'can,1',
        'camera_namespace': '/other',
        'log_level': 'warn',
        'runs_dir': str(tmp_path / 'runs'),
    }
    graph = GRAPHS['pick']
    prefix, starts = tmp_path / 'prefix', tmp_path / 'starts'
    starts.mkdir()
    for spec in graph.nodes(graph.values(texts), RunContext(0, tmp_path)):
        install(prefix, spec.package, spec.executable)
    share = prefix / 'share/dexwm_planner'
    share.mkdir(parents=True)
    (share / 'config').symlink_to(LAUNCH_FOLDER.parent / 'config')
    environment = os.environ | {
        'AMENT_PREFIX_PATH': f'{prefix}:{os.environ["AMENT_PREFIX_PATH"]}',
        'STARTS': str(starts),
        'ENDS': ends,
        'ROS_DOMAIN_ID': '77',
        'ROS_LOG_DIR': str(tmp_path / 'log'),
    }
    environment.pop('ROS_AUTOMATIC_DISCOVERY_RANGE', None)
    program = [sys.executable, '-c', ROS2_LAUNCH, str(LAUNCH_FOLDER / 'pick.launch.py')]
    result = subprocess.run(
        program + [f'{name}:={text}' for name, text in texts.items()],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    output = result.stdout + result.stderr
    assert result.returncode == status, output
    assert ends.replace(':', ' ended with exit code ') in output or status == 0

    (directory,) = (tmp_path / 'runs').iterdir()
    specs = graph.nodes(graph.values(texts), RunContext(77, directory))
    assert {path.name for path in starts.iterdir()} == {spec.name for spec in specs}
    for spec in specs:
        start = json.loads((starts / spec.name).read_text())
        assert start['remappings'] == [list(pair) for pair in spec.remappings]
        assert start['log_level'] == f'{spec.name}:=warn'
        assert start['discovery_range'] == 'LOCALHOST'
        file = Path(start['parameter_file'])
        assert read_parameter_file(file, [spec.name])[spec.name] == spec.parameters
    assert json.loads((directory / 'run.json').read_text())['arguments']['objects'] == 'can,1'


def install(prefix: Path, package: str, executable: str) -> None:
    index = prefix / 'share/ament_index/resource_index/packages'
    index.mkdir(parents=True, exist_ok=True)
    (index / package).touch()
    program = prefix / 'lib' / package / executable
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!{sys.executable}\n{PROGRAM}')
    program.chmod(0o755)
