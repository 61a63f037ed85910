"""Data sets by the name of their format."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from dexwm.data.droid import DroidDataset
from dexwm.data.egodex import EgoDexDataset
from dexwm.data.episode import DatasetError, EpisodeDataset
from dexwm.data.recording import RecordingDataset, Split
from dexwm.data.robocasa import RoboCasaDataset

DatasetKind = Literal['recording', 'egodex', 'droid', 'robocasa']


def open_dataset(kind: DatasetKind, root: str | Path, split: Split = 'train') -> EpisodeDataset:
    """Opens a data set with the usual choices; its class offers more.

    Args:
        kind: its format.
        root: its folder.
        split: 'train', 'held_out' or 'all'. EgoDex holds its own `test` out; DROID and RoboCasa
            hold nothing out, there is only 'all' of them, and 'train' means the same.

    Raises:
        DatasetError: where there is no such format or split, or nothing to read.
    """
    if kind not in get_args(DatasetKind):
        raise DatasetError(f'no data set {kind!r}: choose {", ".join(get_args(DatasetKind))}')
    if kind == 'recording':
        return RecordingDataset(root, split)
    if kind == 'egodex':
        if split == 'all':
            raise DatasetError("EgoDex is opened as 'train' or 'held_out' (its test part)")
        return EgoDexDataset(root, 'train' if split == 'train' else 'test')
    if split == 'held_out':
        raise DatasetError(f'{kind} holds nothing out: name another folder to validate on')
    return DroidDataset(root) if kind == 'droid' else RoboCasaDataset(root)
