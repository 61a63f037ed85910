"""Training: windows a second, utilisation and memory, by size of the predictor and device.

Steps of the optimiser (AdamW, window loss, float32 on a CPU and bf16 on a GPU) on random latents
that lie ready: what the arithmetic alone allows. On a CPU the small predictors with the small
encoder's latents (84 tokens of 128), on a GPU the paper's with DINOv2-L's (448 of 1024). The
utilisation is that of products of large matrices on the same device, measured between the others
and the best taken.
Memory is what lives through a step: weights, gradients, averages of the optimiser and what the
backward pass needs of the forward pass, counted tensor by tensor; on a GPU also the peak that
its allocator saw.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import torch
from torch.autograd.graph import saved_tensors_hooks

from benchmarks.measurement import Measurement, Settings
from dexwm.model.losses import state_loss
from dexwm.model.predictor import SIZES, Predictor, PredictorConfig
from dexwm.training.flops import count_flops, measure_peak_flops

SECONDS = 10.0
FRAMES = 9

_GIB = 2**30


@dataclass(frozen=True)
class _Case:
    """What is measured on a kind of device."""

    sizes: tuple[str, ...]
    batches: tuple[int, ...]
    tokens: int
    latent_dim: int
    action_dim: int
    dtype: torch.dtype


_CASES = {
    'cpu': _Case(('tiny', 'mini'), (1, 4), 84, 128, 258, torch.float32),
    'cuda': _Case(('S', 'B', 'L', 'XL'), (1, 4, 16), 448, 1024, 132, torch.bfloat16),
}


def run(settings: Settings) -> list[Measurement]:
    """Measures."""
    seconds = settings.seconds or SECONDS
    device, case = _here()
    where = torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU'
    settings.console.print(f'  {where}, {torch.get_num_threads()} threads, {seconds:g} s each')
    peak = 0.0
    measurements, flops = [], {}
    for size in case.sizes:
        for batch in case.batches:
            peak = max(peak, measure_peak_flops(device, case.dtype))
            training = _Training(size, batch, case, device)
            measurements += _memory(training)
            rate = training.steps_per_second(seconds)
            flops[training.name] = rate * training.flops()
            name = f'training, {training.name}'
            measurements.append(Measurement(name, rate * batch, 'windows/s'))
    return [
        Measurement(f'products of matrices, {where}', peak / 1e12, 'TFLOP/s'),
        *measurements,
        *(Measurement(f'utilisation, {n}', used / peak * 100, '%') for n, used in flops.items()),
    ]


def smallest_demand(seconds: float) -> float:
    """Frames a second that training of the smallest predictor takes on this machine."""
    device, case = _here()
    training = _Training(case.sizes[0], case.batches[-1], case, device)
    return training.steps_per_second(seconds) * training.batch * FRAMES


class _Training:
    """A predictor with an optimiser, and one batch."""

    def __init__(self, size: str, batch: int, case: _Case, device: torch.device) -> None:
        torch.manual_seed(0)
        self.batch = batch
        self.name = f'{size}, batch {batch}'
        self._device, self._dtype = device, case.dtype
        config = PredictorConfig(
            case.latent_dim, case.tokens, action_dim=case.action_dim, **asdict(SIZES[size])
        )
        self._predictor = Predictor(config).to(device)
        self._optimiser = torch.optim.AdamW(self._predictor.parameters(), fused=True)
        shape = (batch, FRAMES, case.tokens, case.latent_dim)
        self._latents = torch.randn(shape, device=device)
        self._actions = torch.randn(batch, FRAMES - 1, case.action_dim, device=device)

    def step(self) -> None:
        """One step, to its end."""
        self._optimiser.zero_grad()
        self._loss().backward()
        self._optimiser.step()
        if self._device.type == 'cuda':
            torch.cuda.synchronize()

    def steps_per_second(self, seconds: float) -> float:
        """Takes steps for so long."""
        self.step()
        steps, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            self.step()
            steps += 1
        return steps / (time.perf_counter() - begin)

    def flops(self) -> int:
        """Of a step."""
        return count_flops(lambda: self._loss().backward())

    def bytes_kept(self) -> int:
        """Of weights, gradients, the optimiser's two averages, and kept activations."""
        parameters = list(self._predictor.parameters())
        weights = {parameter.untyped_storage().data_ptr() for parameter in parameters}
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor):
            # Alive until all is counted, so that no address comes twice.
            loss = self._loss()
        del loss
        held = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
        return sum(kept.values()) + 4 * held

    def _loss(self) -> torch.Tensor:
        mixed = self._dtype != torch.float32
        with torch.autocast(self._device.type, self._dtype, enabled=mixed):
            predicted = self._predictor(self._latents, self._actions)
            return state_loss(predicted, self._latents[:, 1:])


def _here() -> tuple[torch.device, _Case]:
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    return device, _CASES[device.type]


def _memory(training: _Training) -> list[Measurement]:
    kept = Measurement(f'memory, {training.name}', training.bytes_kept() / _GIB, 'GiB')
    if not torch.cuda.is_available():
        return [kept]
    torch.cuda.reset_peak_memory_stats()
    training.step()
    allocated = torch.cuda.max_memory_allocated() / _GIB
    return [kept, Measurement(f'allocated at most, {training.name}', allocated, 'GiB')]
