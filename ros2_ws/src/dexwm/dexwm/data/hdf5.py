"""Reading HDF5 files whose content nobody has checked yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from dexwm.data.episode import DatasetError


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Opens a file for reading; whatever is wrong with it is a `DatasetError` that names it.

    Raises:
        DatasetError: where the file is missing or damaged, also while it is read in the block.
    """
    try:
        with h5py.File(path, 'r') as file:
            yield file
    except DatasetError as error:
        raise DatasetError(f'{path}: {error}') from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DatasetError(f'{path} cannot be read: {error}') from error


def get_dataset(group: h5py.Group, key: str) -> h5py.Dataset:
    """A dataset of a group, not yet read.

    Raises:
        DatasetError: where the group holds no dataset of that name.
    """
    if key not in group or not isinstance(group[key], h5py.Dataset):
        raise DatasetError(f'{group.name.rstrip("/")}/{key} is missing')
    return group[key]


def read_array(group: h5py.Group, key: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """Reads a whole dataset of finite numbers.

    Args:
        group: the file or a group of it.
        key: the dataset's name in the group.
        shape: what it must have; None is any size.

    Returns:
        The values as float64.

    Raises:
        DatasetError: where it is missing, has another shape, or a value is not finite.
    """
    dataset = get_dataset(group, key)
    agrees = len(dataset.shape) == len(shape) and all(
        wanted is None or wanted == size for wanted, size in zip(shape, dataset.shape, strict=True)
    )
    if not agrees:
        wanted = ', '.join('any' if size is None else str(size) for size in shape)
        raise DatasetError(f'{dataset.name} must have shape ({wanted}), got {dataset.shape}')
    values: NDArray[np.float64] = dataset[()].astype(np.float64)
    finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise DatasetError(f'{dataset.name} is not finite, first at row {row}')
    return values
