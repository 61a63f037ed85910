"""Pictures of a video by their number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import ArrayLike, NDArray

from dexwm.data.episode import DatasetError


@dataclass(frozen=True)
class _Entry:
    """A picture in the file: when it is shown, when its group starts, and where to seek."""

    pts: int
    keyframe_pts: int
    seek_dts: int


class Video:
    """A video file whose pictures are numbered in the order in which they are shown.

    The table of pictures is read once, without decoding. A video may be copied to another
    process: the file is open only while something is read.

    Attributes:
        path: the file.
        width: columns of a picture.
        height: rows of a picture.
        fps: pictures per second, as the file says.
    """

    def __init__(self, path: str | Path) -> None:
        """Reads the table of pictures.

        Raises:
            DatasetError: where the file is missing, truncated, or holds no video.
        """
        self.path = Path(path)
        try:
            with av.open(str(self.path)) as container:
                self._entries = self._read_table(container)
        except DatasetError:
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DatasetError(f'{self.path} cannot be read: {error}') from error
        self._number_of_pts = {entry.pts: i for i, entry in enumerate(self._entries)}

    def _read_table(self, container: InputContainer) -> list[_Entry]:
        stream = self._stream(container)
        self.width, self.height = stream.width, stream.height
        if not stream.average_rate or not self.width or not self.height:
            raise DatasetError(f'{self.path} is not a whole video: no frame rate or size')
        self.fps = float(stream.average_rate)
        # A picture's packet may come before that of one shown earlier, so only all packets
        # together say which number a picture has.
        keyframes: list[tuple[int, int]] = []
        shown: list[int] = []
        for packet in container.demux(stream):
            if packet.pts is None or packet.dts is None or packet.is_discard:
                continue
            if packet.is_corrupt:
                raise DatasetError(f'{self.path} is damaged after {len(shown)} pictures')
            shown.append(packet.pts)
            if packet.is_keyframe:
                keyframes.append((packet.pts, packet.dts))
        # Some containers do not say how many there are; then 0 is given here.
        if len(shown) < stream.frames:
            raise DatasetError(
                f'{self.path} is truncated: {len(shown)} of its {stream.frames} pictures are there'
            )
        if not shown or len(set(shown)) != len(shown):
            raise DatasetError(f'{self.path} has no pictures, or several at one time')
        shown.sort()
        keyframes.sort()
        before = np.searchsorted([pts for pts, _ in keyframes], shown, side='right') - 1
        if before[0] < 0:
            raise DatasetError(f'{self.path} does not start with a whole picture')
        return [_Entry(pts, *keyframes[k]) for pts, k in zip(shown, before, strict=True)]

    def _stream(self, container: InputContainer) -> VideoStream:
        if not container.streams.video:
            raise DatasetError(f'{self.path} holds no video')
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise DatasetError(f'{self.path} holds a video of no known format')
        return stream

    def __len__(self) -> int:
        return len(self._entries)

    def frames(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """Decodes pictures; each group of pictures that is needed is decoded once.

        Args:
            indices: (n,) whole numbers from 0 to len - 1, in any order, repeats allowed.

        Returns:
            (n, height, width, 3) uint8, RGB.

        Raises:
            DatasetError: where a picture cannot be decoded.
            IndexError: where there is no picture of a number.
        """
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f'pictures are 0 to {len(self) - 1}, got {wanted.tolist()}')
        numbers, places = np.unique(wanted, return_inverse=True)
        decoded = np.empty((len(numbers), self.height, self.width, 3), np.uint8)
        try:
            with av.open(str(self.path)) as container:
                self._decode(container, numbers.tolist(), decoded)
        except DatasetError:
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DatasetError(f'{self.path} cannot be decoded: {error}') from error
        return decoded[places]

    def _decode(
        self, container: InputContainer, numbers: list[int], decoded: NDArray[np.uint8]
    ) -> None:
        """Fills `decoded` with the pictures of the ascending `numbers`."""
        stream = self._stream(container)
        done = 0
        while done < len(numbers):
            first = self._entries[numbers[done]]
            container.seek(first.seek_dts, stream=stream)
            found = done
            for frame in container.decode(stream):
                number = -1 if frame.pts is None else self._number_of_pts.get(frame.pts, -1)
                if number < numbers[found]:
                    continue
                if number > numbers[found] or frame.is_corrupt:
                    raise DatasetError(f'{self.path}: picture {numbers[found]} cannot be decoded')
                decoded[found] = frame.to_ndarray(format='rgb24')
                found += 1
                # A picture of a later group is reached faster from its own key frame.
                here = self._entries[number].pts
                if found == len(numbers) or self._entries[numbers[found]].keyframe_pts > here:
                    break
            if found == done:
                raise DatasetError(f'{self.path}: picture {numbers[done]} cannot be decoded')
            done = found


def shared_length(video: Video, rows: int) -> int:
    """The number of frames that both a video and the table of poses beside it have.

    Recorders stop the two a few frames apart.

    Raises:
        DatasetError: where one of them is empty, or they differ by more than a tenth: then
            nothing says which picture belongs to which row.
    """
    shorter, longer = sorted((len(video), rows))
    if shorter < 1:
        raise DatasetError(f'{video.path}: {len(video)} pictures and {rows} rows of poses')
    if longer - shorter > max(2, longer // 10):
        raise DatasetError(
            f'{video.path} has {len(video)} pictures but there are {rows} rows of poses: '
            'they do not belong together'
        )
    return shorter
