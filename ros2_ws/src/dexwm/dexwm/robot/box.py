"""A box in the robot's workspace that the robot keeps out of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in the frame ``base``.

    Attributes:
        name: Unique name, used in messages.
        size: Full edge lengths (3,), m.
        position: Centre (3,) in ``base``, m.

    Raises:
        ValueError: No name, a wrong shape, or an edge that is not positive.
    """

    name: str
    size: NDArray[np.float64]
    position: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError('a box needs a name')
        for field in ('size', 'position'):
            values = np.array(getattr(self, field), dtype=np.float64)
            if values.shape != (3,) or not np.isfinite(values).all():
                raise ValueError(
                    f'box {self.name}: {field} must be 3 finite numbers, got {values}'
                )
            values.setflags(write=False)
            object.__setattr__(self, field, values)
        if (self.size <= 0.0).any():
            raise ValueError(f'box {self.name}: edges must be positive, got {self.size}')
