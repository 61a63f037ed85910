"""Reads recipes: YAML, variables of the environment, and changes from the command line."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from dexwm.training.recipe import RECIPES, Recipe

_VARIABLE = re.compile(r'\$\{(\w+)(?::-([^}]*))?\}')


class RecipeError(ValueError):
    """A recipe that cannot be followed; the message names file, key and what would do."""


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Reads a recipe.

    Strings may hold `${NAME}` or `${NAME:-otherwise}`, which the environment fills in.

    Args:
        path: YAML file.
        changes: `KEY=VALUE`, the key as dotted path (`data.0.path=/data/egodex`), the value as
            in YAML. They are made before the recipe is checked.

    Raises:
        RecipeError: If the file cannot be read, or does not say what a recipe says.
    """
    try:
        content = yaml.load(path.read_text(), _StrictLoader)
    except OSError as error:
        raise RecipeError(f'{path}: {error.strerror}') from None
    except yaml.YAMLError as error:
        raise RecipeError(f'{path}: not YAML: {error}') from None
    if not isinstance(content, dict):
        raise RecipeError(f'{path}: a recipe is a mapping of keys, this is none')
    for change in changes:
        _apply(content, change)
    kind = content.get('kind')
    if kind not in RECIPES:
        raise RecipeError(f'{path}: kind: {kind!r} is none of {", ".join(RECIPES)}')
    recipe = RECIPES[kind]
    try:
        return TypeAdapter(recipe).validate_python(_filled_in(content, path))
    except ValidationError as error:
        lines = [_explained(recipe, item) for item in error.errors()]
        raise RecipeError('\n'.join(f'{path}: {line}' for line in lines)) from None


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f'the key {key!r} stands twice', node.start_mark
                )
        return super().construct_mapping(node, deep)


def _apply(content: dict[str, Any], change: str) -> None:
    key, separator, text = change.partition('=')
    if not separator or not key:
        raise RecipeError(f'--set {change}: not of the form KEY=VALUE')
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f'--set {change}: the value is not YAML: {error}') from None
    *ways, last = key.split('.')
    place: Any = content
    for way in ways:
        if isinstance(place, dict) and place.get(way) is None:
            place[way] = {}
        place = place[_checked(place, way, key)]
    place[_checked(place, last, key)] = value


def _checked(place: Any, way: str, key: str) -> int | str:
    """The key or the index that a part of a dotted path stands for."""
    if isinstance(place, dict):
        return way
    if not isinstance(place, list):
        raise RecipeError(f'--set {key}: {place!r} has no {way}')
    if not way.isdigit() or int(way) >= len(place):
        raise RecipeError(f'--set {key}: {way} is not an index of {len(place)} entries')
    return int(way)


def _filled_in(value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _filled_in(item, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled_in(item, path) for item in value]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        name, otherwise = match.groups()
        found = os.environ.get(name) or otherwise
        if found is None:
            raise RecipeError(f'{path}: ${{{name}}}: this variable of the environment is not set')
        return found

    return _VARIABLE.sub(replacement, value)


def _explained(recipe: type[BaseModel], item: Any) -> str:
    location = item['loc']
    where = '.'.join(str(part) for part in location)
    if item['type'] in ('extra_forbidden', 'unexpected_keyword_argument'):
        keys = sorted(_keys_at(recipe, location[:-1]))
        return f'{where}: unknown key; there are {", ".join(keys)}'
    if item['type'] == 'missing':
        return f'{where}: missing'
    given = '' if isinstance(item['input'], dict | list) else f' (given: {item["input"]!r})'
    message = item['msg'].removeprefix('Value error, ')
    return f'{where}: {message}{given}' if where else message


def _keys_at(recipe: type[BaseModel], location: Sequence[int | str]) -> set[str]:
    """The keys that a part of a recipe has."""
    here: Any = recipe
    for part in location:
        if isinstance(part, str):
            here = _fields(here)[part]
        here = _section_in(here)
    return set(_fields(here))


def _fields(section: Any) -> dict[str, Any]:
    """Types of a section's keys; sections are pydantic models or dataclasses."""
    if dataclasses.is_dataclass(section):
        return {field.name: field.type for field in dataclasses.fields(section)}
    return {name: field.annotation for name, field in section.model_fields.items()}


def _section_in(annotation: Any) -> Any:
    """The section that a type speaks of: itself, or what a list or an option is of."""
    if get_origin(annotation) is None:
        is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        return annotation if is_model or dataclasses.is_dataclass(annotation) else None
    found = (_section_in(argument) for argument in get_args(annotation))
    return next((section for section in found if section is not None), None)
