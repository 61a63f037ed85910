"""Recovery and state of an arm under franka_ros2.

franka_msgs and controller_manager_msgs are not among the ROS wheels: stand-ins have the fields of
theirs that are used. Node and action are real; calls to controller_manager are answered by its
rules, without the network.
"""

import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import rclpy
import yaml
from ament_index_python.packages import get_package_share_directory
from dexwm_msgs.action import ExecutePlan
from lifecycle_msgs.msg import State
from rclpy.action import ActionServer, GoalResponse
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future

from dexwm_planner.graph.domain import DomainLease
from dexwm_planner.trajectory.franka_ros2_arm import BROADCASTERS, HARDWARE, FrankaRos2Arm
from dexwm_planner.trajectory.recovery import RecoveryError
from dexwm_planner.trajectory.trajectory_parameters import TrajectoryConfigError

pytestmark = pytest.mark.realtime

ARM = 'fr3_arm_controller'
CONTROLLERS = (*BROADCASTERS, ARM)
ALL_STEPS = ['error recovery', 'hardware', 'controllers']


class ListControllers:
    @dataclass
    class Request:
        pass


class SetHardwareComponentState:
    @dataclass
    class Request:
        name: str = ''
        target_state: State = field(default_factory=State)


class SwitchController:
    @dataclass
    class Request:
        STRICT = 2
        activate_controllers: list[str] = field(default_factory=list)
        deactivate_controllers: list[str] = field(default_factory=list)
        strictness: int = 0


@dataclass
class Errors:
    joint_reflex: bool = False
    power_limit_violation: bool = False

    def get_fields_and_field_types(self):
        return dict.fromkeys(self.__dataclass_fields__, 'boolean')


@dataclass
class FrankaRobotState:
    robot_mode: int = 1
    current_errors: Errors = field(default_factory=Errors)


