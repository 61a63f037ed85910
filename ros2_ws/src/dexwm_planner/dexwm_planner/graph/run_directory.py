"""The directory that a run leaves behind: logs, and `run.json` with what made it."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dexwm_planner.graph.graph import Graph, NodeSpec, RunContext

_RECORDED_PACKAGES = (
    'dexwm',
    'dexwm_franka_bringup',
    'dexwm_planner',
    'dexwm_sim',
    'coal',
    'mujoco',
    'numpy',
    'opencv-python-headless',
    'pin',
    'pylibfranka',
    'ros-jazzy-rclpy',
    'ruckig',
    'torch',
)


@dataclass(frozen=True)
class PreparedRun:
    """A run that only has to be started.

    Attributes:
        directory: Its directory.
        specs: Its nodes, in start order.
        record: What `run.json` says about it.
    """

    directory: Path
    specs: tuple[NodeSpec, ...]
    record: dict[str, Any]


def prepare_run(graph: Graph, values: Mapping[str, Any], domain_id: int) -> PreparedRun:
    """Makes the directory of a run of `graph`, its nodes and its record.

    Raises:
        GraphError: The values do not go together.
        ParameterFileError: The parameter file is not usable.
    """
    started = datetime.now().astimezone()
    directory = create_run_directory(Path(values['runs_dir']).expanduser(), graph.name, started)
    try:
        specs = graph.nodes(values, RunContext(domain_id, directory))
    except ValueError:
        directory.rmdir()
        raise
    record = {
        'graph': graph.name,
        'arguments': dict(values),
        'ros_domain_id': domain_id,
        'started': started.isoformat(timespec='milliseconds'),
        'nodes': [{**asdict(spec), 'on_exit': spec.on_exit.name} for spec in specs],
        **provenance(),
    }
    write_record(directory, record)
    return PreparedRun(directory, specs, record)


def create_run_directory(parent: Path, graph: str, now: datetime) -> Path:
    """Makes `<parent>/<date>-<graph>`, with `-2`, `-3`, … if there is one of that second.

    Returns:
        Its absolute path.
    """
    parent.mkdir(parents=True, exist_ok=True)
    base = parent.absolute() / f'{now:%Y-%m-%d_%H-%M-%S}-{graph}'
    path, number = base, 1
    while True:
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            path = base.with_name(f'{base.name}-{number}')
        else:
            return path


def write_record(directory: Path, record: Mapping[str, Any]) -> None:
    """Writes `run.json`; whoever reads it sees the old one or the new one, never a part."""
    draft = directory / 'run.json.part'
    draft.write_text(json.dumps(record, indent=2) + '\n')
    draft.replace(directory / 'run.json')


def provenance() -> dict[str, Any]:
    """Version control state of this source and versions of what it runs on."""
    versions = {}
    for package in _RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        'git_commit': _git('rev-parse', 'HEAD') or None,
        'git_modified': bool(_git('status', '--porcelain')),
        'python': platform.python_version(),
        'platform': platform.platform(),
        'ros_distro': os.environ.get('ROS_DISTRO') or None,
        'versions': versions,
    }


def _git(*arguments: str) -> str:
    """Output of git in the folder of this file; empty without git or outside a repository."""
    try:
        result = subprocess.run(
            ['git', '-C', str(Path(__file__).resolve().parent), *arguments],
            capture_output=True,
            text=True,
            timeout=10.0,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return result.stdout.strip() if result.returncode == 0 else ''
