"""What a plan is computed with, as far as it decides over its last bits."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import torch


@dataclass(frozen=True)
class ComputeSetup:
    """The same setup gives the same plan, bit for bit.

    Attributes:
        device: cpu or cuda.
        processor: name of the CPU or GPU.
        capability: instructions that PyTorch uses on the CPU, such as AVX512.
        threads: of PyTorch on the CPU: they decide the order of sums.
        torch: version of PyTorch.
        dexwm: version of this library.
    """

    device: str
    processor: str
    capability: str
    threads: int
    torch: str
    dexwm: str

    @classmethod
    def of_this_process(cls, device: str) -> ComputeSetup:
        """How this process computes on a device."""
        on_gpu = torch.device(device).type == 'cuda'
        try:
            own = version('dexwm')
        except PackageNotFoundError:
            own = 'unknown'
        return cls(
            device=torch.device(device).type,
            processor=torch.cuda.get_device_name(device) if on_gpu else _processor(),
            capability=torch.backends.cpu.get_cpu_capability(),
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            dexwm=own,
        )

    def differences(self, other: ComputeSetup) -> list[str]:
        """What is not the same in another setup, one line each."""
        mine, others = asdict(self), asdict(other)
        return [
            f'{name}: {mine[name]}, now {others[name]}'
            for name in mine
            if mine[name] != others[name]
        ]


def _processor() -> str:
    """The CPU's name as Linux has it, elsewhere as Python does."""
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            for line in file:
                if line.startswith('model name'):
                    return line.partition(':')[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
