import numpy as np
import pytest
import yaml

from dexwm_franka_bringup.cell_config import CellConfigError, load_cell_config


@pytest.fixture
def content():
    """The installed configuration, as plain data to change."""
    return yaml.safe_load(load_cell_config().path.read_text())


@pytest.fixture
def load(tmp_path):
    def write_and_load(content):
        path = tmp_path / 'cell.yaml'
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return load_cell_config(path)

    return write_and_load


def test_camera_looks_at_the_counter():
    """The view's centre line meets the counter's top in front of the robot."""
    config = load_cell_config()
    pose = config.camera.T_base_from_camera
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
    counter = config.box('counter')
    top = counter.position[2] + counter.size[2] / 2
    assert top == pytest.approx(0.22)
    distance = (top - pose[2, 3]) / pose[2, 2]
    hit = pose[:3, 3] + distance * pose[:3, 2]
    assert distance > 0.0
    assert (np.abs(hit - counter.position) < counter.size / 2 + 1e-9).all()


def test_picture_is_upright():
    """The picture's x axis is level and its y axis points down."""
    pose = load_cell_config().camera.T_base_from_camera
    assert pose[2, 0] == pytest.approx(0.0, abs=1e-12)
    assert pose[2, 1] < 0.0


def test_rpy_is_that_of_urdf(content, load):
    content['camera']['rpy'] = [0.0, 0.0, np.pi / 2]
    pose = load(content).camera.T_base_from_camera
    np.testing.assert_allclose(pose[:3, 2], [0, 1, 0], atol=1e-12)
    content['camera']['rpy'] = [np.pi, 0.0, 0.0]
    pose = load(content).camera.T_base_from_camera
    np.testing.assert_allclose(pose[:3, :3], [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_values_arrive(content, load):
    content['camera'].update(xyz=[1, 2, 3], width=640, height=480, fx=600.0, cx=319.5)
    content['mount'] = {'thickness': 0.02, 'yaw': 0.5}
    content['boxes'] = [{'name': 'table', 'size': [1, 2, 3], 'position': [4, 5, 6]}]
    config = load(content)
    np.testing.assert_array_equal(config.camera.T_base_from_camera[:3, 3], [1, 2, 3])
    assert (config.camera.intrinsics.width, config.camera.intrinsics.fx) == (640, 600.0)
    assert config.mount.thickness == 0.02
    np.testing.assert_array_equal(config.box('table').position, [4, 5, 6])


def test_unknown_box_lists_the_known():
    with pytest.raises(CellConfigError, match=r"'shelf'; there are \['counter'"):
        load_cell_config().box('shelf')


@pytest.mark.parametrize(
    ('section', 'key', 'value', 'message'),
    [
        ('camera', 'xyz', [0, 0], 'xyz must be 3 finite numbers'),
        ('camera', 'rpy', [0, 0, float('nan')], 'rpy must be 3 finite numbers'),
        ('camera', 'fx', -1.0, 'focal length'),
        ('camera', 'width', 392.5, 'width must be a whole number'),
        ('camera', 'fov', 1.0, 'camera must have exactly the keys'),
        ('mount', 'yaw', 'left', 'left'),
        ('mount', 'thickness', float('inf'), 'thickness must be finite'),
    ],
)
def test_bad_values_are_named(content, load, section, key, value, message):
    content[section][key] = value
    with pytest.raises(CellConfigError, match=rf'cell\.yaml: .*{message}'):
        load(content)


@pytest.mark.parametrize(
    ('box', 'message'),
    [
        ({'name': 'counter', 'size': [1, 1, 1], 'position': [0, 0, 0]}, 'must be unique'),
        ({'name': 'flat', 'size': [1, 1, 0], 'position': [0, 0, 0]}, 'edges must be positive'),
        ({'name': 'lost', 'size': [1, 1, 1]}, r'boxes\[4\] must have exactly the keys'),
    ],
)
def test_bad_boxes(content, load, box, message):
    content['boxes'].append(box)
    with pytest.raises(CellConfigError, match=message):
        load(content)


def test_unreadable_files(load, tmp_path):
    with pytest.raises(CellConfigError, match='cannot read'):
        load_cell_config(tmp_path / 'absent.yaml')
    with pytest.raises(CellConfigError, match='not valid YAML'):
        load('camera: [')
    with pytest.raises(CellConfigError, match='found None'):
        load('')
