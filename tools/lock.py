"""Resolve requirements.in into requirements.lock with pip, without installing anything.

Packages under the heading "without their dependencies" are pinned as they stand: they are
used for the files in them, or run with newer dependencies than their metadata admits.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADING = '# Without their dependencies'


def main() -> None:
    """Write requirements.lock next to requirements.in."""
    source = (ROOT / 'requirements.in').read_text()
    resolved, _, pinned = source.partition(HEADING)
    command = [
        *(sys.executable, '-m', 'pip', 'install', '--dry-run', '--ignore-installed', '--quiet'),
        *('--report', '-', '-r', '/dev/stdin'),
    ]
    report = json.loads(
        subprocess.run(command, input=resolved, capture_output=True, text=True, check=True).stdout
    )
    names = {item['metadata']['name']: item['metadata']['version'] for item in report['install']}
    lines = [f'{name.lower()}=={version.split("+")[0]}' for name, version in names.items()]
    lines += [line for line in pinned.splitlines() if '==' in line]
    header = '# Written by `make lock` from requirements.in; installed with --no-deps.\n'
    (ROOT / 'requirements.lock').write_text(header + '\n'.join(sorted(lines)) + '\n')


if __name__ == '__main__':
    main()
