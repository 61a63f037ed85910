"""Writes rosbag2 recordings without ROS."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from dexwm.bag.bag_reader import BagError


class BagWriter:
    """A rosbag2 recording in MCAP, its chunks compressed by Zstandard.

    A recording whose writer was killed lacks metadata.yaml and its last chunk, a mebibyte of
    messages; `BagReader` reads the others.

    Attributes:
        path: folder of the recording.
        count: messages written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Makes the folder and begins to write.

        Raises:
            BagError: where the folder exists, or cannot be made.
        """
        self.path = Path(path).absolute()
        self.count = 0
        self._topics: dict[str, Connection] = {}
        if self.path.exists():
            raise BagError(f'{self.path} exists: a recording needs a folder of its own')
        self._writer = Writer(self.path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        try:
            self._writer.open()
        except OSError as error:
            raise BagError(f'{self.path} cannot be written: {error}') from error

    def add_topic(
        self, topic: str, kind: str, definition: str, type_hash: str, qos: Sequence[Qos] = ()
    ) -> None:
        """Tells of a topic before its first message.

        Args:
            topic: its name.
            kind: type of its messages, such as `sensor_msgs/msg/Image`.
            definition: how they look: the .msg file, and those of the types in it.
            type_hash: of the type, `RIHS01_…`.
            qos: how it was published.

        Raises:
            BagError: where the topic is there already.
        """
        if topic in self._topics:
            raise BagError(f'{topic} is recorded already')
        self._topics[topic] = self._writer.add_connection(
            topic, kind, msgdef=definition, rihs01=type_hash, offered_qos_profiles=qos
        )

    def write(self, topic: str, stamp_ns: int, data: bytes) -> None:
        """Adds a message.

        Args:
            topic: one that was added.
            stamp_ns: when it came, ns.
            data: the message, serialised as CDR.

        Raises:
            BagError: where the topic was not added.
        """
        if topic not in self._topics:
            raise BagError(f'{topic} was not added to the recording')
        self._writer.write(self._topics[topic], stamp_ns, data)
        self.count += 1

    def close(self, notes: Mapping[str, str] | None = None) -> None:
        """Ends the recording and writes metadata.yaml.

        Args:
            notes: texts to keep in it as custom data.
        """
        for key, value in (notes or {}).items():
            self._writer.set_custom_data(key, value)
        self._writer.close()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
