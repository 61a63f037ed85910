"""The program `dexwm`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = ('params', 'encode', 'pca', 'train', 'eval', 'convert', 'replay', 'report')
"""Modules of `dexwm.commands`, each with `add_parser` and `run`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status.

    Errors of the library are told in a line: their messages say what to do. Others are shown
    with where they come from.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog='dexwm', description='Trains, evaluates and converts world models.'
    )
    subparsers = parser.add_subparsers(dest='command', required=True, metavar='command')
    # Others are left alone: some take seconds to import.
    wanted = given[:1] if given and given[0] in COMMANDS else COMMANDS
    modules = {name: importlib.import_module(f'dexwm.commands.{name}') for name in wanted}
    for module in modules.values():
        module.add_parser(subparsers)
    parsed = parser.parse_args(given)
    try:
        status: int = modules[parsed.command].run(parsed)
    except (ValueError, RuntimeError) as error:
        if not type(error).__module__.startswith('dexwm.'):
            raise
        print(f'dexwm {parsed.command}: {error}', file=sys.stderr)
        return 1
    return status


if __name__ == '__main__':
    sys.exit(main())
