"""Starts a graph of nodes as processes, where the launch packages are not installed.

Every run has a ROS domain of its own on the loopback interface, unless it is given one, and a
directory of its own with the nodes' logs, their parameters and run.json. The run ends when a node
ends that must not, when the node that it is about has finished, or on Ctrl-C, SIGTERM or SIGHUP;
then every node is stopped, the last one started first. A second Ctrl-C kills what is left. No
process of a run outlives its runner.

Exit status: that of the finishing node; otherwise 2: wrong arguments, 3: the graph could not be
started, 4: a node ended that must not, 128 + n: stopped by signal n.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime

from dexwm_planner.graph.domain import DomainLease, NoFreeDomainError
from dexwm_planner.graph.graph import (
    AUTO,
    Argument,
    ArgumentError,
    Graph,
    GraphError,
    parse_assignments,
)
from dexwm_planner.graph.graphs import GRAPHS
from dexwm_planner.graph.node_process import ExecutableNotFoundError
from dexwm_planner.graph.parameter_files import ParameterFileError
from dexwm_planner.graph.run import Run
from dexwm_planner.graph.run_directory import prepare_run, write_record
from dexwm_planner.graph.terminal import LOG_FORMAT, Terminal

EXIT_USAGE = 2
EXIT_NOT_STARTED = 3

DOMAIN_ID = Argument(
    'domain_id',
    int,
    AUTO,
    'ROS_DOMAIN_ID of the run; auto takes one that nobody uses. Name the one of nodes that are '
    "started elsewhere, such as franka_ros2's; on another machine with "
    'ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET in the environment.',
    minimum=0,
    maximum=232,
)


def run_environment(domain_id: int, alone: bool = True) -> dict[str, str]:
    """Environment of a run's nodes: this one, but in their domain.

    Args:
        domain_id: ROS_DOMAIN_ID of the nodes.
        alone: Whether they see this machine only: a domain that is free here may be in use on
            another. Otherwise they see what this environment says, and this machine only if it
            says nothing.
    """
    environment = dict(os.environ)
    if alone:
        environment.pop('ROS_LOCALHOST_ONLY', None)  # Would override the two below.
        environment.update(ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST', ROS_STATIC_PEERS='')
    environment.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    environment.update(
        ROS_DOMAIN_ID=str(domain_id),
        RCUTILS_CONSOLE_OUTPUT_FORMAT=LOG_FORMAT,
        RCUTILS_COLORIZED_OUTPUT='0',
        PYTHONUNBUFFERED='1',
    )
    return environment


def run_graph(graph: Graph, texts: Mapping[str, str], terminal: Terminal) -> int:
    """Runs a graph in the domain that is named, or one of its own, and in its own directory.

    Args:
        graph: What to run.
        texts: Arguments that were given, as text by name.
        terminal: Where to show what happens.

    Returns:
        The exit status that the module's docstring describes.

    Raises:
        GraphError: The arguments are wrong.
        ParameterFileError: The parameter file is not usable.
        NoFreeDomainError: Every domain id is in use.
    """
    texts = dict(texts)
    domain = DOMAIN_ID.parse(texts.pop(DOMAIN_ID.name, AUTO))
    try:
        values = graph.values(texts)
    except ArgumentError as error:
        raise ArgumentError(f'{error}\n\n{DOMAIN_ID}') from error
    with contextlib.ExitStack() as stack:
        alone = domain is None
        if domain is None:
            domain = stack.enter_context(DomainLease()).domain_id
        prepared = prepare_run(graph, values, int(domain))
        directory = prepared.directory
        terminal.say('run', f'{graph.name} with ROS_DOMAIN_ID={domain}, logs in {directory}')
        run = Run(directory, run_environment(int(domain), alone), terminal)
        try:
            run.run(prepared.specs)
        except ExecutableNotFoundError as error:
            run.reason, run.exit_code = str(error), EXIT_NOT_STARTED
        record = prepared.record | {
            'ended': datetime.now().astimezone().isoformat(timespec='milliseconds'),
            'exit_code': run.exit_code,
            'reason': run.reason,
            'endings': run.endings,
        }
        write_record(directory, record)
        terminal.say('run', f'{run.reason} (status {run.exit_code}); see {directory}')
        return run.exit_code


def main(arguments: Sequence[str] | None = None, graphs: Mapping[str, Graph] = GRAPHS) -> int:
    """Command line: the name of a graph, then `name:=value` arguments.

    Args:
        arguments: Command line without the program; the process's own if not given.
        graphs: Graphs by name.

    Returns:
        Exit status.
    """
    parser = argparse.ArgumentParser(
        prog='python -m dexwm_planner.runner',
        description=__doc__,
        epilog='graphs:\n' + '\n'.join(f'  {g.name:10} {g.description}' for g in graphs.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('graph', choices=list(graphs), help='which graph')
    parser.add_argument('assignments', nargs='*', metavar='name:=value', help='its arguments')
    parser.add_argument(
        '-s', '--show-args', action='store_true', help='show the arguments of the graph and end'
    )
    parsed = parser.parse_args(arguments)
    graph = graphs[parsed.graph]
    if parsed.show_args:
        print(f'{graph.show_arguments()}\n\n{DOMAIN_ID}')
        return 0
    try:
        return run_graph(graph, parse_assignments(parsed.assignments), Terminal())
    except (GraphError, ParameterFileError) as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    except NoFreeDomainError as error:
        print(error, file=sys.stderr)
        return EXIT_NOT_STARTED


if __name__ == '__main__':
    sys.exit(main())
