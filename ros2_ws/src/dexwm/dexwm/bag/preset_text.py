"""A preset as text, and back."""

from __future__ import annotations

import json
from dataclasses import asdict

from dexwm.planning.preset import CostWeights, Preset, PresetError


def preset_to_text(preset: Preset) -> str:
    """All settings of a preset, as JSON."""
    return json.dumps(asdict(preset), sort_keys=True)


def preset_from_text(text: str) -> Preset:
    """The preset that `preset_to_text` wrote.

    Raises:
        PresetError: where the text is no preset, or one of a version with other settings.
    """
    try:
        settings = json.loads(text)
        return Preset(**{**settings, 'weights': CostWeights(**settings['weights'])})
    except (TypeError, KeyError, json.JSONDecodeError) as error:
        raise PresetError(
            f'the recorded preset cannot be made again: {error}; it was recorded by a version '
            'with other settings'
        ) from error
