"""Writes small videos whose pictures carry their number."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 8


def numbered_picture(number: int, height: int, width: int) -> np.ndarray:
    """A grey picture, in its upper quarter the number as black and white bars."""
    picture = np.full((height, width, 3), 90, np.uint8)
    bars = np.array([255 * (number >> bit & 1) for bit in range(BITS)], np.uint8)
    picture[: height // 4] = np.repeat(bars, -(-width // BITS))[:width, None]
    return picture


def number_of(picture: np.ndarray) -> int:
    """The number that `numbered_picture` wrote."""
    height, width = picture.shape[:2]
    middles = (np.arange(BITS) + 0.5) * -(-width // BITS)
    bars = picture[height // 8, middles.astype(int), 1] > 127
    return int((bars << np.arange(BITS)).sum())


def write_video(
    path: Path,
    pictures: np.ndarray,
    fps: int = 30,
    group: int = 12,
    b_frames: int = 2,
    index_first: bool = False,
) -> None:
    """Writes RGB pictures (T, height, width, 3) as H.264.

    Args:
        path: the .mp4 file; its folder is made.
        pictures: even height and width.
        fps: pictures per second.
        group: pictures from one key frame to the next.
        b_frames: most pictures in a row that need a later one.
        index_first: put the table of pictures before them, as files for streaming have it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {'movflags': 'faststart'} if index_first else {}
    with av.open(str(path), 'w', options=options) as container:
        stream = container.add_stream('libx264', rate=fps)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = 'yuv420p'
        stream.options = {
            'crf': '10',
            'preset': 'ultrafast',
            'threads': '1',
            'x264-params': f'keyint={group}:min-keyint={group}:scenecut=0:bframes={b_frames}'
            ':b-adapt=0:open-gop=1',
        }
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
            frame.pts, frame.time_base = i, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_numbered_video(path: Path, frames: int, width: int = 64, height: int = 36, **options):
    pictures = [numbered_picture(i, height, width) for i in range(frames)]
    write_video(path, np.array(pictures), **options)
