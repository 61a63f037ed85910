"""The panel's client of the planner, where rclcpp is: against nodes that answer as ours do."""

import os
import subprocess
import threading
import time

import numpy as np
import pytest
import rclpy
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from dexwm_msgs.action import PlanToGoal
from dexwm_msgs.msg import Goal, MotionState, Plan
from dexwm_msgs.srv import CaptureGoal, ConfirmPlan, ListGoals, SetGoal
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectoryPoint

from dexwm_franka_bringup.image_conversion import array_to_image
from dexwm_planner.graph.domain import DomainLease

pytestmark = pytest.mark.realtime

LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
TIMEOUT = 40.0
GONE, STOPPED, PLANNING, NOT_READY, READY = 0, 2, 3, 5, 6


@pytest.fixture(scope='module')
def program(tmp_path_factory):
    """The probe, built; a folder in DEXWM_RVIZ_BUILD is taken as it is."""
    if folder := os.environ.get('DEXWM_RVIZ_BUILD'):
        return f'{folder}/test/planner_client_probe'
    try:
        get_package_prefix('rclcpp')
    except PackageNotFoundError:
        pytest.skip('rclcpp is not installed')
    folder = tmp_path_factory.mktemp('build')
    package = os.path.dirname(os.path.dirname(__file__))
    configure = ['cmake', '-S', package, '-B', str(folder), '-DDEXWM_BUILD_TESTS=ON']
    output = subprocess.run(configure, capture_output=True, text=True).stdout
    if "Qt's Widgets are not here" in output:
        pytest.skip('Qt is not installed')
    command = ['cmake', '--build', str(folder), '--target', 'planner_client_probe']
    subprocess.run(command, check=True, timeout=280)
    return f'{folder}/test/planner_client_probe'


class Nodes(Node):
    """Planner, trajectory node and camera in one; their names in full."""

    def __init__(self, context):
        super().__init__('planner', context=context, use_global_arguments=False)
        self.calls = []
        self.motion = MotionState()
        self.health = ('ready', 'ready', '')
        group = ReentrantCallbackGroup()
        self.state = self.create_publisher(MotionState, '/trajectory/state', LATCHED)
        self.diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.camera = self.create_publisher(
            Image, '/camera/color/image_raw', qos_profile_sensor_data
        )
        self.other_camera = self.create_publisher(
            Image, '/other/image_raw', qos_profile_sensor_data
        )
        self.plan = self.create_publisher(Plan, '~/plan', LATCHED)
        self.create_service(ListGoals, '~/list_goals', self.list)
        self.create_service(SetGoal, '~/set_goal', self.set)
        self.create_service(CaptureGoal, '~/capture_goal', self.capture)
        self.create_service(ConfirmPlan, '/trajectory/confirm', self.confirm)
        for name in ('stop', 'recover', 'resume'):
            self.create_service(
                Trigger,
                f'/trajectory/{name}',
                lambda _, response, name=name: self.trigger(name, response),
            )
        self.create_timer(0.2, self.report)
        self.release = threading.Event()
        self.server = ActionServer(
            self,
            PlanToGoal,
            '~/plan_to_goal',
            self.execute,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=group,
        )

    def report(self):
        message, state, warning = self.health
        status = DiagnosticStatus(
            level=DiagnosticStatus.OK if message == 'ready' else DiagnosticStatus.WARN,
            name='planner: plans',
            message=message,
            values=[KeyValue(key='state', value=state), KeyValue(key='warning', value=warning)],
        )
        self.diagnostics.publish(DiagnosticArray(status=[status]))
        self.state.publish(self.motion)
        for camera, colour in ((self.camera, (255, 0, 16)), (self.other_camera, (0, 0, 255))):
            camera.publish(array_to_image(np.full((4, 6, 3), colour, np.uint8), 'rgb8'))

    def list(self, _, response):
        picture = np.full((11, 19, 3), (0, 128, 255), np.uint8)
        response.goals = [Goal(name='cup', thumbnail=array_to_image(picture, 'rgb8'))]
        return response

    def set(self, request, response):
        response.message = f'there is no file {request.path}'
        return response

    def capture(self, request, response):
        response.success = True
        response.goal.name = request.name
        return response

    def confirm(self, request, response):
        self.calls.append(f'confirm {request.plan_id} {request.accept}')
        response.success = True
        return response

    def trigger(self, name, response):
        self.calls.append(name)
        response.success, response.message = True, f'{name} done'
        if name == 'resume':
            self.motion = MotionState()
        return response

    def execute(self, handle):
        request, result = handle.request, PlanToGoal.Result()
        self.calls.append(f'{request.task} {request.goal_name} {request.execute}')
        if request.task == 'place':
            handle.abort()
            result.error_string = 'the picture is too old'
            return result
        for number in range(2):
            handle.publish_feedback(PlanToGoal.Feedback(iteration=number, best_cost=2.0 - number))
        while request.task == 'grasp' and not handle.is_cancel_requested:
            if self.release.wait(0.02):
                break
        if handle.is_cancel_requested:
            handle.canceled()
            return result
        point = JointTrajectoryPoint()
        self.plan.publish(Plan(task=request.task, waypoints=[point, point], costs=[2.0, 1.0]))
        handle.succeed()
        return result


