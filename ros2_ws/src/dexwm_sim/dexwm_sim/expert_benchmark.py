"""How often the expert lifts each object: ``python -m dexwm_sim.expert_benchmark``."""

from __future__ import annotations

import argparse
import json
import time

from rich.console import Console
from rich.table import Table

from dexwm.robot.joints import HOME
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.cell import Cell
from dexwm_sim.expert import Expert, UnreachableError
from dexwm_sim.follow import Follower
from dexwm_sim.objects import OBJECT_KINDS
from dexwm_sim.scene_config import SceneConfig
from dexwm_sim.tasks import GraspJudge, Verdict

_HOLD = 1.2


def lift(cell: Cell, expert: Expert) -> Verdict:
    """Lets the expert lift the target of a cell that was just reset, and hold it.

    Raises:
        UnreachableError: If the arm does not reach the target.
    """
    target = cell.config.target
    position = cell.object_pose(target)[:3]
    judge = GraspJudge(target, position[2])
    follower = Follower(cell, HOME, lambda: judge.update(cell.task_state()))
    follower.follow(expert.pick(position, HOME))
    follower.hold(_HOLD)
    return judge.verdict()


def main() -> None:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--objects', nargs='+', default=['box', 'cylinder', 'sphere', 'can'],
                        choices=list(OBJECT_KINDS))  # fmt: skip
    parser.add_argument('--seeds', type=int, default=50, help='scenes per object')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    arguments = parser.parse_args()

    expert = Expert(RobotModel.from_urdf(robot_description()))
    console = Console(stderr=True)
    results = {}
    for kind in arguments.objects:
        start = time.perf_counter()
        lifted, simulated, failed = 0, 0.0, []
        cell = None
        for seed in range(arguments.seeds):
            config = SceneConfig.sample(seed, (kind,), quality='fast')
            if cell is None:
                cell = Cell(config)
            else:
                cell.load(config)
            try:
                success = lift(cell, expert).strict_success
            except UnreachableError:
                success = False
            lifted += success
            simulated += cell.data.time
            failed += [] if success else [seed]
        elapsed = time.perf_counter() - start
        results[kind] = {
            'lifted': lifted,
            'seeds': arguments.seeds,
            'failed_seeds': failed,
            'real_time_factor': simulated / elapsed,
        }
        console.print(f'{kind}: {lifted}/{arguments.seeds} in {elapsed:.0f} s')
    if arguments.json:
        print(json.dumps(results))
        return
    table = Table('object', 'lifted by 5 cm, held 1 s', 'failed seeds', 'x real time')
    for kind, row in results.items():
        table.add_row(
            kind,
            f'{row["lifted"]} / {row["seeds"]}',
            ' '.join(map(str, row['failed_seeds'])) or '-',
            f'{row["real_time_factor"]:.0f}',
        )
    Console().print(table)


if __name__ == '__main__':
    main()
