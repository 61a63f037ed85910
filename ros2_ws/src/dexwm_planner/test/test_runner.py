"""The runner with real processes: how runs end, and that nothing is left of them."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from dexwm_planner.graph.domain import DomainLease
from dexwm_planner.runner import run_environment

pytestmark = pytest.mark.realtime

# A node whose parameter says how it behaves. It really is a node: rclpy handles its signals.
PROBE = """
import os, signal, subprocess, sys, time
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from std_msgs.msg import String

rclpy.init()
node = Node('probe')
behaviour = node.declare_parameter('behaviour', 'steady').value
text = node.declare_parameter('text', 'default').value
log = node.get_logger()
result = 0

def hear(message):
    global result
    log.info('heard ' + message.data)
    result = int(float(message.data))
    raise KeyboardInterrupt

if behaviour == 'talk':
    publisher = node.create_publisher(String, '/inner', 1)
    node.create_timer(0.05, lambda: publisher.publish(String(data=text)))
elif behaviour == 'listen':
    node.create_subscription(String, '/inner', hear, 1)
elif behaviour == 'die':
    def fail():
        raise RuntimeError('on purpose')
    node.create_timer(0.5, fail)
elif behaviour == 'parent':
    # A child that ignores polite signals, and a grandchild of its own.
    stay = 'import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; '
    fork = 'import subprocess, sys; subprocess.Popen([sys.executable, "-c", sys.argv[1]]); '
    stay_long = stay + 'time.sleep(600)'
    subprocess.Popen([sys.executable, '-c', stay + fork + stay_long, stay_long])
elif behaviour in ('deaf', 'stone deaf'):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if behaviour == 'stone deaf':
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
log.debug('a detail')
print('a library prints', flush=True)
print(f'peers: [{os.environ["ROS_STATIC_PEERS"]}]', flush=True)
log.warning('ready')
try:
    rclpy.spin(node)
except (KeyboardInterrupt, ExternalShutdownException):
    pass
print(f'stopped at {time.monotonic()}', flush=True)
sys.exit(result)
"""

# A command line whose only graph has one probe for each behaviour that its argument lists.
DRIVER = """
import os, sys
from dexwm_planner.graph.graph import Argument, Graph, NodeSpec, OnExit
from dexwm_planner.runner import main

# As in a shell that has not run Python yet: the nodes' interpreters execute themselves again.
os.environ.pop('_ROS_WHEELS_BOOTSTRAP_COMPLETE', None)

def build(values, context):
    return tuple(
        NodeSpec(
            'probe_nodes',
            values['executable'],
            behaviour.replace(' ', '_'),
            {'behaviour': behaviour, 'text': values['text']},
            (('/inner', '/outer'),),
            OnExit.FINISH if behaviour == 'listen' else
            OnExit.REPORT if behaviour == 'die' and values['spare'] else OnExit.FAIL,
        )
        for behaviour in values['behaviours'].split(',')
    )

