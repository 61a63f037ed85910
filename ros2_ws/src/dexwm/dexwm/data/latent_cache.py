"""Encoded frames on disk: a data set's pictures go through the encoder once."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from dexwm.data.actions import ActionOptions
from dexwm.data.batch import Batch, FrameBatch, assemble
from dexwm.data.episode import DatasetError, EpisodeDataset, EpisodeSource, Problem
from dexwm.data.frame_table import FrameTable
from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm.model.encoders.encoder import Encoder
from dexwm.model.encoders.projected import ProjectedEncoder

FORMAT_VERSION = 1

_INDEX = 'cache.json'
_PROGRESS = 'progress.jsonl'
_LATENTS = 'latents.f16'
_PICTURES = 'pictures.u8'
_TABLE = 'frames.npz'


@dataclass(frozen=True)
class CachedEpisode:
    """An episode of a cache.

    Attributes:
        name: what the data set calls it.
        start: place of its first frame in the cache.
        length: its frames.
        fps: frames per second.
        keypoints_supervised: whether its keypoints are a hand's that is in the pictures.
        digest: of its poses and keypoints.
    """

    name: str
    start: int
    length: int
    fps: float
    keypoints_supervised: bool
    digest: str


class LatentCache:
    """The encoded frames of a data set, with the truth about each; nothing else is read.

    Latents lie one after the other in one file that is mapped into memory: what fits there stays
    there after it was read once.

    Attributes:
        folder: where it is.
        encoder_name: name of the encoder.
        encoder_digest: of the encoder's weights and settings.
        image_size: rows and columns of the pictures that were encoded.
        grid: rows and columns of tokens; their product is P.
        dim: numbers per token, D.
        episodes: what it holds.
        table: truth of all N frames.
        latents: (N, P, D) float16.
        pictures: (N, h, w, 3) uint8, small pictures; None where it has none, or none were asked
            for.
        problems: episodes that could not be encoded, and why.
    """

    def __init__(
        self,
        folder: str | Path,
        encoder: Encoder | None = None,
        in_memory: bool = False,
        pictures: bool = True,
    ) -> None:
        """Opens a complete cache.

        Args:
            folder: where it is.
            encoder: the encoder whose latents these must be; None: any.
            in_memory: read all latents now.
            pictures: open its small pictures too, if it has any.

        Raises:
            DatasetError: where there is no complete cache, it is damaged, or another encoder's.
        """
        self.folder = Path(folder)
        index = _read_index(self.folder)
        self._in_memory, self._with_pictures = in_memory, pictures
        described = index['encoder']
        self.encoder_name = str(described['name'])
        self.encoder_digest = str(described['digest'])
        self.image_size: tuple[int, int] = tuple(described['image_size'])
        self.grid: tuple[int, int] = tuple(described['grid'])
        self.dim = int(described['dim'])
        if encoder is not None:
            self.require(encoder)
        self.episodes = tuple(CachedEpisode(**episode) for episode in index['episodes'])
        self.problems = [Problem(**problem) for problem in index['problems']]
        self.table = FrameTable.load(self.folder / _TABLE)
        frames = sum(episode.length for episode in self.episodes)
        if len(self.table) != frames:
            raise DatasetError(
                f'{self.folder / _TABLE} has {len(self.table)} frames, not {frames}: delete the '
                'folder and encode again'
            )
        shape = (frames, self.tokens, self.dim)
        self.latents: NDArray[np.float16] = _map(
            self.folder / _LATENTS, np.float16, shape, in_memory
        )
        self.pictures: NDArray[np.uint8] | None = None
        if pictures and index['picture_size'] is not None:
            size = (frames, *index['picture_size'], 3)
            self.pictures = _map(self.folder / _PICTURES, np.uint8, size, in_memory)
        self._starts = np.array([episode.start for episode in self.episodes])
        self._fps = np.array([episode.fps for episode in self.episodes])
        self._supervised = np.array([e.keypoints_supervised for e in self.episodes])

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapped file would be pickled as a copy of it.
        return (LatentCache, (self.folder, None, self._in_memory, self._with_pictures))

    @property
    def tokens(self) -> int:
        """Tokens of a frame, P."""
        return self.grid[0] * self.grid[1]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Frames of each episode."""
        return tuple(episode.length for episode in self.episodes)

    @property
    def fps(self) -> tuple[float, ...]:
        """Frames per second of each episode."""
        return tuple(episode.fps for episode in self.episodes)

    @property
    def object_names(self) -> tuple[str, ...]:
        """The kinds of objects that are columns of the truth."""
        return self.table.object_names

    def require(self, encoder: Encoder) -> None:
        """Checks that these are an encoder's latents.

        Raises:
            DatasetError: where they are another's.
        """
        if encoder.digest() != self.encoder_digest:
            raise DatasetError(
                f'{self.folder} holds latents of {self.encoder_name} with digest '
                f'{self.encoder_digest[:12]}, the encoder is {encoder.name} with digest '
                f'{encoder.digest()[:12]}: encode the data again with `dexwm encode`, or use the '
                'encoder that it was made with'
            )

    def show_objects(self, object_names: Sequence[str]) -> None:
        """Makes these kinds the columns of the truth, for a mixture with other data.

        Raises:
            DatasetError: where a kind in this cache would be lost.
        """
        self.table = self.table.with_objects(object_names)

    def rows(self, episodes: ArrayLike, frame_indices: ArrayLike) -> NDArray[np.int64]:
        """Places of frames in the cache.

        Args:
            episodes: (B,) numbers of episodes.
            frame_indices: (B, F) frames of each.

        Raises:
            IndexError: where an episode has no such frame.
        """
        numbers, frames = np.asarray(episodes), np.asarray(frame_indices)
        lengths = np.array(self.lengths)[numbers]
        if (frames < 0).any() or (frames >= lengths[:, None]).any():
            raise IndexError('a frame is not one of its episode')
        return self._starts[numbers][:, None] + frames

    def windows(
        self, episodes: ArrayLike, frame_indices: ArrayLike, options: ActionOptions
    ) -> Batch:
        """Windows with their latents.

        Args:
            episodes: (B,) numbers of episodes.
            frame_indices: (B, F) frames of each.
            options: what the model is told about a step.

        Raises:
            IndexError: where an episode has no such frame.
        """
        numbers = np.asarray(episodes, np.int64)
        frames = np.asarray(frame_indices, np.int64)
        rows = self.rows(numbers, frames)
        return assemble(
            self.table,
            rows,
            options,
            fps=self._fps[numbers],
            supervised=self._supervised[numbers],
            episode=numbers,
            frame_indices=frames,
            latents=self.latents[rows],
        )

    def frames(self, rows: ArrayLike) -> FrameBatch:
        """Single frames, by their places (B,) in the cache."""
        places = np.asarray(rows, np.int64)
        table = self.table.rows(places)
        numbers = np.searchsorted(self._starts, places, side='right') - 1
        return FrameBatch(
            features=torch.from_numpy(self.latents[places]),
            pictures=None if self.pictures is None else torch.from_numpy(self.pictures[places]),
            keypoint_pixels=torch.from_numpy(table.keypoint_pixels),
            keypoint_valid=torch.from_numpy(table.keypoint_visible),
            keypoint_depths=torch.from_numpy(table.keypoint_depths),
            keypoint_supervised=torch.from_numpy(self._supervised[numbers]),
            object_pixels=torch.from_numpy(table.object_pixels),
            object_valid=torch.from_numpy(table.object_visible),
            object_contact=torch.from_numpy(table.object_contact),
        )

    @classmethod
    def build(
        cls,
        dataset: EpisodeDataset,
        encoder: Encoder,
        folder: str | Path,
        *,
        batch_size: int = 16,
        processes: int = 0,
        device: torch.device | str = 'cpu',
        picture_size: tuple[int, int] | None = None,
        on_progress: Callable[[int, int, int], None] | None = None,
    ) -> LatentCache:
        """Encodes a data set, or goes on where an interrupted build stopped.

        A finished episode is never encoded again; episodes that the data set has got since are
        added. Those that cannot be read are left out and listed in `problems`, and tried again by
        the next call.

        Args:
            dataset: the episodes.
            encoder: what encodes them.
            folder: where the cache is written.
            batch_size: pictures encoded at once.
            processes: worker processes, each on one core; 0: this process, on `device`, while a
                thread decodes the next episode.
            device: where the encoder runs, for `processes=0`.
            picture_size: rows and columns of small pictures to keep as well.
            on_progress: called after each episode with episodes done, of how many, and frames
                encoded by this call.

        Returns:
            The complete cache.

        Raises:
            DatasetError: where the folder holds another encoder's or data set's cache, or no
                episode can be encoded.
            OSError: where the disk does not take it; what is finished is kept.
        """
        folder = Path(folder)
        header = {
            'format_version': FORMAT_VERSION,
            'encoder': _describe(encoder),
            'picture_size': None if picture_size is None else list(picture_size),
        }
        if (folder / _INDEX).exists():
            cache = cls(folder, encoder)
            if _read_index(folder)['picture_size'] != header['picture_size']:
                raise DatasetError(
                    f'{folder} was made with another size of small pictures: choose another '
                    'folder or delete this one'
                )
            finished = {e.name: e for e in cache.episodes}
            tables = _tables(dataset, finished, cache.image_size, folder)
            if len(dataset) <= len(tables):
                return cache
            _reopen(folder, header, cache.episodes)
        folder.mkdir(parents=True, exist_ok=True)
        appender = _Appender(folder, header)
        done = frozenset(appender.done)
        settings = _EncodeSettings(batch_size, picture_size)
        results = (
            _in_this_process(dataset, encoder, settings, torch.device(device), done)
            if processes == 0
            else _in_processes(dataset, encoder, settings, processes, done)
        )
        problems = list(dataset.problems)
        frames = 0
        for number, result in enumerate(results, 1):
            if isinstance(result, Problem):
                problems.append(result)
            elif result is not None:
                appender.append(result)
                frames += result.length
            if on_progress is not None:
                on_progress(number, len(dataset), frames)
        if not appender.done:
            raise DatasetError(
                'no episode could be encoded'
                + ''.join(f'\n  {problem}' for problem in problems[:10])
            )
        tables = _tables(dataset, appender.done, encoder.image_size, folder)
        episodes = list(appender.done.values())
        _finish(folder, header, episodes, FrameTable.concatenate(tables), problems)
        return cls(folder, encoder)

    def derive(
        self, encoder: ProjectedEncoder, folder: str | Path, batch_size: int = 256
    ) -> LatentCache:
        """The cache of an encoder that puts a projection behind this cache's encoder.

        Args:
            encoder: its backbone made this cache.
            folder: where the new cache is written; what is there is replaced.
            batch_size: frames projected at once, on the encoder's device.

        Raises:
            DatasetError: where the backbone is another than this cache's encoder, or latents are
                not finite.
            OSError: where the disk does not take it.
        """
        self.require(encoder.backbone)
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        (target / _INDEX).unlink(missing_ok=True)
        device = next(encoder.parameters()).device
        with (target / _LATENTS).open('wb') as file, torch.inference_mode():
            for start in range(0, len(self.latents), batch_size):
                features = torch.from_numpy(np.array(self.latents[start : start + batch_size]))
                projected = encoder.project(features.to(device).float())
                file.write(_as_float16(projected, encoder.name).tobytes())
            _sync(file)
        if self.pictures is not None:
            shutil.copyfile(self.folder / _PICTURES, target / _PICTURES)
        header = {
            'format_version': FORMAT_VERSION,
            'encoder': _describe(encoder),
            'picture_size': None if self.pictures is None else list(self.pictures.shape[1:3]),
        }
        _finish(target, header, list(self.episodes), self.table, self.problems)
        return LatentCache(target, encoder)


