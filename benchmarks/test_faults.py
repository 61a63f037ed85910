"""Faults in mid-motion of the cell: each stops the robot within limits, until it is resumed."""

import os
import signal
import time
from pathlib import Path

import pytest
from dexwm_msgs.action import ExecutePlan
from dexwm_msgs.msg import MotionState

from benchmarks.fault_cell import FaultCell, Filters
from benchmarks.faults import FAULTS, NODES, mend, provoke, resume, swing

pytestmark = pytest.mark.realtime

# A test machine may be busy: what is late without a fault of ours is none.
PATIENT = {'joint_state_timeout': 0.6, 'heartbeat_timeout': 0.6, 'driver_timeout': 0.8}
TRAJECTORY = {**NODES['trajectory'], **PATIENT, 'clock_tolerance': 0.5}
ARM_FAULT = 'communication_constraints_violation'
TIMEOUT = 60.0


@pytest.fixture(scope='module')
def running_cell(tmp_path_factory):
    nodes = {**NODES, 'trajectory': TRAJECTORY}
    with FaultCell(tmp_path_factory.mktemp('cell'), nodes) as cell:
        yield cell


@pytest.fixture
def cell(running_cell):
    """Without what the test before left of its faults."""
    cell = running_cell
    cell.filters = Filters()
    cell.signal('camera', signal.SIGCONT)
    if cell.processes['cell'].poll() is not None:
        cell.start('cell', NODES['cell'])
    # Told to end, not killed: services of a dead node would be called for a while.
    cell.signal('trajectory', signal.SIGTERM)
    cell.processes['trajectory'].wait(TIMEOUT)
    cell.start('trajectory', TRAJECTORY)
    cell.until_ready()
    return cell


def assert_within_limits(stop):
    assert 0.0 < stop.acceleration <= 1.0
    assert 0.0 < stop.jerk <= 1.0


@pytest.mark.parametrize('name', FAULTS)
def test_a_fault_stops_the_robot_until_it_is_resumed(cell, name):
    stop, result = provoke(cell, FAULTS[name])
    assert result.error_code != ExecutePlan.Result.SUCCESSFUL
    assert_within_limits(stop)
    if name != 'stop':
        assert not cell.call('resume').success
    mend(cell)
    # The cause is gone, and still nothing moves.
    refused = cell.result(cell.send())
    assert refused.error_code == ExecutePlan.Result.STOPPED
    assert cell.state.state == MotionState.STOPPED
    assert cell.is_still()
    resume(cell)
    assert cell.is_still()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_trajectory_node_stops_the_robot(cell, number):
    swing(cell)
    fault_ns = cell.now_ns()
    cell.signal('trajectory', number)
    assert_within_limits(cell.measure(fault_ns))
    assert cell.is_still()


def test_nothing_moves_unconfirmed_nor_after_a_jump_of_the_clock(cell):
    cell.kill('trajectory')
    cell.start('trajectory', {**TRAJECTORY, 'confirm': True, 'use_sim_time': True})
    cell.until_ready()
    for answer in ('none', 'no', 'yes'):
        future = cell.send()
        cell.until(lambda: cell.state.confirm_plan_id, 'the question')
        plan_id = cell.state.confirm_plan_id
        assert cell.state.confirm_task == 'swing' and cell.state.confirm_waypoints == 1
        assert not cell.confirm('another').success
        assert cell.is_still() and not future.done()
        if answer == 'none':
            cell.call('stop')
        else:
            assert cell.confirm(plan_id, answer == 'yes').success
        if answer == 'yes':
            break
        assert cell.result(future).error_code in (
            ExecutePlan.Result.STOPPED,
            ExecutePlan.Result.REFUSED,
        )
        assert not cell.confirm(plan_id).success
        assert cell.is_still()
        resume(cell)
    cell.until_fast(future)
    fault_ns = cell.now_ns()
    cell.filters = Filters(clock_jump=2.0)
    result = cell.result(future)
    assert 'the clock jumped by +' in result.error_string
    assert_within_limits(cell.measure(fault_ns))
    assert cell.is_still()


def test_death_of_the_controllers_ends_the_motion(cell):
    future = swing(cell)
    fault_ns = cell.now_ns()
    cell.kill('cell')
    result = cell.result(future)
    assert result.error_code in (
        ExecutePlan.Result.STALE_STATE,
        ExecutePlan.Result.NO_CONTROLLER,
    )
    assert_within_limits(cell.measure(fault_ns))
    assert cell.state.state == MotionState.STOPPED


def test_a_reflex_is_told_in_words_and_recovered_only_on_request(tmp_path):
    pytest.importorskip('pylibfranka', reason='the FCI node needs pylibfranka')
    pytest.importorskip('franka_sim', reason='the robot of this test needs franka-sim')
    address = f'127.4.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}'
    common = {'use_sim_time': True}
    nodes = {
        'cell': {**NODES['cell'], 'arm': 'fci', 'fci_address': address, 'joint_state_rate': 50.0},
        'fci': {**common, 'robot_ip': address, 'realtime': 'ignore', 'joint_state_rate': 50.0},
        'trajectory': {
            **TRAJECTORY,
            **common,
            'heartbeats': "['']",
            'drivers': "['fci: arm']",
            'driver_timeout': 10.0,
            'recovery': 'fci',
        },
    }
    with FaultCell(tmp_path, nodes, own_clock=False) as cell:
        recover_arm(cell)
        future = swing(cell)
        stall(cell)
        result = cell.result(future)
        cell.until_rest()
        assert result.error_code == ExecutePlan.Result.NO_CONTROLLER
        assert ARM_FAULT in result.error_string
        assert 'the robot missed too many commands in a row' in result.error_string
        assert 'call ~/recover' in result.error_string
        assert not cell.call('resume').success
        assert cell.is_still()
        recover_arm(cell, at_least=1)
        cell.until_fast(cell.send())


def recover_arm(cell, at_least=0):
    """Recovers until a plan would be taken; a busy machine loses the arm without our doing."""
    for attempt in range(5):
        cell.until(lambda: cell.is_ready() or cell.is_stopped(), 'an arm that holds or failed')
        if attempt >= at_least and cell.is_ready():
            return
        if cell.call('recover').success:
            # A recovery does not resume.
            cell.until(cell.is_stopped, 'a stopped robot')
            cell.call('resume')
        time.sleep(1.0)
    pytest.fail(f'not recovered: {cell.state.reason}')


def stall(cell):
    """Keeps the control process from answering for 0.3 s, which trips the robot."""
    node = cell.processes['fci'].pid
    for child in Path(f'/proc/{node}/task/{node}/children').read_text().split():
        if b'spawn_main' in Path(f'/proc/{child}/cmdline').read_bytes():
            os.kill(int(child), signal.SIGSTOP)
            time.sleep(0.3)
            os.kill(int(child), signal.SIGCONT)
            return
    raise AssertionError('the FCI node has no control process')
