"""Data sets by the name of their format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from dexwm.data.droid import DroidDataset
from dexwm.data.egodex import EgoDexDataset
from dexwm.data.episode import DatasetError, EpisodeDataset
from dexwm.data.recording import RecordingDataset, Split
from dexwm.data.robocasa import RoboCasaDataset
from dexwm.geometry.camera import CameraIntrinsics, CameraIntrinsicsError

DatasetKind = Literal['recording', 'egodex', 'droid', 'robocasa']

OPTIONS: Mapping[DatasetKind, tuple[str, ...]] = {
    'recording': (),
    'egodex': ('min_confidence',),
    'droid': ('outcome', 'intrinsics'),
    'robocasa': ('fps', 'filter_key', 'intrinsics'),
}
"""What can be asked of the readers, see their classes."""


def open_dataset(
    kind: DatasetKind,
    root: str | Path,
    split: Split = 'train',
    options: Mapping[str, Any] | None = None,
) -> EpisodeDataset:
    """Opens a data set.

    Args:
        kind: its format.
        root: its folder.
        split: 'train', 'held_out' or 'all'. EgoDex holds its own `test` out; DROID and RoboCasa
            hold nothing out, there is only 'all' of them, and 'train' means the same.
        options: of the format's reader, see `OPTIONS`; `intrinsics` is a mapping of
            `CameraIntrinsics`' attributes.

    Raises:
        DatasetError: where there is no such format, split or option, or nothing to read.
    """
    if kind not in get_args(DatasetKind):
        raise DatasetError(f'no data set {kind!r}: choose {", ".join(get_args(DatasetKind))}')
    settings = dict(options or {})
    for name in settings:
        if name not in OPTIONS[kind]:
            known = ', '.join(OPTIONS[kind]) or 'none'
            raise DatasetError(f'{kind} has no option {name!r}; it has: {known}')
    if 'intrinsics' in settings:
        try:
            settings['intrinsics'] = CameraIntrinsics(**settings['intrinsics'])
        except (TypeError, CameraIntrinsicsError) as error:
            raise DatasetError(
                f'intrinsics are given as {{width, height, fx, fy, cx, cy}}, pixels: {error}'
            ) from error
    if kind == 'recording':
        return RecordingDataset(root, split)
    if kind == 'egodex':
        if split == 'all':
            raise DatasetError("EgoDex is opened as 'train' or 'held_out' (its test part)")
        return EgoDexDataset(root, 'train' if split == 'train' else 'test', **settings)
    if split == 'held_out':
        raise DatasetError(f'{kind} holds nothing out: name another folder to validate on')
    if kind == 'droid':
        return DroidDataset(root, **settings)
    return RoboCasaDataset(root, **settings)
