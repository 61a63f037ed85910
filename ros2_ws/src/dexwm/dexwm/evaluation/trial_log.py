"""Finished trials on disk, one line each, so that an evaluation goes on where it stopped."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path

from dexwm.evaluation.closed_loop import Method, Motion, Trial
from dexwm.evaluation.errors import EvaluationError


class TrialLog:
    """A file of JSON lines, to which several processes may append.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        """Takes the file's path; it need not be there yet."""
        self.path = path

    def append(self, trial: Trial) -> None:
        """Adds a trial."""
        line = json.dumps(asdict(trial)) + '\n'
        with self.path.open('a+b') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # A process that was killed while it wrote leaves half a line.
            size = file.seek(0, 2)
            if size:
                file.seek(size - 1)
                if file.read(1) != b'\n':
                    line = '\n' + line
            file.write(line.encode())

    def read(self) -> list[Trial]:
        """Returns all trials, in the order in which they ended.

        Lines that were cut off are left out. Trials from before refusals and code were kept have
        neither.

        Raises:
            EvaluationError: If a whole line is no trial.
        """
        if not self.path.exists():
            return []
        names = {field.name for field in fields(Trial)}
        needed = {field.name for field in fields(Trial) if field.default is MISSING}
        trials = []
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            try:
                values = json.loads(line)
            except json.JSONDecodeError:
                continue
            if not isinstance(values, dict) or not needed <= set(values) <= names:
                raise EvaluationError(
                    f'line {number} of {self.path} is no trial of this version: move the file away'
                )
            for name in ('plan_seconds', 'first_costs', 'last_costs'):
                values[name] = tuple(values[name])
            if values.get('refusals') is not None:
                values['refusals'] = tuple(values['refusals'])
            values['motions'] = tuple(Motion(**motion) for motion in values['motions'])
            trials.append(Trial(**values))
        return trials

    def pending(self, methods: Sequence[Method], seeds: Sequence[int]) -> dict[int, list[str]]:
        """Returns the names of the methods that have not attempted a seed yet, by seed.

        Seeds with nothing to do are left out.

        Raises:
            EvaluationError: If the file has trials of such a method with other settings.
        """
        digests = {method.name: method.digest for method in methods}
        done = set()
        for trial in self.read():
            if trial.digest != digests.get(trial.method, trial.digest):
                raise EvaluationError(
                    f'{self.path} has trials of {trial.method!r} with another model or other '
                    'settings: give another folder, or move the file away'
                )
            done.add((trial.method, trial.seed))
        missing = {seed: [name for name in digests if (name, seed) not in done] for seed in seeds}
        return {seed: names for seed, names in missing.items() if names}