def install(monkeypatch):
    """As if the packages were installed; an action without fields is like any other."""
    modules = {
        'controller_manager_msgs': {},
        'controller_manager_msgs.srv': {
            kind.__name__: kind
            for kind in (ListControllers, SetHardwareComponentState, SwitchController)
        },
        'franka_msgs': {},
        'franka_msgs.action': {'ErrorRecovery': ExecutePlan},
        'franka_msgs.msg': {'FrankaRobotState': FrankaRobotState},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


class ControllerManager:
    """Hardware and controllers after an error, and the services by ros2_control's rules."""

    def __init__(self, steps, failing):
        self.steps, self.failing = steps, failing
        self.hardware = 'unconfigured'
        self.active = set()
        self.services = {
            '/controller_manager/list_controllers': self.list,
            '/controller_manager/set_hardware_component_state': self.set_hardware,
            '/controller_manager/switch_controller': self.switch,
        }

    def list(self, _):
        return SimpleNamespace(
            controller=[
                SimpleNamespace(name=name, state='active' if name in self.active else 'inactive')
                for name in CONTROLLERS
            ]
        )

    def set_hardware(self, request):
        self.steps.append('hardware')
        assert request.name == HARDWARE
        assert request.target_state.id == State.PRIMARY_STATE_ACTIVE
        ok = 'hardware' not in self.failing
        if ok:
            self.hardware = request.target_state.label
        return SimpleNamespace(ok=ok)

    def switch(self, request):
        self.steps.append('controllers')
        wanted = set(request.activate_controllers)
        ok = 'controllers' not in self.failing and self.hardware == 'active'
        if request.strictness == request.STRICT:
            ok = ok and wanted <= set(CONTROLLERS) and not wanted & self.active
        if ok:
            self.active |= wanted
        return SimpleNamespace(ok=ok)


class Client:
    def __init__(self, srv_name, serve):
        self.srv_name, self.serve = srv_name, serve

    def wait_for_service(self, _):
        return True

    def call_async(self, request):
        future = Future()
        threading.Thread(target=lambda: future.set_result(self.serve(request))).start()
        return future


class ArmNode(Node):
    """A node whose clients and subscription of the types above stay in this process."""

    def __init__(self, context, manager):
        self.manager = manager
        super().__init__('trajectory', context=context, use_global_arguments=False)

    def create_client(self, _, name, *, callback_group):
        return Client(name, self.manager.services[name])

    def create_subscription(self, kind, _, callback, qos, *, callback_group):
        assert kind is FrankaRobotState
        self.on_state, self.state_group = callback, callback_group


class Bench:
    def __init__(self, context):
        self.steps, self.failing, self.reports = [], set(), []
        self.manager = ControllerManager(self.steps, self.failing)
        self.node = ArmNode(context, self.manager)
        self.server = ActionServer(
            self.node,
            ExecutePlan,
            '/action_server/error_recovery',
            self.recover_errors,
            goal_callback=lambda _: (
                GoalResponse.REJECT if 'goal' in self.failing else GoalResponse.ACCEPT
            ),
        )
        self.arm = FrankaRos2Arm(
            self.node, ARM, lambda level, message: self.reports.append((level, message))
        )

    def recover_errors(self, goal):
        self.steps.append('error recovery')
        if 'error recovery' in self.failing:
            goal.abort()
        else:
            goal.succeed()
        return ExecutePlan.Result()


@pytest.fixture
def bench(monkeypatch):
    install(monkeypatch)
    with DomainLease() as lease:
        context = rclpy.Context()
        context.init(domain_id=lease.domain_id)
        bench = Bench(context)
        executor = MultiThreadedExecutor(num_threads=4, context=context)
        executor.add_node(bench.node)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        yield bench
        executor.shutdown()
        thread.join()
        bench.server.destroy()
        bench.node.destroy_node()
        context.shutdown()


@pytest.mark.parametrize(
    'still_active', [(), BROADCASTERS, CONTROLLERS], ids=['none', 'broadcasters', 'all']
)
def test_all_controllers_are_active_after_the_three_steps(bench, still_active):
    bench.manager.active = set(still_active)
    bench.arm.recover()
    assert bench.steps == (ALL_STEPS if still_active != CONTROLLERS else ALL_STEPS[:2])
    assert bench.manager.hardware == 'active'
    assert bench.manager.active == set(CONTROLLERS)


@pytest.mark.parametrize(
    ('failing', 'message', 'steps'),
    [
        ('goal', 'step 1, error recovery: refused; release the user stop', []),
        ('error recovery', 'step 1, error recovery: the arm did not clear', ALL_STEPS[:1]),
        ('hardware', f'step 2, hardware: {HARDWARE} could not', ALL_STEPS[:2]),
        ('controllers', f'step 3, controllers: {", ".join(CONTROLLERS)} could not', ALL_STEPS),
    ],
)
def test_a_step_that_fails_is_named_and_is_the_last(bench, failing, message, steps):
    bench.failing.add(failing)
    with pytest.raises(RecoveryError, match=message):
        bench.arm.recover()
    assert bench.steps == steps
    assert not bench.manager.active
    bench.failing.clear()
    bench.arm.recover()
    assert bench.manager.active == set(CONTROLLERS)


def test_states_are_told_in_words_and_in_their_order(bench):
    bench.node.on_state(FrankaRobotState())
    bench.node.on_state(FrankaRobotState(4, Errors(joint_reflex=True)))
    bench.node.on_state(FrankaRobotState(5))
    (well, idle), (wrong, reflex), (_, stop) = bench.reports
    assert (well, idle) == (0, 'Idle')
    assert wrong == 2 and 'by reflex' in reflex and 'joint_reflex: ' in reflex
    assert 'user stop' in stop
    # Threads of the executor may overtake each other in any other group.
    assert isinstance(bench.node.state_group, MutuallyExclusiveCallbackGroup)


def test_the_broadcasters_are_those_of_the_configuration():
    share = Path(get_package_share_directory('dexwm_franka_bringup'))
    content = yaml.safe_load((share / 'config/fr3_controllers.yaml').read_text())
    configured = content['/**']['controller_manager']['ros__parameters']
    assert set(CONTROLLERS) <= set(configured)


@pytest.mark.parametrize('missing', ['franka_msgs', 'controller_manager_msgs'])
def test_without_its_messages_it_says_what_to_source(monkeypatch, missing):
    install(monkeypatch)
    for name in list(sys.modules):
        if name.partition('.')[0] == missing:
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TrajectoryConfigError, match='source the workspace of franka_ros2'):
        FrankaRos2Arm(None, ARM, print)
