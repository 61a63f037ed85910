"""Reads rosbag2 recordings without ROS, whole or cut off."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mcap.exceptions import EndOfFile
from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

_STORAGES = ('.mcap', '.db3')
_IDL_SEPARATOR = '=' * 80 + '\n'
_NOT_EVERYTHING = 'what comes after it is lost'


class BagError(ValueError):
    """Raised for a recording that is none, or has not what is asked of it."""


@dataclass(frozen=True)
class RawMessage:
    """A message as it was sent.

    Attributes:
        topic: where.
        kind: its type, such as `sensor_msgs/msg/Image`.
        stamp_ns: when it was recorded, ns.
        data: serialised, CDR.
    """

    topic: str
    kind: str
    stamp_ns: int
    data: bytes


@dataclass(frozen=True)
class BagMessage:
    """A message that was read.

    Attributes:
        topic: where.
        kind: its type.
        stamp_ns: when it was recorded, ns.
        content: has the message's fields as attributes; arrays of numbers are numpy arrays.
    """

    topic: str
    kind: str
    stamp_ns: int
    content: Any


class BagReader:
    """A rosbag2 recording: a folder with metadata.yaml, or one of its files (MCAP, SQLite).

    What cannot be read is left out and named in `problems`, which grows while messages are
    read: a recording that was cut off gives what it holds.

    Attributes:
        path: of the recording.
        topics: type of each topic.
        problems: what is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens a recording.

        Raises:
            BagError: where there is none, or nothing of it can be read.
        """
        self.path = Path(path).expanduser().absolute()
        self.topics: dict[str, str] = {}
        self.problems: list[str] = []
        if not self.path.exists():
            raise BagError(f'there is no recording {self.path}')
        own: dict[str, Any] = {}
        self._parts = self._find_parts()
        for part in self._parts:
            for topic, kind, encoding, definition in part.definitions():
                self.topics[topic] = kind
                if encoding:
                    own |= _types_of(kind, encoding, definition)
        # A recording's own definitions tell how its messages look; old ones have none.
        self._types = get_typestore(Stores.EMPTY)
        self._types.register(dict(get_typestore(Stores.ROS2_JAZZY).fielddefs) | own)

    def raw_messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Messages as they were sent, in the order of their recording; None: of all topics."""
        wanted = self.topics.keys() if topics is None else set(topics)
        for part in self._parts:
            yield from part.messages(wanted)

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """Messages with their fields, in the order of their recording; None: of all topics.

        Raises:
            BagError: where the type of a topic is not known.
        """
        for raw in self.raw_messages(topics):
            yield BagMessage(raw.topic, raw.kind, raw.stamp_ns, self.content(raw))

    def content(self, message: RawMessage) -> Any:
        """The fields of a message, as attributes.

        Raises:
            BagError: where its type is not known.
        """
        if message.kind not in self._types.fielddefs:
            raise BagError(
                f'{self.path} does not say how messages of {message.kind} look: record it with '
                'message definitions (ROS 2 Jazzy or newer does)'
            )
        return self._types.deserialize_cdr(message.data, message.kind)

    def _find_parts(self) -> list[_Part]:
        if self.path.is_file():
            return [self._file_part(self.path)]
        if (self.path / 'metadata.yaml').is_file():
            try:
                with Reader(self.path):
                    return [_WholePart(self.path, self.problems)]
            except Exception as error:
                self.problems.append(f'{self.path.name}: {error}')
        else:
            self.problems.append(
                f'{self.path.name} has no metadata.yaml: the recording did not come to its end'
            )
        files = [file for file in self.path.iterdir() if file.suffix in _STORAGES]
        if not files:
            raise BagError(
                f'{self.path} is no recording: a folder with metadata.yaml or with files named '
                f'{" or ".join("*" + suffix for suffix in _STORAGES)} is'
            )
        return [self._file_part(file) for file in sorted(files, key=_natural)]

    def _file_part(self, file: Path) -> _Part:
        if file.suffix not in _STORAGES:
            raise BagError(f'{file} is no recording: its name ends in none of {_STORAGES}')
        try:
            with Reader(file):
                return _WholePart(file, self.problems)
        except Exception as error:
            if file.suffix != '.mcap':
                raise BagError(f'{file} cannot be read: {error}') from error
            self.problems.append(f'{file.name} was cut off: {error}')
            return _CutPart(file, self.problems)