def share_objects(
    caches: Iterable[LatentCache], object_names: Iterable[str] = ()
) -> tuple[str, ...]:
    """Gives the truth of caches the same columns, so that their frames mix.

    Args:
        caches: which.
        object_names: kinds that have columns whether or not a cache knows them.

    Returns:
        The kinds, in the order of the columns.
    """
    known = list(caches)
    names = tuple(sorted({*object_names, *(n for cache in known for n in cache.object_names)}))
    for cache in known:
        cache.show_objects(names)
    return names


@dataclass(frozen=True)
class _EncodeSettings:
    batch_size: int
    picture_size: tuple[int, int] | None


@dataclass(frozen=True)
class _Encoded:
    """What comes of an episode."""

    name: str
    length: int
    fps: float
    keypoints_supervised: bool
    digest: str
    latents: NDArray[np.float16]
    pictures: NDArray[np.uint8] | None


@dataclass(frozen=True)
class _Loaded:
    """An episode whose pictures are ready for the encoder."""

    episode: EpisodeSource
    digest: str
    images: NDArray[np.uint8]


def _load(
    dataset: EpisodeDataset, index: int, image_size: tuple[int, int], done: Container[str]
) -> _Loaded | Problem | None:
    """An episode's pictures; None where it is done already."""
    name = f'episode {index}'
    try:
        episode = dataset[index]
        name = episode.name
        if name in done:
            return None
        digest = FrameTable.of_episode(episode, image_size).digest()
        return _Loaded(episode, digest, input_pictures(episode, image_size))
    except DatasetError as error:
        return Problem(name, str(error))


