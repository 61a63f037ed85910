"""What a node graph is: arguments declared once, nodes with their parameters and remappings.

The launch files (`launch_actions`) and the process runner (`runner`) both start what is
described here, so that there is one list of nodes whichever way it is started.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from dexwm_planner.graph.parameter_files import ParameterValue, read_parameter_file

AUTO = 'auto'
_TRUE, _FALSE = ('true', '1', 'yes', 'on'), ('false', '0', 'no', 'off')


class GraphError(ValueError):
    """A graph that cannot be built as asked; the message says what to change."""


class ArgumentError(GraphError):
    """An argument that the graph does not have, or a value that it cannot take."""


@dataclass(frozen=True)
class Argument:
    """One argument of a graph, written `name:=value` on the command line as for ros2 launch.

    Attributes:
        name: Name of the argument.
        kind: Type of its value: bool, int, float or str.
        default: Value if it is not given. `AUTO` lets the graph decide; its value is then None.
        description: What it does, with the unit of its value.
        choices: The only values it may have; empty: any.
        minimum: Smallest value it may have, if there is one.
        maximum: Largest value it may have, if there is one.
    """

    name: str
    kind: type[bool] | type[int] | type[float] | type[str]
    default: bool | int | float | str
    description: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        """Raises ArgumentError if the default is not a value that the argument can have."""
        self.parse(self.default_text)

    @property
    def default_text(self) -> str:
        """The default as it would be written on the command line."""
        return str(self.default).lower() if self.kind is bool else str(self.default)

    def parse(self, text: str) -> bool | int | float | str | None:
        """Value of what was written after `:=`; None for `auto` where that is the default.

        Raises:
            ArgumentError: The text is not a value that this argument can have.
        """
        if self.choices and text not in self.choices:
            raise self._refused(text, f'one of {", ".join(self.choices)}')
        if self.default == AUTO and text == AUTO:
            return None
        if self.kind is bool:
            if text.lower() not in _TRUE + _FALSE:
                raise self._refused(text, 'true or false')
            return text.lower() in _TRUE
        try:
            value = self.kind(text)
        except ValueError:
            names = {int: 'a whole number', float: 'a number'}
            raise self._refused(text, names[self.kind]) from None
        if isinstance(value, int | float):
            # Written so that NaN is refused as well.
            if self.minimum is not None and not value >= self.minimum:
                raise self._refused(text, f'at least {self.minimum:g}')
            if self.maximum is not None and not value <= self.maximum:
                raise self._refused(text, f'at most {self.maximum:g}')
        return value

    def _refused(self, text: str, expected: str) -> ArgumentError:
        return ArgumentError(f'{self.name}:={text} is not possible: it must be {expected}.')

    def __str__(self) -> str:
        """As `ros2 launch --show-args` prints an argument."""
        choices = f' Valid choices are: {list(self.choices)}' if self.choices else ''
        return (
            f"    '{self.name}':\n        {self.description}{choices}\n"
            f"        (default: '{self.default_text}')"
        )


class OnExit(Enum):
    """What the end of a node that nobody asked to stop means for the run."""

    FAIL = 'the run fails'
    FINISH = "the run ends with the node's exit code"
    REPORT = 'it is reported and the run goes on'


@dataclass(frozen=True)
class NodeSpec:
    """One process of a graph: an installed executable and how it is configured.

    Attributes:
        package: Ament package that installs the executable.
        executable: File name under `lib/<package>`.
        name: Node name.
        parameters: Parameters that are set from outside; all others keep the node's defaults.
        remappings: Pairs (name in the node's code, name in the graph).
        on_exit: What the end of the process means for the run.
        log_level: Severity from which the node logs.
        asks: Whether the node reads the terminal that the run was started from, if there is one.
        arguments: Of its own, beside ROS's.
    """

    package: str
    executable: str
    name: str
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    remappings: tuple[tuple[str, str], ...] = ()
    on_exit: OnExit = OnExit.FAIL
    log_level: str = 'info'
    asks: bool = False
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunContext:
    """What a graph has to know about the run that it is built for.

    Attributes:
        domain_id: ROS_DOMAIN_ID of the run: tells apart what two runs on one machine share.
        directory: Directory for what the nodes leave behind.
    """

    domain_id: int
    directory: Path


Builder = Callable[[Mapping[str, Any], RunContext], tuple[NodeSpec, ...]]

COMMON_ARGUMENTS = (
    Argument(
        'params_file',
        str,
        '',
        'ROS parameter file (YAML) for any nodes of the graph; it has the last word.',
    ),
    Argument(
        'log_level',
        str,
        'info',
        'Severity from which the nodes log.',
        choices=('debug', 'info', 'warn', 'error', 'fatal'),
    ),
    Argument('runs_dir', str, 'runs', "Directory in which the run's directory is made."),
)


@dataclass(frozen=True)
class Graph:
    """A named graph of nodes.

    Attributes:
        name: Name by which it is started.
        description: One line on what it is.
        own_arguments: Arguments besides `COMMON_ARGUMENTS`.
        build: Makes the nodes from the arguments' values.
    """

    name: str
    description: str
    own_arguments: tuple[Argument, ...]
    build: Builder

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """All arguments of the graph, in the order in which they are shown."""
        return self.own_arguments + COMMON_ARGUMENTS

    def values(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Value of every argument, from the texts of those that were given.

        Raises:
            ArgumentError: An unknown argument, or an impossible value.
        """
        known = {argument.name for argument in self.arguments}
        if unknown := [name for name in texts if name not in known]:
            raise ArgumentError(
                f'Graph {self.name} has no argument {", ".join(unknown)}.\n{self.show_arguments()}'
            )
        return {
            argument.name: argument.parse(texts.get(argument.name, argument.default_text))
            for argument in self.arguments
        }

    def nodes(self, values: Mapping[str, Any], context: RunContext) -> tuple[NodeSpec, ...]:
        """The nodes to start, in start order, with everything that `values` says applied.

        Raises:
            GraphError: The values do not go together, or the parameter file is not usable.
        """
        specs = self.build(values, context)
        if params_file := values['params_file']:
            overrides = read_parameter_file(
                Path(params_file).expanduser().absolute(), [spec.name for spec in specs]
            )
            specs = tuple(
                replace(spec, parameters={**spec.parameters, **overrides[spec.name]})
                for spec in specs
            )
        return tuple(replace(spec, log_level=values['log_level']) for spec in specs)

    def show_arguments(self) -> str:
        """List of the arguments, as `ros2 launch --show-args` prints it."""
        return "Arguments (pass arguments as '<name>:=<value>'):\n\n" + '\n\n'.join(
            str(argument) for argument in self.arguments
        )


def parse_assignments(arguments: Iterable[str]) -> dict[str, str]:
    """Splits `name:=value` texts; as for ros2 launch, the last one of a name counts.

    Raises:
        ArgumentError: A text that has no name or no `:=`.
    """
    texts = {}
    for argument in arguments:
        name, separator, value = argument.partition(':=')
        if not (name and separator):
            raise ArgumentError(f"'{argument}' is not an argument: write it as name:=value.")
        texts[name] = value
    return texts
