"""What a run shows on the terminal: the important lines of the nodes' logs, with their names."""

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import TextIO

# Set for the nodes as RCUTILS_CONSOLE_OUTPUT_FORMAT.
LOG_FORMAT = '[{severity}] [{time}] [{name}]: {message}'
_LOG_LINE = re.compile(r'\[(DEBUG|INFO|WARN|ERROR|FATAL)\] \[[\d.]+\] \[([^\]]*)\]: (.*)')

_COLOURS = (36, 32, 35, 34, 96, 92, 95, 94)
_ALARMS = {'WARN': '33', 'ERROR': '31', 'FATAL': '1;31'}


class Terminal:
    """Writes lines prefixed with who says them, coloured where a person watches."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Writes to `stream`, standard output if not given."""
        self._stream = sys.stdout if stream is None else stream
        self._colourful = self._stream.isatty() and 'NO_COLOR' not in os.environ
        self._names: list[str] = []

    def say(self, name: str, text: str, severity: str = 'INFO') -> None:
        """Writes one line. A terminal that has gone away is not an error."""
        if name not in self._names:
            self._names.append(name)
        label = f'{name:>10} | '
        if severity in _ALARMS:
            text = self._painted(f'{severity} {text}', _ALARMS[severity])
        colour = _COLOURS[self._names.index(name) % len(_COLOURS)]
        with contextlib.suppress(OSError):
            print(self._painted(label, str(colour)) + text, file=self._stream, flush=True)

    def _painted(self, text: str, code: str) -> str:
        return f'\x1b[{code}m{text}\x1b[0m' if self._colourful else text


class LogEcho:
    """Follows the log of one node and shows the important lines.

    Shown are lines that the node logs (its log level decides which there are) and, after a
    warning or an error, the lines without a log header that belong to it. Everything else, such
    as what libraries print, is in the file only. All lines of a `talkative` node are shown.
    """

    def __init__(self, name: str, path: Path, terminal: Terminal, talkative: bool) -> None:
        """Follows the file at `path` from its beginning."""
        self._name = name
        self._file = path.open(encoding='utf-8', errors='replace')
        self._terminal = terminal
        self._talkative = talkative
        self._rest = ''
        self._severity = 'INFO'

    def pump(self) -> None:
        """Shows what was written since the last call, up to the last complete line."""
        *lines, self._rest = (self._rest + self._file.read()).split('\n')
        for line in lines:
            self._show(line)

    def close(self) -> None:
        """Shows the rest and closes the file."""
        self.pump()
        if self._rest:
            self._show(self._rest)
        self._file.close()

    def _show(self, line: str) -> None:
        if header := _LOG_LINE.fullmatch(line):
            self._severity, logger, message = header.groups()
            whose = '' if logger == self._name else f'{logger}: '
            self._terminal.say(self._name, whose + message, self._severity)
        elif line and (self._talkative or self._severity in _ALARMS):
            self._terminal.say(self._name, line)