arguments = (
    Argument('behaviours', str, 'steady', 'What the nodes do.'),
    Argument('text', str, '0', 'What talk says.'),
    Argument('executable', str, 'probe', 'What the nodes run.'),
    Argument('spare', bool, False, 'Whether the run goes on when a node dies.'),
)
sys.exit(main(sys.argv[1:], {'probes': Graph('probes', 'probes', arguments, build)}))
"""

PATIENCE = 60.0


class Started:
    """A runner in a process of its own."""

    def __init__(self, folder: Path, arguments: list[str], environment: dict[str, str]) -> None:
        self.runs = folder / 'runs'
        self._output = folder / 'output.txt'
        self._mark = environment['PROBE_RUN']
        with self._output.open('w') as output:
            self.process = subprocess.Popen(
                [sys.executable, str(folder / 'driver.py'), 'probes', *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def directory(self) -> Path:
        (directory,) = self.runs.iterdir()
        return directory

    @property
    def record(self) -> dict:
        return json.loads((self.directory / 'run.json').read_text())

    def log(self, node: str) -> str:
        return (self.directory / f'{node}.log').read_text()

    def processes(self) -> dict[int, str]:
        """Command lines of all live processes that this run has left, by process id."""
        found = {}
        for entry in Path('/proc').iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if f'PROBE_RUN={self._mark}'.encode() in (entry / 'environ').read_bytes():
                    found[int(entry.name)] = (entry / 'cmdline').read_text().replace('\0', ' ')
            except OSError:
                continue
        return found

    def _is_ready(self, node: str) -> bool:
        return any('ready' in log.read_text() for log in self.runs.glob(f'*/{node}.log'))

    def await_ready(self, *nodes: str) -> None:
        for node in nodes:
            wait_until(partial(self._is_ready, node), f'{node} to be ready')

    def end(self, number: signal.Signals | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f'waited in vain for {what}'
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Starts runners on the probe node, installed in an ament prefix of the test's own."""
    prefix = tmp_path / 'prefix'
    index = prefix / 'share/ament_index/resource_index/packages'
    programs = prefix / 'lib/probe_nodes'
    index.mkdir(parents=True)
    programs.mkdir(parents=True)
    (index / 'probe_nodes').touch()
    (programs / 'probe').write_text(f'#!{sys.executable}\n{PROBE}')
    (programs / 'probe').chmod(0o755)
    started: list[Started] = []

    def start_runner(*arguments: str) -> Started:
        folder = tmp_path / f'run{len(started)}'
        folder.mkdir()
        (folder / 'driver.py').write_text(DRIVER)
        environment = os.environ | {
            'AMENT_PREFIX_PATH': f'{prefix}:{os.environ["AMENT_PREFIX_PATH"]}',
            'PROBE_RUN': uuid.uuid4().hex,
        }
        started.append(Started(folder, list(arguments), environment))
        return started[-1]

    yield start_runner
    for runner in started:
        for pid in runner.processes():
            os.kill(pid, signal.SIGKILL)
        runner.process.wait()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_nodes_in_reverse_order(start, number):
    run = start('behaviours:=steady,talk')
    run.await_ready('steady', 'talk')
    assert run.end(number) == 128 + number
    assert run.processes() == {}
    stopped = [float(run.log(node).split('stopped at ')[1]) for node in ('talk', 'steady')]
    assert stopped == sorted(stopped)
    record = run.record
    assert record['reason'] == f'stopped by {number.name}'
    assert record['exit_code'] == 128 + number
    assert list(record['endings']) == ['talk', 'steady']
    for ending in record['endings'].values():
        assert ending == {'exit_code': 0, 'signals_sent': ['SIGINT']}


def test_the_finishing_node_gives_the_exit_code(start):
    # The text looks like a number, in YAML 1.2 but not in 1.1; it is a text all the same.
    run = start('behaviours:=talk,listen', 'text:=7e0')
    assert run.end() == 7
    assert run.record['reason'] == 'listen ended with exit code 7'
    assert 'heard 7e0' in run.output
    assert run.processes() == {}


def test_a_run_that_finishes_well_exits_0_and_says_what_it_was(start):
    run = start('behaviours:=talk,listen')
    assert run.end() == 0
    record = run.record
    assert record['arguments']['behaviours'] == 'talk,listen'
    assert record['nodes'][0]['parameters'] == {'behaviour': 'talk', 'text': '0'}
    assert record['nodes'][1]['on_exit'] == 'FINISH'
    assert 'numpy' in record['versions']
    assert record['ended'] > record['started']


def test_the_terminal_shows_what_matters(start):
    run = start('behaviours:=steady', 'log_level:=info')
    run.await_ready('steady')
    run.end(signal.SIGINT)
    assert 'steady | WARN ready' in run.output
    assert 'a library prints' in run.log('steady')
    assert 'a library prints' not in run.output
    assert 'a detail' not in run.log('steady')