def input_pictures(
    episode: EpisodeSource, image_size: tuple[int, int], indices: ArrayLike | None = None
) -> NDArray[np.uint8]:
    """The input pictures of an episode, resized and cropped.

    Args:
        episode: where they are from.
        image_size: rows and columns of the input picture.
        indices: (n,) frames; None: all.

    Returns:
        (n, rows, columns, 3) uint8.

    Raises:
        DatasetError: where a picture cannot be read.
    """
    camera = episode.intrinsics
    step = ResizeAndCrop.to_cover(camera.width, camera.height, *image_size)
    frames = np.arange(episode.length) if indices is None else np.asarray(indices)
    return np.stack([step.apply(image) for image in episode.images(frames)])


def _encode(loaded: _Loaded, encoder: Encoder, settings: _EncodeSettings) -> _Encoded:
    device = next(encoder.parameters()).device
    parts = []
    with torch.inference_mode():
        for start in range(0, len(loaded.images), settings.batch_size):
            images = torch.from_numpy(loaded.images[start : start + settings.batch_size])
            parts.append(_as_float16(encoder(images.to(device)), encoder.name))
    pictures = None
    if settings.picture_size is not None:
        rows, columns = settings.picture_size
        pictures = np.stack(
            [
                cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.uint8)
                for image in loaded.images
            ]
        )
    episode = loaded.episode
    return _Encoded(
        episode.name,
        episode.length,
        float(episode.fps),
        bool(episode.keypoints_supervised),
        loaded.digest,
        np.concatenate(parts),
        pictures,
    )


