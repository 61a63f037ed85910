"""What a training runs on."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from dexwm.training.recipe import Engine
from dexwm.training.task import Task


class EngineError(ValueError):
    """The machine has not what a recipe asks for."""


def choose_device(wanted: str) -> str:
    """Returns 'cpu' or 'cuda'.

    Args:
        wanted: One of the two, or 'auto': CUDA where there is a device.

    Raises:
        EngineError: If CUDA is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if wanted == 'cuda' and not available:
        raise EngineError(
            'engine.device: there is no CUDA device that this PyTorch can use '
            f'({torch.__version__}); say cpu, or auto to take what there is'
        )
    if wanted == 'auto':
        return 'cuda' if available else 'cpu'
    return wanted


def make_fabric(engine: Engine, several_turns: bool = False) -> Fabric:
    """Prepares Lightning Fabric; `launch` it before the model is made.

    Under torchrun its processes are used, and `devices` and `nodes` must say how many they are.

    Args:
        engine: What to run on.
        several_turns: Whether the task has several, each of which leaves weights out.

    Raises:
        EngineError: If the machine has no such devices, or not so many.
    """
    device = choose_device(engine.device)
    if device == 'cuda' and engine.devices > torch.cuda.device_count():
        raise EngineError(
            f'engine.devices: {engine.devices} asked for, '
            f'{torch.cuda.device_count()} CUDA devices are there'
        )
    if engine.threads is not None:
        torch.set_num_threads(engine.threads)
    several = engine.devices * engine.nodes > 1
    strategy: Strategy | str = 'auto'
    if several and engine.strategy == 'ddp':
        strategy = DDPStrategy(find_unused_parameters=several_turns)
    elif several:
        strategy = ModelParallelStrategy(
            _shard, data_parallel_size=engine.devices * engine.nodes, tensor_parallel_size=1
        )
    return Fabric(
        accelerator=device,
        devices=engine.devices,
        num_nodes=engine.nodes,
        strategy=strategy,
        # Mixed precision is the trainer's, which alone knows where it is wanted.
        precision='32-true',
    )


def describe(fabric: Fabric, engine: Engine) -> str:
    """One line on what is computed on."""
    name = 'CPU'
    if fabric.device.type == 'cuda':
        name = torch.cuda.get_device_name(fabric.device)
    else:
        name = f'CPU, {torch.get_num_threads()} threads'
    strategy = f', {engine.strategy}' if fabric.world_size > 1 else ''
    return f'{fabric.world_size} x {name}, {engine.precision}{strategy}'


def _shard(module: Any, mesh: DeviceMesh) -> Task:
    assert isinstance(module, Task)
    for part, methods in module.sharded():
        fully_shard(part, mesh=mesh['data_parallel'])
        for method in methods:
            register_fsdp_forward_method(part, method)
    # Frozen weights stay whole: only what is trained needs gradients and an optimiser.
    frozen = {parameter for parameter in module.parameters() if not parameter.requires_grad}
    fully_shard(module, mesh=mesh['data_parallel'], ignored_params=frozen)
    register_fsdp_forward_method(module, 'validate')
    return module