def test_the_parameter_file_has_the_last_word(start, tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text("talk:\n  ros__parameters:\n    text: '5'\n")
    run = start('behaviours:=talk,listen', 'text:=7', f'params_file:={file}')
    assert run.end() == 5


def test_a_node_that_dies_ends_the_run_with_its_reason(start):
    run = start('behaviours:=steady,die')
    assert run.end() == 4
    assert run.record['reason'] == 'die ended with exit code 1'
    assert 'RuntimeError: on purpose' in run.output
    assert run.record['endings']['steady']['signals_sent'] == ['SIGINT']
    assert run.processes() == {}


def test_a_node_that_is_killed_ends_the_run_with_its_reason(start):
    run = start('behaviours:=steady,talk')
    run.await_ready('steady', 'talk')
    (victim,) = (pid for pid, line in run.processes().items() if '__node:=talk' in line)
    os.kill(victim, signal.SIGKILL)
    assert run.end() == 4
    assert run.record['reason'] == 'talk was killed by SIGKILL'
    assert run.processes() == {}


def test_a_run_goes_on_without_a_node_that_it_can_spare(start):
    run = start('behaviours:=steady,die', 'spare:=true')
    wait_until(lambda: 'the run goes on without it' in run.output, 'the report')
    assert run.end(signal.SIGINT) == 130
    assert run.record['endings']['die']['exit_code'] == 1


def test_a_node_that_ignores_sigint_gets_sigterm(start):
    run = start('behaviours:=steady,deaf')
    run.await_ready('steady', 'deaf')
    assert run.end(signal.SIGINT) == 130
    assert run.record['endings']['deaf']['signals_sent'] == ['SIGINT', 'SIGTERM']
    assert 'deaf goes on after SIGINT' in run.output
    assert run.processes() == {}


def test_a_second_request_kills_what_does_not_end(start):
    run = start('behaviours:=steady,stone deaf')
    run.await_ready('steady', 'stone_deaf')
    run.process.send_signal(signal.SIGINT)
    time.sleep(1.0)  # Signals that come together count as one request.
    assert run.end(signal.SIGINT) == 130
    endings = run.record['endings']
    assert endings['stone_deaf']['signals_sent'][-1] == 'SIGKILL'
    assert endings['stone_deaf']['exit_code'] == -signal.SIGKILL
    assert run.processes() == {}


def test_children_of_a_stopped_node_are_not_left_behind(start):
    run = start('behaviours:=parent')
    run.await_ready('parent')
    assert run.end(signal.SIGINT) == 130
    assert 'left processes' in run.output
    assert run.processes() == {}


@pytest.mark.parametrize('whole_group', [False, True])
def test_nothing_survives_a_killed_runner(start, whole_group):
    run = start('behaviours:=stone deaf,parent')
    run.await_ready('stone_deaf', 'parent')
    # Runner, guard, two nodes, child and grandchild of one.
    wait_until(lambda: len(run.processes()) == 6, 'all processes')
    (os.killpg if whole_group else os.kill)(run.process.pid, signal.SIGKILL)
    assert run.end() == -signal.SIGKILL
    wait_until(lambda: run.processes() == {}, 'the end of all processes')


def test_nodes_die_with_their_runner_even_without_the_guard(start):
    run = start('behaviours:=stone deaf')
    run.await_ready('stone_deaf')
    (guard,) = (pid for pid, line in run.processes().items() if 'orphan_guard' in line)
    os.kill(guard, signal.SIGKILL)
    run.end(signal.SIGKILL)
    wait_until(lambda: run.processes() == {}, 'the end of all processes')


def test_runs_at_the_same_time_have_domains_of_their_own(start):
    # Both talkers use one topic name: each listener hears its own run.
    first = start('behaviours:=talk', 'text:=1')
    first.await_ready('talk')
    second = start('behaviours:=talk,listen', 'text:=2')
    assert second.end() == 2
    assert first.record['ros_domain_id'] != second.record['ros_domain_id']
    assert first.end(signal.SIGINT) == 130


@pytest.mark.parametrize('said', ['SUBNET', None])
def test_a_run_of_its_own_stays_on_this_machine(monkeypatch, said):
    if said is None:
        monkeypatch.delenv('ROS_AUTOMATIC_DISCOVERY_RANGE', raising=False)
    else:
        monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', said)
    monkeypatch.setenv('ROS_LOCALHOST_ONLY', '0')
    alone, named = run_environment(77), run_environment(77, alone=False)
    assert alone['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert 'ROS_LOCALHOST_ONLY' not in alone
    assert named['ROS_AUTOMATIC_DISCOVERY_RANGE'] == (said or 'LOCALHOST')
    assert named['ROS_LOCALHOST_ONLY'] == '0'
    assert alone['ROS_DOMAIN_ID'] == named['ROS_DOMAIN_ID'] == '77'


def test_only_in_a_domain_that_is_named_the_environment_says_who_is_seen(start, monkeypatch):
    monkeypatch.setenv('ROS_STATIC_PEERS', '127.0.0.1')
    with DomainLease() as lease:
        named = start('behaviours:=talk,listen', f'domain_id:={lease.domain_id}')
        assert named.end() == 0
    assert 'peers: [127.0.0.1]' in named.log('talk')
    alone = start('behaviours:=talk,listen')
    assert alone.end() == 0
    assert 'peers: []' in alone.log('talk')


def test_wrong_arguments_are_refused_before_anything_starts(start):
    run = start('behaviour:=steady')
    assert run.end() == 2
    assert 'no argument behaviour.' in run.output
    assert "'behaviours':" in run.output and "'domain_id':" in run.output
    assert not run.runs.exists()


def test_a_missing_executable_is_named(start):
    run = start('executable:=prob')
    assert run.end() == 3
    assert 'no executable prob' in run.output and '(there: probe)' in run.output
    assert run.record['exit_code'] == 3


def test_show_args_lists_the_arguments(start):
    run = start('--show-args')
    assert run.end() == 0
    assert "'text':\n        What talk says.\n        (default: '0')" in run.output
