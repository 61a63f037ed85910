"""The training loop."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.optim import AdamW

from dexwm.training import batch_parts
from dexwm.training.ema import MovingAverage
from dexwm.training.flops import count_flops, measure_peak_flops
from dexwm.training.metrics_log import MetricsLog
from dexwm.training.progress import TrainingProgress
from dexwm.training.recipe import BaseRecipe, Phase
from dexwm.training.schedule import one_cycle
from dexwm.training.state import gather, read_state, scatter, whole, write_state
from dexwm.training.stream import BatchSource
from dexwm.training.task import Task

MODEL_FOLDER = 'model'
"""Where in a training's folder the model is."""


class TrainingError(RuntimeError):
    """A training that cannot go on."""


class Trainer:
    """Takes the steps of a recipe, and can be killed at any time.

    What a step does depends on the weights, the optimisers' state, the step's number and the
    batch alone: all that is drawn is seeded anew in each step. So a training that goes on from
    its saved state ends with the same weights as one that was never interrupted.
    """

    def __init__(
        self,
        recipe: BaseRecipe,
        fabric: Fabric,
        task: Task,
        source: BatchSource,
        folder: Path,
        console: Console,
    ) -> None:
        """Prepares the training, and takes its state up if there is one.

        Args:
            recipe: What to do.
            fabric: Launched.
            task: What is trained, with its initial weights, the same in every process.
            source: Where batches come from.
            folder: Of this training; what is in it is gone on with.
            console: Where the first process shows how it goes.

        Raises:
            StateError: If there is a state that cannot be taken up.
            TrainingError: If the recipe does not fit the devices or the data.
        """
        self._recipe, self._fabric, self._task, self._source = recipe, fabric, task, source
        self._folder, self._console = folder, console
        self._phases: tuple[Phase, ...] = tuple(recipe.phases)
        self._check_sizes()
        self._ends = np.cumsum([self._steps_of(phase) for phase in self._phases]).tolist()
        self._step = 0
        self._stop_wanted = self._stopping = self._saving = False
        self._stream_state: dict[str, Any] | None = None
        spread = recipe.engine.strategy == 'fsdp' and fabric.world_size > 1
        self._twin = copy.deepcopy(task) if spread and fabric.is_global_zero else None

        task.to(fabric.device).train()
        self._flops: dict[Phase, int] = {}
        self._peak = 0.0
        self._measure_arithmetic()
        if recipe.engine.activation_checkpointing:
            task.checkpoint_activations()
        if recipe.engine.compile:
            for part in task.compiled():
                part.compile()
        self._module = fabric.setup_module(task)
        self._optimisers = {turn: self._optimiser(turn) for turn in task.turns}
        trained = [p for p in task.trained(task.turns[0]).parameters() if p.requires_grad]
        decay = recipe.ema_decay
        self._average = None if decay is None else MovingAverage(trained, decay)
        self._resume()
        self._saved_at, self._saved_time = self._step, time.monotonic()

    @property
    def step(self) -> int:
        """Steps taken."""
        return self._step

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return int(self._ends[-1])

    def run(self) -> bool:
        """Trains to the end, or until SIGTERM or SIGINT asks to stop.

        Returns:
            Whether the end was reached. The state is saved in both cases, and the model.

        Raises:
            TrainingError: If a loss or gradient is not finite; the state saved before is kept.
            StateError: If the state cannot be written.
        """
        if self._step == self.steps:
            return True
        first = self._fabric.is_global_zero
        with ExitStack() as stack:
            stack.enter_context(self._signals())
            log = stack.enter_context(MetricsLog(self._folder, self._step)) if first else None
            shown = TrainingProgress(self._console, self._step, self.steps) if first else None
            if shown is not None:
                stack.enter_context(shown)
            report = _Report(self._recipe.log_every_steps, log, shown)
            for index, phase in enumerate(self._phases):
                if self._step < self._ends[index] and not self._stopping:
                    self._run_phase(index, phase, report)
            self._save()
        return self._step == self.steps

    def _run_phase(self, index: int, phase: Phase, report: _Report) -> None:
        processes = self._fabric.world_size
        stream = self._source.training(
            phase, phase.batch_size // processes, self._fabric.global_rank, processes
        )
        if self._stream_state is not None:
            stream.load_state_dict(self._stream_state)
        every = None if self._recipe.validation is None else self._recipe.validation.every_steps
        while self._step < self._ends[index] and not self._stopping:
            begin = time.perf_counter()
            losses = self._take_step(index, phase, next(stream))
            report.add(losses, time.perf_counter() - begin)
            self._stream_state = stream.state_dict()
            ended = self._step == self._ends[index]
            if report.is_due(self._step) or ended:
                self._report(report, phase)
            if every is not None and (self._step % every == 0 or ended):
                report.write(self._step, 'validation', self._validate())
            if ended:
                self._stream_state = None
            if self._saving and self._step < self.steps:
                self._save()

    def _take_step(self, index: int, phase: Phase, batch: Any) -> dict[str, Tensor]:
        begin = self._ends[index - 1] if index else 0
        rate = one_cycle(
            self._step - begin,
            self._ends[index] - begin,
            phase.learning_rate,
            phase.final_learning_rate,
            phase.warmup_steps,
        )
        torch.manual_seed(self._seed_of_step())
        batch = batch_parts.to_device(batch, self._fabric.device)
        losses: dict[str, Tensor] = {}
        for turn, optimiser in self._optimisers.items():
            for group in optimiser.param_groups:
                group['lr'] = rate
            losses |= self._accumulate(batch, phase, turn)
            clip = self._recipe.optimiser.clip_norm
            norm = self._fabric.clip_gradients(
                self._task.trained(turn),
                optimiser,
                max_norm=math.inf if clip is None else clip,
                error_if_nonfinite=False,
            )
            assert norm is not None
            losses[self._name('gradient_norm', turn)] = whole(norm)
            self._agree(batch, losses)
            optimiser.step()
            # A turn leaves gradients in the modules of the others, too.
            self._task.zero_grad()
        if self._average is not None:
            self._average.update()
        self._step += 1
        return {**losses, 'learning_rate': torch.tensor(rate)}

    def _accumulate(self, batch: Any, phase: Phase, turn: str) -> dict[str, Tensor]:
        """Adds gradients up over the parts of a batch; returns the means of the losses."""
        size = batch_parts.batch_size(batch)
        parts = batch_parts.split(batch, self._recipe.engine.micro_batch_size or size)
        means: dict[str, Tensor] = {}
        for index, part in enumerate(parts):
            share = batch_parts.batch_size(part) / size
            with self._fabric.no_backward_sync(self._module, enabled=index < len(parts) - 1):
                with self._autocast():
                    losses = self._module(part, phase, turn)
                self._fabric.backward(losses['loss'] * share)
            for name, value in losses.items():
                key = self._name(name, turn)
                means[key] = means.get(key, 0.0) + value.detach() * share
        return means

    def _name(self, figure: str, turn: str) -> str:
        return figure if len(self._optimisers) == 1 else f'{turn}/{figure}'

    def _agree(self, batch: Any, figures: Mapping[str, Tensor]) -> None:
        """Stops all processes together if one met a figure that is not finite.

        They also agree on when to stop and to save.
        """
        values = torch.stack([value.float().cpu() for value in figures.values()])
        finite = dict(zip(figures, values.isfinite().tolist(), strict=True))
        wrong = [name for name, is_finite in finite.items() if not is_finite]
        flags = [bool(wrong), self._stop_wanted, self._saving or self._save_is_due()]
        if self._fabric.world_size > 1:
            votes = torch.tensor(flags, dtype=torch.float32, device=self._fabric.device)
            total = self._fabric.all_reduce(votes, reduce_op='sum')
            assert isinstance(total, Tensor)
            flags = [vote > 0 for vote in total.tolist()]
        anywhere, self._stopping, self._saving = flags
        if not anywhere:
            return
        saved = (
            f'the state of step {self._saved_at} is kept' if self._saved_at else 'none was saved'
        )
        raise TrainingError(
            f'step {self._step + 1}: {", ".join(wrong) or "a figure of another process"} '
            f'is not finite. {_blamed(batch)} In {self._folder}, {saved}.'
        )

    def _save_is_due(self) -> bool:
        saving = self._recipe.saving
        steps, minutes = saving.every_steps, saving.every_minutes
        # Asked within a step that is not counted yet.
        if steps is not None and (self._step + 1) % steps == 0:
            return True
        return minutes is not None and time.monotonic() - self._saved_time > 60.0 * minutes

    def _save(self) -> None:
        """Saves model and state: a state is never newer than the model beside it."""
        with ExitStack() as stack:
            if self._average is not None:
                stack.enter_context(self._average.applied())
            weights = gather(self._task, {})['module'] if self._is_spread() else None
            if self._twin is not None and weights is not None:
                self._twin.load_state_dict(weights, strict=False)
            if self._fabric.is_global_zero:
                (self._twin or self._task).save(self._folder / MODEL_FOLDER)
        state = {
            'step': self._step,
            'recipe': self._recipe.model_dump(mode='json'),
            'stream': self._stream_state,
            'average': None if self._average is None else self._average.state_dict(),
            **gather(self._task, self._optimisers_inside()),
        }
        if self._fabric.is_global_zero:
            write_state(self._folder, state)
        self._fabric.barrier()
        self._saved_at, self._saved_time, self._saving = self._step, time.monotonic(), False

    def _resume(self) -> None:
        state = read_state(self._folder)
        if state is None:
            return
        scatter(state, self._task, self._optimisers_inside())
        if self._average is not None:
            self._average.load_state_dict(state['average'])
        self._step, self._stream_state = state['step'], state['stream']

    def _validate(self) -> dict[str, float]:
        fabric = self._fabric
        sums: dict[str, Tensor] = {}
        self._task.eval()
        with torch.no_grad(), self._autocast(), ExitStack() as stack:
            if self._average is not None:
                stack.enter_context(self._average.applied())
            for batch in self._source.validation(fabric.global_rank, fabric.world_size):
                batch = batch_parts.to_device(batch, fabric.device)
                for name, value in self._task.validate(batch).items():
                    sums[name] = sums.get(name, 0.0) + value.double()
            # Weights gathered for the last forward pass would be used again in training.
            if isinstance(self._task, FSDPModule):
                self._task.reshard()
        self._task.train()
        if fabric.world_size > 1:
            names = sorted(sums)
            total = fabric.all_reduce(torch.stack([sums[name] for name in names]), reduce_op='sum')
            assert isinstance(total, Tensor)
            sums = dict(zip(names, total, strict=True))
        return self._task.summary({name: float(value) for name, value in sums.items()})

    def _report(self, report: _Report, phase: Phase) -> None:
        means, steps, seconds = report.take()
        if self._fabric.world_size > 1:
            names = sorted(means)
            values = torch.tensor([means[name] for name in names], device=self._fabric.device)
            total = self._fabric.all_reduce(values, reduce_op='mean')
            assert isinstance(total, Tensor)
            means = dict(zip(names, total.tolist(), strict=True))
        rate = steps * phase.batch_size / seconds
        used = rate * self._flops[phase]
        figures = {
            **means,
            'windows_per_second': rate,
            'flops_per_second': used,
            'utilisation': used / (self._peak * self._fabric.world_size),
        }
        report.write(self._step, 'train', figures)

    def _check_sizes(self) -> None:
        processes = self._fabric.world_size
        for index, phase in enumerate(self._phases):
            if phase.batch_size % processes:
                raise TrainingError(
                    f'phases.{index}.batch_size: {phase.batch_size} windows cannot be shared by '
                    f'{processes} devices evenly'
                )

    def _steps_of(self, phase: Phase) -> int:
        if phase.steps is not None:
            return phase.steps
        assert phase.epochs is not None
        return max(1, round(phase.epochs * self._source.windows_per_epoch() / phase.batch_size))

    def _measure_arithmetic(self) -> None:
        """Counts the arithmetic of a window in every phase, and the device's peak."""
        fabric, engine = self._fabric, self._recipe.engine
        for phase in self._phases:
            stream = self._source.training(phase, 1, 0, 1)
            batch = batch_parts.to_device(next(stream), fabric.device)

            def call(phase: Phase = phase, batch: Any = batch) -> None:
                for turn in self._task.turns:
                    with self._autocast():
                        loss = self._task(batch, phase, turn)['loss']
                    loss.backward()

            torch.manual_seed(self._recipe.seed)
            self._flops[phase] = count_flops(call)
            self._task.zero_grad()
        dtype = torch.bfloat16 if engine.precision == 'bf16-mixed' else torch.float32
        self._peak = engine.peak_flops or measure_peak_flops(fabric.device, dtype)
        if fabric.is_global_zero:
            source = 'as the recipe says' if engine.peak_flops else 'measured'
            flops = ', '.join(f'{self._flops[phase] / 1e9:.3g}' for phase in self._phases)
            self._console.print(
                f'{flops} GFLOP a window and step; peak of a device '
                f'{self._peak / 1e12:.3g} TFLOP/s ({source})'
            )

    def _autocast(self) -> torch.autocast:
        mixed = self._recipe.engine.precision == 'bf16-mixed'
        return torch.autocast(self._fabric.device.type, torch.bfloat16, enabled=mixed)

    def _optimiser(self, turn: str) -> Any:
        settings = self._recipe.optimiser
        parameters = [p for p in self._task.trained(turn).parameters() if p.requires_grad]
        optimiser = AdamW(
            parameters, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
        )
        return self._fabric.setup_optimizers(optimiser)

    def _optimisers_inside(self) -> dict[str, Any]:
        return {turn: optimiser.optimizer for turn, optimiser in self._optimisers.items()}

    def _is_spread(self) -> bool:
        return self._recipe.engine.strategy == 'fsdp' and self._fabric.world_size > 1

    def _seed_of_step(self) -> int:
        entropy = [self._recipe.seed, self._step, self._fabric.global_rank]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ends the training after the present step when asked to."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._stop_wanted = True

        before = {
            number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Report:
    """Collects figures of steps, and hands them to log and progress bar."""

    def __init__(self, every: int, log: MetricsLog | None, shown: TrainingProgress | None) -> None:
        self._every, self._log, self._shown = every, log, shown
        self._sums: dict[str, Tensor] = {}
        self._steps, self._seconds = 0, 0.0

    def add(self, figures: Mapping[str, Tensor], seconds: float) -> None:
        """Takes the figures of a step that took so long."""
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1
        self._seconds += seconds
        if self._shown is not None:
            self._shown.advance()

    def is_due(self, step: int) -> bool:
        """Whether a line of figures is to be written."""
        return step % self._every == 0

    def take(self) -> tuple[dict[str, float], int, float]:
        """Means since the last time, of how many steps, and how long they took (s)."""
        steps, seconds = self._steps, self._seconds
        means = {name: float(value) / steps for name, value in self._sums.items()}
        self._sums, self._steps, self._seconds = {}, 0, 0.0
        return means, steps, seconds

    def write(self, step: int, group: str, figures: Mapping[str, float]) -> None:
        """Writes figures, in the first process."""
        if self._log is not None:
            self._log.write(step, group, figures)
        if self._shown is not None:
            self._shown.show(group, figures)


def _blamed(batch: Any) -> str:
    """Says which inputs were not finite."""
    found = batch_parts.not_finite(batch)
    if not found:
        return 'All inputs were: lower the learning rate, or clip the gradient.'
    parts = [
        f'{name} of windows {rows} (the first: {batch_parts.origin(batch, rows[0])})'
        for name, rows in found.items()
    ]
    return f'Nor are inputs: {"; ".join(parts)}.'
