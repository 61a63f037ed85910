"""What can be checked of images and compose file without a Docker engine."""

import importlib.metadata
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState

from dexwm_planner.graph.domain import DomainLease
from dexwm_planner.graph.graphs import GRASP
from dexwm_planner.planner.goal_library import DEFAULT_FOLDER
from dexwm_planner.trajectory import franka_ros2_arm

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / 'docker'
DOCKERFILES = sorted(DOCKER.glob('*.Dockerfile'))
LAUNCH_FILE = ROOT / 'ros2_ws/src/franka_bringup/launch/fr3_allegro.launch.py'


@pytest.fixture(scope='module')
def compose():
    return yaml.safe_load((DOCKER / 'compose.yaml').read_text())


def instructions(path):
    """(instruction, arguments) of a Dockerfile, lines joined."""
    text = re.sub(r'\\\n', ' ', re.sub(r'^\s*#.*\n', '', path.read_text(), flags=re.MULTILINE))
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def stage_starts(path):
    return [i for i, (name, _) in enumerate(instructions(path)) if name == 'FROM']


def final_stage(path):
    return instructions(path)[stage_starts(path)[-1] :]


def launch_arguments(command):
    return dict(word.split(':=', 1) for word in command if ':=' in word)


@pytest.mark.parametrize('path', DOCKERFILES, ids=lambda path: path.stem)
def test_images_are_staged_unprivileged_and_healthy(path):
    stages = [arguments for name, arguments in instructions(path) if name == 'FROM']
    assert len(stages) >= 3
    assert stages[0].startswith('ros:jazzy-ros-base-noble ')
    final = final_stage(path)
    names = [name for name, _ in final]
    assert dict(final)['USER'] == '${UID}' and ('ARG', 'UID=1001') in final
    assert names.index('USER') > max(i for i, name in enumerate(names) if name in ('RUN', 'COPY'))
    assert {'HEALTHCHECK', 'ENTRYPOINT', 'CMD'} <= set(names)
    # Compilers stay in the stages that build.
    runs = [
        arguments
        for stage in (final, instructions(path)[: stage_starts(path)[1]])
        for name, arguments in stage
        if name == 'RUN'
    ]
    assert runs and not any(re.search(r'\b(g\+\+|cmake|python3-dev)(\s|$)', run) for run in runs)


@pytest.mark.parametrize('path', DOCKERFILES, ids=lambda path: path.stem)
def test_what_images_copy_is_there_and_not_ignored(path):
    allowed = [
        line[1:] for line in (ROOT / '.dockerignore').read_text().splitlines() if line[:1] == '!'
    ]
    for name, arguments in instructions(path):
        if name == 'COPY' and '--from=' not in arguments:
            for source in arguments.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == a or source.startswith(f'{a}/') for a in allowed), source


def test_the_robot_image_has_all_that_its_packages_need_and_no_torch():
    """Names in robot-packages.txt are locked, and closed under what they depend on."""
    names = {
        canonicalize_name(line)
        for line in (DOCKER / 'robot-packages.txt').read_text().split('\n')
        if line and not line.startswith('#')
    }
    locked = {
        canonicalize_name(line.partition('==')[0])
        for line in (ROOT / 'requirements.lock').read_text().splitlines()
    }
    assert names <= locked
    for name in names:
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({'extra': ''}):
                assert canonicalize_name(needed.name) in names, f'{name} needs {needed.name}'
    assert 'torch' not in names
    # The same choice of lines as the Dockerfile makes.
    script = (
        "grep -iE \"^($(grep -v '^#' docker/robot-packages.txt | sed 's/[-_]/[-_]/g' | "
        "paste -sd '|'))==\" requirements.lock"
    )
    chosen = subprocess.check_output(['bash', '-c', script], cwd=ROOT, text=True).split()
    assert {canonicalize_name(line.partition('==')[0]) for line in chosen} == names


