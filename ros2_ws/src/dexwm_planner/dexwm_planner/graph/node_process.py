"""One node of a run as a process: how it is found, started, signalled and buried."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from dexwm_planner.graph.graph import NodeSpec
from dexwm_planner.graph.parameter_files import write_parameter_file

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LIBC = ctypes.CDLL(None, use_errno=True)


class ExecutableNotFoundError(FileNotFoundError):
    """A node whose package or executable is not installed."""


def find_executable(package: str, executable: str) -> Path:
    """Path of an installed executable: `lib/<package>/<executable>`, as `ros2 run` finds it.

    Raises:
        ExecutableNotFoundError: The package or the executable is missing.
    """
    try:
        folder = Path(get_package_prefix(package)) / 'lib' / package
    except PackageNotFoundError:
        raise ExecutableNotFoundError(
            f'Package {package} is not installed in AMENT_PREFIX_PATH='
            f'{os.environ.get("AMENT_PREFIX_PATH", "")}: build the workspace with colcon and '
            'source its install/setup.bash.'
        ) from None
    path = folder / executable
    if not os.access(path, os.X_OK):
        present = sorted(entry.name for entry in folder.glob('*')) if folder.is_dir() else []
        raise ExecutableNotFoundError(
            f'Package {package} has no executable {executable} in {folder} (there: '
            f'{", ".join(present) or "none"}).'
        )
    return path


def node_command(spec: NodeSpec, directory: Path) -> list[str]:
    """Command line that runs a node, its parameter file written into `directory`.

    Raises:
        ExecutableNotFoundError: The package or the executable is missing.
    """
    executable = str(find_executable(spec.package, spec.executable))
    command = [executable, *spec.arguments, '--ros-args']
    command += ['-r', f'__node:={spec.name}']
    for inner, outer in spec.remappings:
        command += ['-r', f'{inner}:={outer}']
    parameter_file = write_parameter_file(directory, spec.name, spec.parameters)
    command += ['--params-file', str(parameter_file)]
    command += ['--log-level', f'{spec.name}:={spec.log_level}']
    # The run directory has the log: no second one under ~/.ros.
    return [*command, '--disable-external-lib-logs']


class NodeProcess:
    """A running node, leader of a process group of its own.

    It writes its output to a file and not to a pipe, so that no node ever waits for its runner.
    The kernel kills it when the runner dies (PR_SET_PDEATHSIG).

    Attributes:
        spec: What runs.
        log: File with everything that the process and its children print.
        group: Process group, equal to the process id.
        signals: Signals sent to stop it, in order.
    """

    def __init__(
        self, spec: NodeSpec, command: list[str], environment: Mapping[str, str], log: Path
    ) -> None:
        """Starts the process. Call it from a process that has one thread only.

        The parent-death signal follows the thread that forks, and Python code between fork and
        exec is safe only where no other thread can hold a lock.
        """
        self.spec = spec
        self.log = log
        self.signals: list[signal.Signals] = []
        with log.open('wb') as output:
            self._process = subprocess.Popen(
                command,
                stdin=None if spec.asks else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                # In the terminal's own session only the foreground group may read it.
                **({'start_new_session': True} if spec.asks else {'process_group': 0}),
                preexec_fn=_die_with(os.getpid()),
            )
        self.group = self._process.pid

    @property
    def exited(self) -> bool:
        """Whether the process has ended; it stays a zombie, which keeps its group's id taken."""
        if self._process.returncode is not None:
            return True
        flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
        return os.waitid(os.P_PID, self._process.pid, flags) is not None

    def send(self, number: signal.Signals) -> None:
        """Sends a signal: SIGKILL to the whole group, any other to the node alone."""
        self.signals.append(number)
        if number == signal.SIGKILL:
            os.killpg(self.group, number)
        else:
            os.kill(self._process.pid, number)

    def children_left(self) -> list[int]:
        """Process ids of those in the group that outlive the node."""
        return [pid for pid in _group_members(self.group) if pid != self.group]

    def bury(self) -> int:
        """Kills what is left of the group of an ended process and collects its exit status.

        Returns:
            The exit code, or minus the signal that ended it.
        """
        if self._process.returncode is None:
            os.killpg(self.group, signal.SIGKILL)
        return self._process.wait()


def _die_with(parent: int) -> Callable[[], None]:
    """Makes what a new process runs before exec so that it does not outlive its parent."""

    def bind() -> None:
        if _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            os._exit(126)
        # The parent may have died before the call above took effect.
        if os.getppid() != parent:
            os._exit(126)

    return bind


def _group_members(group: int) -> list[int]:
    """Ids of all live processes of a process group, out of /proc (see proc_pid_stat(5))."""
    members = []
    for entry in Path('/proc').iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The command name is in parentheses and may contain anything.
            state, _, its_group = (entry / 'stat').read_text().rpartition(')')[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state not in 'ZX':
            members.append(int(entry.name))
    return members
