"""Results on disk."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON, whole or not at all; what is not a number becomes null.

    Args:
        path: The file, written over if it is there.
        content: Of dictionaries, lists, tuples, text and numbers.
    """
    part = path.with_suffix('.part')
    part.write_text(json.dumps(_without_nan(content), indent=1, allow_nan=False) + '\n')
    os.replace(part, path)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
