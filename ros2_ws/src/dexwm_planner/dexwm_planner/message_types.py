"""Message types by name: their classes, their definitions as text, their hashes."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

_FEEDBACK = '_FeedbackMessage'
_PRIMITIVE = re.compile(r'bool|byte|char|u?int(8|16|32|64)|float(32|64)|w?string')
_SEPARATOR = '=' * 80
_FIELD = re.compile(r'^\s*([\w/]+)(?:<=\d+)?(?:\[[^\]]*\])?\s+\w+')


class MessageTypeError(ValueError):
    """A message type that is not installed here."""


def message_class(kind: str) -> Any:
    """The Python class of a type such as `sensor_msgs/msg/Image`.

    Raises:
        MessageTypeError: It is not installed.
    """
    try:
        package, group, name = kind.split('/')
        module = importlib.import_module(f'{package}.{group}')
        if name.endswith(_FEEDBACK):
            return getattr(module, name.removesuffix(_FEEDBACK)).Impl.FeedbackMessage
        return getattr(module, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise MessageTypeError(f'messages of {kind} are not installed here: {error}') from error


def message_definition(kind: str) -> str:
    """How messages of a type look: its .msg file, then those of all types in it.

    The form in which rosbag2 keeps definitions in MCAP files.

    Raises:
        MessageTypeError: A file is missing.
    """
    texts = {kind: _own_definition(kind)}
    waiting = [kind]
    while waiting:
        current = waiting.pop(0)
        for inner in _inner_types(texts[current], current.split('/')[0]):
            if inner not in texts:
                texts[inner] = _own_definition(inner)
                waiting.append(inner)
    first, *others = texts.items()
    return '\n'.join(
        [
            first[1],
            *(f'{_SEPARATOR}\nMSG: {_short(name)}\n{text}' for name, text in others),
        ]
    )


def type_hash(kind: str) -> str:
    """The hash of a type, `RIHS01_…`, as it goes over the network.

    Raises:
        MessageTypeError: It is not installed.
    """
    package, group, name = kind.split('/')
    stem = name.split('_')[0] if group == 'action' else name
    described = json.loads(_file(package, group, f'{stem}.json').read_text())
    for entry in described['type_hashes']:
        if entry['type_name'] == kind:
            return str(entry['hash_string'])
    raise MessageTypeError(f'the description of {kind} has no hash of it')


def _own_definition(kind: str) -> str:
    package, group, name = kind.split('/')
    if group == 'msg':
        return _file(package, group, f'{name}.msg').read_text()
    action, _, part = name.rpartition('_')
    if name.endswith(_FEEDBACK):
        feedback = f'{package}/action/{action}_Feedback feedback'
        return f'unique_identifier_msgs/UUID goal_id\n{feedback}'
    text = _file(package, group, f'{action}.action').read_text()
    parts = re.split(r'^---\s*$', text, flags=re.MULTILINE)
    return parts[('Goal', 'Result', 'Feedback').index(part)]


def _inner_types(definition: str, package: str) -> list[str]:
    found = []
    for line in definition.splitlines():
        match = _FIELD.match(line.partition('#')[0])
        if match is None or _PRIMITIVE.fullmatch(match[1]):
            continue
        names = match[1].split('/')
        if len(names) == 1:
            names = [package, *names]
        found.append('/'.join([names[0], 'msg', names[1]] if len(names) == 2 else names))
    return found


def _short(kind: str) -> str:
    """As definitions name a type: without `msg`."""
    package, group, name = kind.split('/')
    return f'{package}/{name}' if group == 'msg' else kind


def _file(package: str, group: str, name: str) -> Path:
    try:
        path = Path(get_package_share_directory(package)) / group / name
    except PackageNotFoundError as error:
        raise MessageTypeError(f'the package {package} is not installed here') from error
    if not path.is_file():
        raise MessageTypeError(f'there is no file {path}')
    return path
