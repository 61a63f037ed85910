"""How much arithmetic a model asks for, and how much a device does."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in a call.

    A multiplication and an addition are two. Backward passes within the call count. Attention is
    forced into its plain form, the only one whose products are visible on every device; it
    counts in full, masked parts included. Run without activation checkpointing, or the
    recomputation counts too.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops()


def measure_peak_flops(
    device: torch.device, dtype: torch.dtype, size: int | None = None, repetitions: int = 20
) -> float:
    """FLOP/s of square matrix products on a device: the best of some repetitions.

    What this process gets, with its threads and beside whatever else runs; not a data sheet's
    figure.

    Args:
        device: Where.
        dtype: Of the factors.
        size: Rows and columns; None: 768 on a CPU, 8192 elsewhere.
        repetitions: How many products are timed, after one that is not.
    """
    if size is None:
        size = 768 if device.type == 'cpu' else 8192
    factor = torch.ones(size, size, device=device, dtype=dtype)
    best = float('inf')
    for repetition in range(repetitions + 1):
        begin = time.perf_counter()
        product = factor @ factor
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        elapsed = time.perf_counter() - begin
        del product
        if repetition:
            best = min(best, elapsed)
    return 2.0 * size**3 / best