def test_the_robot_s_nodes_do_not_need_what_its_image_lacks():
    modules = [
        'allegro_driver.node',
        'dexwm_franka_bringup.configure_arm',
        'dexwm_franka_bringup.control_description',
        'dexwm_franka_bringup.fci_loop',
        'dexwm_franka_bringup.fci_node',
    ]
    code = (
        'import sys, importlib\n'
        'for name in ("torch", "mujoco", "transformers", "h5py"): sys.modules[name] = None\n'
        f'for name in {modules!r}: importlib.import_module(name)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_compose_services_have_the_flags_that_they_need(compose):
    robot, camera, planner = (compose['services'][n] for n in ('robot', 'camera', 'planner'))
    assert set(compose['services']) == {'robot', 'camera', 'planner'}
    for service in (robot, camera, planner):
        # Real-time UDP, DDS and CAN interfaces are the host's.
        assert (service['network_mode'], service['ipc']) == ('host', 'host')
        assert 'privileged' not in service
        assert service['cap_drop'] == ['ALL']
        assert (ROOT / 'docker' / service['build']['context']).resolve() == ROOT
        assert (ROOT / service['build']['dockerfile']).is_file()
    assert set(robot['cap_add']) == {'SYS_NICE', 'IPC_LOCK'}
    assert robot['ulimits'] == {'rtprio': 99, 'rttime': -1, 'memlock': -1}
    assert robot['restart'] == planner['restart'] == 'no'
    assert '/dev:/dev' in camera['volumes']
    targets = {
        volume.rsplit(':', 2 if volume.endswith(':ro') else 1)[1] for volume in planner['volumes']
    }
    library = str(DEFAULT_FOLDER).replace('~', '/home/dexwm')
    assert {'/opt/dexwm/models', '/runs', library, '/goals', '/calibration'} <= targets
    # A new volume belongs to whom its folder in the image belongs to.
    (run,) = (text for name, text in final_stage(DOCKER / 'planner.Dockerfile') if name == 'RUN')
    made = run.partition('install --directory --owner dexwm ')[2].split()
    assert {f'{name}:{folder}' for name in compose['volumes'] for folder in made} >= {
        volume for volume in planner['volumes'] if volume.split(':')[0] in compose['volumes']
    }
    (gpu,) = planner['deploy']['resources']['reservations']['devices']
    assert (gpu['driver'], gpu['capabilities']) == ('nvidia', ['gpu'])


def test_compose_variables_are_explained(compose):
    """Each ${NAME} stands in example.env, and nothing else does."""
    used = set(re.findall(r'\$\{(\w+)', (DOCKER / 'compose.yaml').read_text()))
    used |= set(re.findall(r'\$\{(\w+)\}', (DOCKER / 'cyclonedds.xml').read_text()))
    lines = (DOCKER / 'example.env').read_text().splitlines()
    assert used == {line.partition('=')[0] for line in lines if line and line[0] != '#'}


def test_commands_have_arguments_that_exist(compose):
    planner = launch_arguments(compose['services']['planner']['command'])
    assert set(planner) <= {argument.name for argument in GRASP.arguments}
    for name in ('arm', 'hand', 'camera'):
        (argument,) = (a for a in GRASP.arguments if a.name == name)
        assert argument.parse(planner[name]) == planner[name]
    robot = launch_arguments(compose['services']['robot']['command'])
    declared = set(re.findall(r"^    \('(\w+)', ", LAUNCH_FILE.read_text(), re.MULTILINE))
    assert set(robot) <= declared


def test_dds_stays_off_the_robot_s_network():
    namespace = '{https://cdds.io/config}'
    root = ElementTree.parse(DOCKER / 'cyclonedds.xml').getroot()
    text = {element.tag.removeprefix(namespace): element for element in root.iter()}
    assert text['NetworkInterface'].get('name') == '${DDS_INTERFACE}'
    assert text['AllowMulticast'].text == 'false'
    peers = [peer.get('address') for peer in root.iter(f'{namespace}Peer')]
    assert peers == ['localhost', '${DDS_PEER}']


def test_entrypoint_is_bash_that_parses():
    subprocess.run(['bash', '-n', str(DOCKER / 'entrypoint.sh')], check=True)
    assert os.access(DOCKER / 'entrypoint.sh', os.X_OK)


def test_both_images_have_franka_ros2_of_one_version():
    """A state or a service of another version cannot be read, and nothing says so."""
    versions = [
        arguments
        for path in DOCKERFILES
        for name, arguments in instructions(path)
        if name == 'ARG' and arguments.startswith('FRANKA_ROS2_VERSION=')
    ]
    assert len(versions) == len(DOCKERFILES) == 2 and len(set(versions)) == 1


def test_the_planner_image_has_the_messages_that_recovery_needs():
    """What is imported is installed by apt or built in a stage that the last one copies from."""
    path = DOCKER / 'planner.Dockerfile'
    base = ' '.join(arguments for _, arguments in instructions(path)[: stage_starts(path)[1]])
    copied = {
        stage
        for name, arguments in final_stage(path)
        if name == 'COPY'
        for stage in re.findall(r'--from=(\w+) /opt/franka/install /opt/franka/install', arguments)
    }
    built, stage = set(), ''
    for name, arguments in instructions(path):
        stage = arguments.split()[-1] if name == 'FROM' else stage
        if name == 'RUN' and stage in copied:
            built |= set(re.findall(r'--packages-select (\w+)', arguments))
    source = Path(franka_ros2_arm.__file__).read_text()
    needed = set(re.findall(r'from ((?:franka|controller_manager)_msgs)\.', source))
    assert len(needed) == 2
    for package in needed - built:
        assert f' ros-jazzy-{package.replace("_", "-")} ' in base, package


@pytest.mark.parametrize(
    ('level', 'joints', 'said'),
    [
        (DiagnosticStatus.OK, None, None),
        (DiagnosticStatus.OK, ['joint_0.0'], 'no state of fr3_joint1'),
        (DiagnosticStatus.OK, ['joint_0.0', 'fr3_joint1'], None),
        (DiagnosticStatus.WARN, ['fr3_joint1'], None),
        (DiagnosticStatus.ERROR, ['fr3_joint1'], 'text'),
        (None, ['fr3_joint1'], 'no status'),
    ],
    ids=['no joint asked for', 'hand alone', 'ok', 'warning', 'error', 'silence'],
)
def test_the_health_check_listens_to_diagnostics_and_joint_states(level, joints, said):
    """`joints` come, if they matter; `said` is what it says where something is wrong."""
    asked = ['hand: can'] if joints is None else ['hand: can', 'fr3_joint1']
    with DomainLease() as lease:
        context = Context()
        rclpy.init(context=context, domain_id=lease.domain_id)
        node = Node('node', context=context, use_global_arguments=False)
        publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        states = [node.create_publisher(JointState, '/joint_states', 10) for _ in joints or ()]
        status = [DiagnosticStatus(name='another', level=DiagnosticStatus.ERROR)]
        if level is not None:
            status.append(DiagnosticStatus(name='hand: can', level=level, message='text'))
        environment = os.environ | {'ROS_DOMAIN_ID': str(lease.domain_id)}
        check = subprocess.Popen(
            [sys.executable, str(DOCKER / 'healthcheck.py'), *asked],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            while check.poll() is None:
                publisher.publish(DiagnosticArray(status=status))
                for state, joint in zip(states, joints or (), strict=True):
                    state.publish(JointState(name=[joint]))
                try:
                    check.wait(0.2)
                except subprocess.TimeoutExpired:
                    continue
            assert (check.returncode == 0) == (said is None)
            assert (said or 'text') in check.stdout.read()
        finally:
            check.kill()
            check.stdout.close()
            node.destroy_node()
            rclpy.shutdown(context=context)
