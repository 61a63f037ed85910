import dataclasses
import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from dexwm.geometry.camera import CameraIntrinsics
from dexwm_franka_bringup.cell_config import load_cell_config
from dexwm_sim.cell import Cell
from dexwm_sim.render import CellRenderer, RenderError
from dexwm_sim.scene_config import QUALITIES, SceneConfig

USUAL = load_cell_config().camera.intrinsics
ODD = CameraIntrinsics(width=392, height=224, fx=260.0, fy=220.0, cx=180.0, cy=125.0)


@pytest.mark.parametrize('intrinsics', [USUAL, ODD], ids=['usual', 'odd'])
@pytest.mark.parametrize('scale', [1, 3])
def test_points_land_where_the_camera_matrix_says(intrinsics, scale):
    config = load_cell_config()
    config = dataclasses.replace(
        config, camera=dataclasses.replace(config.camera, intrinsics=intrinsics)
    )
    cell = Cell(SceneConfig.sample(0, ('sphere',), quality='fast'), cell=config)
    cell.model.geom('sphere').size[0] = 0.006
    cell.model.geom('sphere').rgba = [1, 0, 1, 1]
    width, height = scale * intrinsics.width, scale * intrinsics.height
    scaled = intrinsics.resized(width, height)
    T_camera_from_base = np.linalg.inv(config.camera.T_base_from_camera)
    points = [[0.5, 0.2, 0.25], [0.62, 0.3, 0.3], [0.45, 0.25, 0.4], [0.7, 0.35, 0.23]]
    with CellRenderer(cell.model, width, height) as renderer:
        for point in points:
            cell.data.joint('sphere').qpos[:3] = point
            mujoco.mj_forward(cell.model, cell.data)
            image = renderer.render(cell.data).astype(int)
            assert image.shape == (height, width, 3)
            # Magenta: green falls behind red and blue.
            weight = np.clip(np.minimum(image[..., 0], image[..., 2]) - image[..., 1] - 40, 0, 60)
            rows, columns = np.nonzero(weight)
            seen = np.average(np.stack([columns, rows], 1), axis=0, weights=weight[rows, columns])
            camera = T_camera_from_base[:3, :3] @ point + T_camera_from_base[:3, 3]
            np.testing.assert_allclose(seen, scaled.project(camera), atol=0.6)


def test_same_scene_same_picture():
    images = []
    for _ in range(2):
        cell = Cell(SceneConfig.sample(2))
        with CellRenderer(cell.model, 392, 224) as renderer:
            images.append(renderer.render(cell.data))
    np.testing.assert_array_equal(*images)
    assert images[0].std() > 20


def test_seed_and_look_change_the_picture():
    cell = Cell(SceneConfig.sample(1, ('box',)))
    with CellRenderer(cell.model, 392, 224) as renderer:
        first = renderer.render(cell.data)
        cell.load(SceneConfig.sample(2, ('box',)))
        second = renderer.render(cell.data)
    cell = Cell(SceneConfig.sample(2, ('box',)))
    with CellRenderer(cell.model, 392, 224) as renderer:
        third = renderer.render(cell.data)
    assert np.abs(first.astype(int) - second).mean() > 5
    np.testing.assert_array_equal(second, third)


def test_qualities_differ():
    images = {}
    for quality in QUALITIES:
        cell = Cell(SceneConfig.sample(5, ('box', 'can'), quality=quality))
        with CellRenderer(cell.model, 392, 224) as renderer:
            images[quality] = renderer.render(cell.data).astype(int)
    assert np.abs(images['fast'] - images['standard']).mean() > 0.5
    assert np.abs(images['fine'] - images['standard']).mean() > 0.2


def test_light_is_not_burnt_out():
    for seed in range(4):
        cell = Cell(SceneConfig.sample(seed, quality='fast'))
        with CellRenderer(cell.model, 392, 224) as renderer:
            image = renderer.render(cell.data)
        assert (image.min(axis=-1) >= 254).mean() < 0.02
        assert 60 < image.mean() < 200


def test_closed_renderer_says_so():
    cell = Cell(SceneConfig.sample(0, ('box',)))
    renderer = CellRenderer(cell.model, 64, 48)
    renderer.close()
    renderer.close()
    with pytest.raises(RenderError, match='closed'):
        renderer.render(cell.data)


def _run(code, **environment):
    return subprocess.run(
        [sys.executable, '-c', code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


MAKE = """
from dexwm_sim.cell import Cell
from dexwm_sim.render import CellRenderer
from dexwm_sim.scene_config import SceneConfig
cell = Cell(SceneConfig.sample(0, ('box',)))
renderer = CellRenderer(cell.model, 64, 48)
assert renderer.render(cell.data).shape == (48, 64, 3)
"""


def test_leaves_quietly_even_when_not_closed():
    result = _run(MAKE)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ''


def test_missing_libraries_are_named():
    # A vendor folder without vendors: as on a machine without Mesa or a driver.
    result = _run(MAKE, __EGL_VENDOR_LIBRARY_FILENAMES='/nonexistent.json', DISPLAY='')
    assert result.returncode != 0
    assert 'RenderError' in result.stderr
    assert 'libegl1 libgl1-mesa-dri' in result.stderr
    assert 'MUJOCO_GL=osmesa' in result.stderr