class World:
    def __init__(self, domain_id):
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self.nodes = Nodes(self.context)
        self.executor = MultiThreadedExecutor(num_threads=4, context=self.context)
        self.executor.add_node(self.nodes)
        self.thread = threading.Thread(target=self.executor.spin)
        self.thread.start()

    def close(self):
        self.nodes.release.set()
        self.executor.shutdown()
        self.thread.join()
        self.nodes.destroy_node()
        rclpy.shutdown(context=self.context)


class Probe:
    """The program and what it has said."""

    def __init__(self, program, domain_id, *arguments):
        self.process = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id)},
        )
        self.lines = []
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def do(self, line):
        self.process.stdin.write(f'{line}\n')
        self.process.stdin.flush()

    def expect(self, start):
        """Waits for a line that was not expected before."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            for number, line in enumerate(self.lines):
                if line.startswith(start):
                    del self.lines[: number + 1]
                    return line
            time.sleep(0.02)
        raise AssertionError(f'{start!r} was not said, but {self.lines}')

    def expect_all(self, *starts):
        """The same for several lines, which come over different topics: in any order."""
        deadline = time.monotonic() + TIMEOUT
        while missing := [s for s in starts if not any(x.startswith(s) for x in self.lines)]:
            assert time.monotonic() < deadline, (missing, self.lines)
            time.sleep(0.02)
        self.lines.clear()

    def close(self):
        self.process.stdin.close()
        code = self.process.wait(TIMEOUT)
        self.thread.join()
        return code


@pytest.fixture
def domain():
    with DomainLease() as lease:
        yield lease.domain_id


def test_goals_plans_and_faults_reach_the_panel_and_back(program, domain):
    world, probe = World(domain), Probe(program, domain)
    try:
        nodes = world.nodes
        probe.expect(f'status {READY}')
        probe.expect('camera #ff0010')
        probe.do('list')
        assert probe.expect('goals') == 'goals cup/19x11/#0080ff'
        probe.do('import a /nowhere.png')
        assert probe.expect('failed') == 'failed there is no file /nowhere.png'
        probe.do('capture b')
        assert probe.expect('stored') == 'stored b'
        probe.do('plan reach cup')
        probe.expect_all('iteration 0 2', 'iteration 1 1', 'plan reach 2 2', 'finished')
        probe.do('execute place cup')
        assert probe.expect('failed') == 'failed the picture is too old'
        assert nodes.calls == ['reach cup False', 'place cup True']

        nodes.health = ('no picture', 'not ready', '')
        assert probe.expect(f'status {NOT_READY}') == f'status {NOT_READY} no picture'
        # A warning disables nothing, and hides neither that it is ready nor that it plans.
        nodes.health = ('ready; old camera', 'ready', 'old camera')
        assert probe.expect(f'status {READY}') == f'status {READY} warning old camera'
        nodes.health = ('planning; old camera', 'planning', 'old camera')
        assert probe.expect('status') == f'status {PLANNING} warning old camera'
        nodes.health = ('ready', 'ready', '')
        assert probe.expect(f'status {READY}') == f'status {READY}'

        probe.do('execute grasp cup')
        probe.expect(f'status {PLANNING}')
        nodes.motion = MotionState(confirm_plan_id='p7', confirm_task='grasp')
        assert probe.expect('asked') == 'asked p7'
        probe.do('confirm p7 yes')
        probe.do('stop')
        probe.expect('finished')
        deadline = time.monotonic() + TIMEOUT
        while not {'stop', 'confirm p7 True'} <= set(nodes.calls):
            assert time.monotonic() < deadline, nodes.calls
            time.sleep(0.02)
        nodes.motion = MotionState(state=MotionState.STOPPED, reason='a reflex')
        assert probe.expect(f'status {STOPPED}') == f'status {STOPPED} a reflex'
        probe.do('recover')
        assert probe.expect('finished resume') == 'finished resume done'
        assert nodes.calls[-2:] == ['recover', 'resume']
        probe.expect(f'status {READY}')
        nodes.motion = MotionState(state=MotionState.STOPPED, reason='a stop')
        probe.expect(f'status {STOPPED}')
        probe.do('resume')
        assert probe.expect('finished') == 'finished resume done'
        assert nodes.calls[-2:] == ['resume', 'resume']
        probe.expect(f'status {READY}')
        assert probe.close() == 0
    finally:
        probe.process.kill()
        world.close()


def test_rviz_s_remappings_reach_the_panel_and_its_node_s_name_does_not(program, domain):
    remappings = ('__node:=rviz2', '/camera/color/image_raw:=/other/image_raw')
    arguments = [part for remapping in remappings for part in ('-r', remapping)]
    world, probe = World(domain), Probe(program, domain, '--ros-args', *arguments)
    try:
        assert probe.expect('camera') == 'camera #0000ff'
        probe.expect(f'status {READY}')
        names = world.nodes.get_node_names()
        assert 'rviz2' not in names and any(name.startswith('dexwm_panel_') for name in names)
        assert probe.close() == 0
    finally:
        probe.process.kill()
        world.close()


def test_a_planner_may_go_and_come_back(program, domain):
    probe = Probe(program, domain)
    try:
        probe.expect(f'status {GONE}')
        probe.do('list')
        assert probe.expect('failed') == 'failed /planner/list_goals does not answer'
        probe.do('stop')
        assert "use the robot's stop button" in probe.expect('failed')
        for _ in range(2):
            world = World(domain)
            try:
                probe.expect(f'status {READY}')
                probe.do('plan grasp cup')
                probe.expect('iteration')
            finally:
                world.close()
            probe.expect(f'status {GONE}')
        assert probe.close() == 0
    finally:
        probe.process.kill()