class _Part:
    """A file of a recording, or the whole folder."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        self.path, self.problems = path, problems

    def definitions(self) -> Iterator[tuple[str, str, str, str]]:
        """For each topic its name, type, and the encoding and text of its definition."""
        raise NotImplementedError

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        raise NotImplementedError

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


class _WholePart(_Part):
    """One whose index can be read."""

    def definitions(self) -> Iterator[tuple[str, str, str, str]]:
        names = {
            MessageDefinitionFormat.MSG: 'ros2msg',
            MessageDefinitionFormat.IDL: 'ros2idl',
            MessageDefinitionFormat.NONE: '',
        }
        with Reader(self.path) as reader:
            for c in reader.connections:
                yield c.topic, c.msgtype, names[c.msgdef.format], c.msgdef.data

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        with Reader(self.path) as reader:
            wanted = [c for c in reader.connections if c.topic in topics]
            if not wanted:
                return
            found = reader.messages(wanted)
            while True:
                # A file whose middle is damaged still has what comes before.
                try:
                    connection, stamp_ns, data = next(found)
                except StopIteration:
                    return
                except Exception as error:
                    self._note(f'{self.path.name} is damaged: {error}; {_NOT_EVERYTHING}')
                    return
                yield RawMessage(connection.topic, connection.msgtype, stamp_ns, bytes(data))


class _CutPart(_Part):
    """An MCAP file without its end, hence without its index: read from the beginning."""

    def definitions(self) -> Iterator[tuple[str, str, str, str]]:
        schemas: dict[int, Schema] = {}
        for record in self._records():
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel) and record.schema_id in schemas:
                schema = schemas[record.schema_id]
                yield record.topic, schema.name, schema.encoding, schema.data.decode()

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        schemas: dict[int, str] = {}
        channels: dict[int, tuple[str, str]] = {}
        last_ns = 0
        for record in self._records():
            if isinstance(record, Schema):
                schemas[record.id] = record.name
            elif isinstance(record, Channel):
                channels[record.id] = record.topic, schemas.get(record.schema_id, '')
            elif isinstance(record, Message) and record.channel_id in channels:
                last_ns = max(last_ns, record.log_time)
                topic, kind = channels[record.channel_id]
                if topic in topics:
                    yield RawMessage(topic, kind, record.log_time, record.data)
        if last_ns:
            self._note(f'{self.path.name} ends at {last_ns * 1e-9:.2f} s; {_NOT_EVERYTHING}')

    def _records(self) -> Iterator[Any]:
        with self.path.open('rb') as file:
            records = StreamReader(_WholeReads(file)).records  # type: ignore[arg-type]
            while True:
                try:
                    yield next(records)
                except (StopIteration, EndOfFile):
                    return
                except Exception as error:
                    self._note(f'{self.path.name} is damaged: {error}; {_NOT_EVERYTHING}')
                    return


class _WholeReads:
    """A file that ends where it has less than is asked for: half a record is none."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, length: int) -> bytes:
        data = self._file.read(length)
        return data if len(data) == length else b''


def _types_of(kind: str, encoding: str, definition: str) -> dict[str, Any]:
    if encoding == 'ros2msg':
        return dict(get_types_from_msg(definition, kind))
    types: dict[str, Any] = {}
    texts = [definition]
    if definition.startswith(f'{_IDL_SEPARATOR}IDL: '):
        texts = [part.split('\n', 1)[1] for part in definition.split(_IDL_SEPARATOR)[1:]]
    for text in texts:
        types.update(get_types_from_idl(text))
    return types


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts `a_10` after `a_9`."""
    parts = re.split(r'(\d+)', path.name)
    return [(int(part), '') if part.isdigit() else (-1, part) for part in parts]
