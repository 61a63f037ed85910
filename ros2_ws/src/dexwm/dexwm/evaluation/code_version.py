"""Which code a result comes from."""

from __future__ import annotations

import hashlib
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_SOURCES = Path(__file__).resolve().parents[3]
"""The folder of all packages in a checkout."""


def code_version(sources: Path = _SOURCES) -> str:
    """Returns the version of this package and, of a git checkout, its commit.

    Where tracked files of the folder are not as committed, 'dirty' and eight digits that tell one
    such state from another come after the commit. New files that git does not know do not count.

    Args:
        sources: Folder whose code counts.
    """
    try:
        result = f'dexwm {version("dexwm")}'
    except PackageNotFoundError:
        result = 'dexwm of unknown version'
    commit = _git(sources, 'rev-parse', '--short=12', 'HEAD')
    # A package that was installed into somebody's checkout is not that checkout's code.
    if not commit or not _git(sources, 'ls-files', '.'):
        return result
    changes = _git(sources, 'diff', 'HEAD', '--no-ext-diff', '--binary', '--', '.')
    mark = f', dirty {hashlib.sha256(changes).hexdigest()[:8]}' if changes else ''
    return f'{result}, commit {commit.decode().strip()}{mark}'


def _git(folder: Path, *arguments: str) -> bytes:
    """What git prints; nothing where there is no git or no checkout."""
    try:
        result = subprocess.run(['git', '-C', str(folder), *arguments], capture_output=True)
    except FileNotFoundError:
        return b''
    return b'' if result.returncode else result.stdout