def _as_float16(latents: torch.Tensor, encoder_name: str) -> NDArray[np.float16]:
    half = latents.to(torch.float16).cpu().numpy()
    if not np.isfinite(half).all():
        raise DatasetError(f'latents of {encoder_name} are not finite as float16')
    return half


def _in_this_process(
    dataset: EpisodeDataset,
    encoder: Encoder,
    settings: _EncodeSettings,
    device: torch.device,
    done: Container[str],
) -> Iterator[_Encoded | Problem | None]:
    encoder = encoder.to(device)
    with ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(_load, dataset, 0, encoder.image_size, done)
        for following in range(1, len(dataset) + 1):
            loaded = waiting.result()
            if following < len(dataset):
                waiting = ahead.submit(_load, dataset, following, encoder.image_size, done)
            yield _encode(loaded, encoder, settings) if isinstance(loaded, _Loaded) else loaded


def _in_processes(
    dataset: EpisodeDataset,
    encoder: Encoder,
    settings: _EncodeSettings,
    processes: int,
    done: Container[str],
) -> Iterator[_Encoded | Problem | None]:
    # A forked process would share the threads of torch, which then wait for ever.
    pool = ProcessPoolExecutor(
        processes,
        multiprocessing.get_context('spawn'),
        initializer=_start_worker,
        initargs=(dataset, encoder.to('cpu'), settings, done),
    )
    try:
        yield from pool.map(_work, range(len(dataset)))
    finally:
        pool.shutdown(cancel_futures=True)


_worker: tuple[EpisodeDataset, Encoder, _EncodeSettings, Container[str]]


def _start_worker(
    dataset: EpisodeDataset, encoder: Encoder, settings: _EncodeSettings, done: Container[str]
) -> None:
    global _worker
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _worker = (dataset, encoder, settings, done)


def _work(index: int) -> _Encoded | Problem | None:
    dataset, encoder, settings, done = _worker
    loaded = _load(dataset, index, encoder.image_size, done)
    return _encode(loaded, encoder, settings) if isinstance(loaded, _Loaded) else loaded


class _Appender:
    """Appends episodes to an unfinished cache; one counts once its line of progress is written."""

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        """Starts, or goes on behind the last finished episode.

        Raises:
            DatasetError: where the folder holds an unfinished cache of another kind.
        """
        self._folder = folder
        self.done: dict[str, CachedEpisode] = {}
        self._paths = [folder / _LATENTS]
        if header['picture_size'] is not None:
            self._paths.append(folder / _PICTURES)
        described = header['encoder']
        rows, columns = described['grid']
        frame_bytes = [rows * columns * described['dim'] * 2]
        if header['picture_size'] is not None:
            frame_bytes.append(int(np.prod(header['picture_size'])) * 3)
        progress = folder / _PROGRESS
        lines = _whole_lines(progress)
        if lines and json.loads(lines[0]) != json.loads(json.dumps(header)):
            raise DatasetError(
                f'{folder} holds an unfinished cache with another encoder or other settings: '
                'choose another folder or delete this one'
            )
        for line in lines[1:]:
            episode = CachedEpisode(**json.loads(line))
            self.done[episode.name] = episode
        self._frames = sum(episode.length for episode in self.done.values())
        # What was being written when it stopped goes.
        progress.write_text(''.join(f'{line}\n' for line in lines or [json.dumps(header)]))
        for path, size in zip(self._paths, frame_bytes, strict=True):
            path.touch()
            if path.stat().st_size < self._frames * size:
                raise DatasetError(f'{path} is shorter than {progress} says: delete {folder}')
            os.truncate(path, self._frames * size)

    def append(self, encoded: _Encoded) -> None:
        """Adds an episode and waits until it is on the disk."""
        for path, values in zip(self._paths, (encoded.latents, encoded.pictures), strict=False):
            assert values is not None
            with path.open('ab') as file:
                file.write(values.tobytes())
                _sync(file)
        episode = CachedEpisode(
            encoded.name,
            self._frames,
            encoded.length,
            encoded.fps,
            encoded.keypoints_supervised,
            encoded.digest,
        )
        with (self._folder / _PROGRESS).open('a') as lines:
            lines.write(json.dumps(asdict(episode)) + '\n')
            _sync(lines)
        self._frames += encoded.length
        self.done[encoded.name] = episode


