"""ROS 2 parameter files (YAML), read for a known set of nodes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ParameterValue = Any  # bool, int, float, str, or a sequence of one of them

_ANY_NODE = '/**'


class _QuotingDumper(yaml.SafeDumper):
    """Quotes every text: plain ones such as 1e5 are texts in YAML 1.1 but numbers for ROS."""


_QuotingDumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar('tag:yaml.org,2002:str', text, style='"')
)


class ParameterFileError(ValueError):
    """A parameter file that cannot be used; the message names file and place."""


def read_parameter_file(
    path: Path, node_names: Sequence[str]
) -> dict[str, dict[str, ParameterValue]]:
    """Reads what a parameter file sets for each of the nodes.

    The file has `ros__parameters` under `/**` (all nodes) or under the name of a node, with or
    without a leading slash. As in ROS 2, a later entry of the file wins over an earlier one.

    Args:
        path: The file.
        node_names: Names of the nodes, all in the root namespace.

    Returns:
        For every node its parameters, groups flattened to dotted names.

    Raises:
        ParameterFileError: Not readable, not YAML, not of this form, or for a node that is not
            among `node_names` (which ROS 2 would ignore without a word).
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ParameterFileError(f'Parameter file {path}: {error.strerror}.') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterFileError(f'Parameter file {path} is not YAML: {error}') from error
    if not isinstance(content, dict):
        raise ParameterFileError(f'Parameter file {path} has no entry for a node.')
    parameters: dict[str, dict[str, ParameterValue]] = {name: {} for name in node_names}
    for key, entry in content.items():
        name = str(key).removeprefix('/')
        if key != _ANY_NODE and name not in parameters:
            raise ParameterFileError(
                f'Parameter file {path} is for a node {key}; the nodes of this graph are '
                f'{", ".join(node_names)} (or /** for all).'
            )
        if not (isinstance(entry, dict) and isinstance(entry.get('ros__parameters'), dict)):
            raise ParameterFileError(
                f'Parameter file {path}: {key} has no group named ros__parameters.'
            )
        flat = _flatten(entry['ros__parameters'])
        for target in node_names if key == _ANY_NODE else [name]:
            parameters[target].update(flat)
    return parameters


def write_parameter_file(
    directory: Path, node_name: str, parameters: Mapping[str, ParameterValue]
) -> Path:
    """Writes the parameter file of one node.

    Args:
        directory: Where to write it.
        node_name: Name of the node.
        parameters: Values by dotted name; no empty sequences, which have no type in a file.

    Returns:
        The file, `<node_name>.yaml`.
    """
    plain = {
        name: value if isinstance(value, str | int | float) else list(value)
        for name, value in parameters.items()
    }
    path = directory / f'{node_name}.yaml'
    content = {node_name: {'ros__parameters': plain}}
    path.write_text(yaml.dump(content, Dumper=_QuotingDumper, sort_keys=False, width=1000))
    return path


def _flatten(group: Mapping[str, Any], prefix: str = '') -> dict[str, ParameterValue]:
    flat: dict[str, ParameterValue] = {}
    for name, value in group.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f'{prefix}{name}.'))
        else:
            flat[f'{prefix}{name}'] = value
    return flat
