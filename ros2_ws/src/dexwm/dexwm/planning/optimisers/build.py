"""From a preset to its optimiser."""

from __future__ import annotations

from dexwm.planning.optimisers.cem import Cem
from dexwm.planning.optimisers.first_mean import FirstMean
from dexwm.planning.optimisers.gradient import Gradient
from dexwm.planning.optimisers.icem import Icem
from dexwm.planning.optimisers.mppi import Mppi
from dexwm.planning.optimisers.optimiser import Optimiser
from dexwm.planning.optimisers.random_choice import RandomChoice
from dexwm.planning.preset import Preset


def build_optimiser(preset: Preset) -> Optimiser:
    """The optimiser that a preset names, with its settings."""
    if preset.optimiser == 'random':
        return RandomChoice()
    if preset.optimiser == 'none':
        return FirstMean()
    if preset.optimiser == 'gradient':
        return Gradient(preset.samples, preset.iterations)
    sampling = {'cem': Cem, 'icem': Icem, 'mppi': Mppi}[preset.optimiser]
    return sampling(preset.samples, preset.iterations, preset.elites, preset.sigma_floor)
