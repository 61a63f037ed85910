"""`dexwm train`: trains as a recipe says."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from dexwm.training.engine import describe, make_fabric
from dexwm.training.jobs import make_job
from dexwm.training.recipe import Recipe
from dexwm.training.recipe_file import RecipeError, load_recipe
from dexwm.training.state import read_state
from dexwm.training.trainer import Trainer

_INTERRUPTED = 3
# What does not change the weights that come out, or not by more than rounding.
_FREE = (
    'saving',
    'log_every_steps',
    'engine.device',
    'engine.devices',
    'engine.nodes',
    'engine.strategy',
    'engine.micro_batch_size',
    'engine.activation_checkpointing',
    'engine.compile',
    'engine.workers',
    'engine.threads',
    'engine.peak_flops',
)


def add_parser(subparsers: Any) -> None:
    """Adds the command to the program's."""
    parser = subparsers.add_parser(
        'train',
        help='train as a recipe says',
        description='Trains as a recipe says, in a folder of the name that the recipe gives. The '
        'same command goes on with a training that was stopped or killed; one that is finished '
        f'it leaves alone. Exit status: {_INTERRUPTED} where a signal stopped the training.',
    )
    parser.add_argument('recipe', type=Path, help='YAML file, such as models/recipes/default.yaml')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        help='change a key of the recipe, such as data.0.path=/data/egodex',
    )
    parser.add_argument(
        '--output', type=Path, default=Path('runs/train'), help='folder of all trainings'
    )
    parser.add_argument(
        '--restart', action='store_true', help='throw away what an earlier run left, and begin'
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        RecipeError: For a recipe that cannot be followed, or is not the one that was begun.
        EngineError: If the machine has not what the recipe asks for.
        TrainingError: If the training cannot go on.
        StateError: If its state cannot be read or written.
        ValueError: Of the types of `dexwm.data` and `dexwm.model`, for data and models that
            cannot be used.
    """
    recipe = load_recipe(args.recipe, args.set)
    folder = args.output / recipe.name
    fabric = make_fabric(recipe.engine, several_turns=recipe.kind == 'decoder')
    fabric.launch()
    console = Console(quiet=not fabric.is_global_zero)
    if fabric.is_global_zero:
        if args.restart and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
    fabric.barrier()
    state = read_state(folder)
    if state is not None:
        _check_same(recipe, state['recipe'], folder)
        console.print(f'Going on with {folder} at step {state["step"]}')
        del state
    machine = describe(fabric, recipe.engine)
    console.print(f'{recipe.name} ({recipe.kind}) on {machine}', highlight=False)

    torch.manual_seed(recipe.seed)
    job = make_job(recipe)
    known = job.batches.problems
    for problem in known:
        console.print(f'left out: {problem}', style='yellow', markup=False)
    trainer = Trainer(recipe, fabric, job.task, job.batches, folder, console)
    if fabric.is_global_zero:
        _write_about(folder, recipe, machine)
    finished = trainer.run()
    met = [problem for problem in job.batches.problems if problem not in known]
    if met:
        console.print(f'{len(met)} episodes could not be read, others were taken:')
    for problem in met:
        console.print(f'  {problem}', style='yellow', markup=False, soft_wrap=True)
    where = folder.resolve() / 'model'
    if not finished:
        console.print(
            f'Stopped at step {trainer.step} of {trainer.steps}; the same command goes on'
        )
        return _INTERRUPTED
    console.print(f'Trained {trainer.steps} steps: {where}')
    return 0


def _check_same(recipe: Recipe, begun: dict[str, Any], folder: Path) -> None:
    """Checks that a training is gone on with by the recipe that began it.

    Raises:
        RecipeError: If it is another one.
    """
    old, new = _flat(begun), _flat(recipe.model_dump(mode='json'))
    changed = [
        f'{key} was {old.get(key)} and is {new.get(key)}'
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key) and not key.startswith(_FREE)
    ]
    if changed:
        raise RecipeError(
            f'{folder} was begun with another recipe: {"; ".join(changed)}. '
            'Give the training another name, or begin anew with --restart'
        )


def _flat(value: Any, key: str = '') -> dict[str, Any]:
    """Leaves of nested mappings and lists by dotted path."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)  # type: ignore[assignment]
    else:
        return {key: value}
    prefix = f'{key}.' if key else ''
    return {k: v for name, item in items for k, v in _flat(item, f'{prefix}{name}').items()}


def _write_about(folder: Path, recipe: Recipe, machine: str) -> None:
    """Notes what the training is, for whoever finds the folder."""
    about = {
        'recipe': recipe.model_dump(mode='json'),
        'machine': machine,
        'processor': platform.processor() or platform.machine(),
        'python': platform.python_version(),
        'torch': torch.__version__,
    }
    (folder / 'training.json').write_text(json.dumps(about, indent=2) + '\n')
