"""Visual meshes made light enough for software rendering."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import fast_simplification
import numpy as np
import trimesh
from numpy.typing import NDArray

_SMALL = 500
# Digits after the point to which vertices are the same (m): 0.1 mm.
_WELD_DIGITS = 4
_VERSION = 2


def decimated_mesh(path: Path, keep: float) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Loads a triangle mesh with fewer faces.

    Software OpenGL spends its time on vertices: with all faces of the FR3's visual meshes
    (232,000) a picture takes several times as long as with a tenth of them, and looks the same
    at the camera's resolution. The result is kept in the user's cache folder
    (``$XDG_CACHE_HOME/dexwm`` or ``~/.cache/dexwm``), because making it takes seconds and
    loading it milliseconds.

    Args:
        path: Mesh file. Texture coordinates and normals are dropped.
        keep: Fraction of the faces to keep, in (0, 1]. Meshes below 500 faces stay whole.

    Returns:
        Vertices (V, 3) in the file's unit, and faces (F, 3).
    """
    stat = path.stat()
    key = f'{_VERSION} {path} {stat.st_size} {stat.st_mtime_ns} {keep}'
    name = f'{path.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz'
    cached = _cache_folder() / name
    if cached.is_file():
        with np.load(cached) as arrays:
            return arrays['vertices'], arrays['faces']
    vertices, faces = _decimate(path, keep)
    _write_whole(cached, vertices, faces)
    return vertices, faces


def _cache_folder() -> Path:
    root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(root) / 'dexwm' / 'meshes'


def _decimate(path: Path, keep: float) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    mesh = trimesh.load(path, force='mesh', process=False)
    # A vertex is stored once per normal and texture seam, and parts do not quite meet. Edges
    # must be closed first: decimation keeps open ones as they are.
    _, first, index = np.unique(
        np.round(mesh.vertices, _WELD_DIGITS), axis=0, return_index=True, return_inverse=True
    )
    vertices = mesh.vertices[first].astype(np.float32)
    faces = index.reshape(-1)[mesh.faces].astype(np.int32)
    corners = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2])
    faces = faces[corners & (faces[:, 2] != faces[:, 0])]
    if len(faces) < _SMALL:
        return vertices, faces
    vertices, faces = fast_simplification.simplify(vertices, faces, target_reduction=1 - keep)
    return vertices.astype(np.float32), faces.astype(np.int32)


def _write_whole(path: Path, vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> None:
    """Writes the file so that a process reading at the same time sees all of it or nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            np.savez(file, vertices=vertices, faces=faces)
        Path(file.name).replace(path)
    except OSError:
        # A read-only home costs time, nothing else.
        return