def _whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    text = path.read_text()
    return text[: text.rfind('\n') + 1].splitlines()


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _describe(encoder: Encoder) -> dict[str, Any]:
    return {
        'name': encoder.name,
        'digest': encoder.digest(),
        'image_size': list(encoder.image_size),
        'grid': list(encoder.grid),
        'dim': encoder.dim,
    }


def _tables(
    dataset: EpisodeDataset,
    episodes: Mapping[str, CachedEpisode],
    image_size: tuple[int, int],
    folder: Path,
) -> list[FrameTable]:
    """The truth of each encoded episode in their order.

    Raises:
        DatasetError: where the data set is no longer the one that was encoded.
    """
    found: dict[str, FrameTable] = {}
    for index in range(len(dataset)):
        try:
            episode = dataset[index]
        except DatasetError:
            continue
        if episode.name in episodes:
            found[episode.name] = FrameTable.of_episode(episode, image_size)
    changed = [
        name
        for name, episode in episodes.items()
        if name not in found or found[name].digest() != episode.digest
    ]
    if changed:
        raise DatasetError(
            f'{folder} was made from other data: {len(changed)} episodes are gone or changed, '
            f'first {changed[0]}; delete the folder or choose another'
        )
    return [found[name] for name in episodes]


def _finish(
    folder: Path,
    header: Mapping[str, Any],
    episodes: Sequence[CachedEpisode],
    table: FrameTable,
    problems: Sequence[Problem],
) -> None:
    """Writes truth and index; with the index the cache is complete."""
    table.save(folder / _TABLE)
    index = {
        **header,
        'episodes': [asdict(episode) for episode in episodes],
        'problems': [asdict(problem) for problem in problems],
    }
    part = folder / f'{_INDEX}.part'
    with part.open('w') as file:
        json.dump(index, file, indent=1)
        _sync(file)
    part.replace(folder / _INDEX)
    (folder / _PROGRESS).unlink(missing_ok=True)


def _reopen(folder: Path, header: Mapping[str, Any], episodes: Sequence[CachedEpisode]) -> None:
    """Makes an unfinished cache of a finished one, so that episodes can be added."""
    lines = [json.dumps(header), *(json.dumps(asdict(episode)) for episode in episodes)]
    part = folder / f'{_PROGRESS}.part'
    with part.open('w') as file:
        file.write(''.join(f'{line}\n' for line in lines))
        _sync(file)
    part.replace(folder / _PROGRESS)
    (folder / _INDEX).unlink()


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / _INDEX
    if not path.exists():
        state = 'is not finished' if (folder / _PROGRESS).exists() else 'is not there'
        raise DatasetError(
            f'the cache {folder} {state}: run `dexwm encode` for it, finished episodes are kept'
        )
    try:
        index: dict[str, Any] = json.loads(path.read_text())
        version = index['format_version']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f'{path} cannot be read: {error!r}') from error
    if version != FORMAT_VERSION:
        raise DatasetError(
            f'{path} has format {version}, this version reads {FORMAT_VERSION}: encode again'
        )
    return index


def _map(
    path: Path, dtype: type[np.generic], shape: tuple[int, ...], in_memory: bool
) -> NDArray[Any]:
    expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
    size = path.stat().st_size if path.exists() else -1
    if size != expected:
        state = 'is missing' if size < 0 else f'has {size} bytes, not {expected}'
        raise DatasetError(f'{path} {state}: delete the folder and encode again')
    if in_memory:
        return np.fromfile(path, dtype).reshape(shape)
    return np.memmap(path, dtype, 'r', shape=shape)
