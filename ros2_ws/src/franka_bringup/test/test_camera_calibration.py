from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from dexwm.calibration.camera_pose import CameraPose
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.robot.joints import HOME
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.camera_calibration import (
    CameraCalibrationError,
    load_camera_calibration,
    save_camera_calibration,
)
from dexwm_franka_bringup.camera_frames import body_pose, optical_pose
from dexwm_franka_bringup.cell_config import CAMERA_FRAME, load_cell_config
from dexwm_franka_bringup.description import robot_description

DATE = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
INTRINSICS = CameraIntrinsics(960, 540, 690.0, 686.0, 484.3, 266.8)


@pytest.fixture
def found():
    T_base_from_camera = np.eye(4)
    T_base_from_camera[:3, :3] = Rotation.from_euler('ZYX', [0.7, 0.1, -2.3]).as_matrix()
    T_base_from_camera[:3, 3] = [0.2, -0.4, 1.1]
    return CameraPose(
        T_base_from_camera=T_base_from_camera,
        T_hand_from_board=np.eye(4),
        reprojection_rms=0.3,
        view_rms=np.full(12, 0.3),
        residual_position=np.zeros(12),
        residual_angle=np.zeros(12),
        position_sigma=1e-3,
        angle_sigma=2e-3,
        scale=1.001,
        outliers=(4,),
    )


@pytest.fixture
def saved(found, tmp_path):
    path = tmp_path / 'camera.yaml'
    save_camera_calibration(path, found, INTRINSICS, 'palm_link', DATE)
    return path


def test_what_was_found_arrives_everywhere(found, saved):
    """In the cell's configuration, and through xacro in the robot's description."""
    assert load_camera_calibration(saved).date == DATE
    config = load_cell_config(None, saved)
    pose = config.camera.T_base_from_camera
    np.testing.assert_allclose(pose, found.T_base_from_camera, atol=1e-6)
    model = RobotModel.from_urdf(robot_description(config, meshes=False))
    np.testing.assert_allclose(model.frame_pose(HOME, CAMERA_FRAME), pose, atol=1e-9)
    # Everything else is the configuration's.
    assert config.boxes[0].name == load_cell_config().boxes[0].name
    assert not np.allclose(load_cell_config().camera.T_base_from_camera, pose, atol=0.1)


def test_the_report_is_kept(saved):
    content = yaml.safe_load(saved.read_text())
    assert content['result'] == {
        'held_by': 'palm_link',
        'views': 12,
        'left_out': 1,
        'reprojection_rms_pixels': 0.3,
        'position_sigma_mm': 1.0,
        'angle_sigma_degrees': pytest.approx(0.1146),
        'board_scale': 1.001,
    }
    assert content['picture']['fx'] == 690.0


def test_a_calibration_before_is_kept(found, saved):
    before = saved.read_text()
    save_camera_calibration(saved, found, INTRINSICS, 'fr3_link8', DATE + timedelta(days=1))
    others = [path for path in saved.parent.iterdir() if path != saved]
    assert [path.read_text() for path in others] == [before]
    assert load_camera_calibration(saved).date == DATE + timedelta(days=1)


def test_age(saved):
    calibration = load_camera_calibration(saved)
    assert calibration.stale(DATE + timedelta(days=29)) == ''
    assert '31 days old (from 2026-03-01)' in calibration.stale(DATE + timedelta(days=31))
    assert '3 days old' in calibration.stale(DATE + timedelta(days=3), timedelta(days=2))
    assert 'in the future' in calibration.stale(DATE - timedelta(hours=1))
    assert calibration.stale(DATE - timedelta(minutes=1)) == ''


def test_frames_are_there_and_back():
    xyz, rpy = [0.1, 0.2, 0.3], [0.3, -0.5, 2.0]
    found = body_pose(optical_pose(xyz, rpy))
    np.testing.assert_allclose(found, [xyz, rpy], atol=1e-12)
    # A body that looks along x has its optical z there, and its optical x to the right (-y).
    np.testing.assert_allclose(
        optical_pose([0, 0, 0], [0, 0, 0])[:3, :3], [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], atol=1e-12
    )


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, 'cannot read the camera calibration'),
        ('camera: [', 'not valid YAML'),
        ('', 'is no camera calibration'),
        ('camera: {xyz: [0, 0, 0], rpy: [0, 0, 0]}', "'date'"),
        ('{date: 2026-03-01T12:00:00, camera: {xyz: [0, 0, 0], rpy: [0, 0, 0]}}', 'no time zone'),
        ('{date: "2026-03-01T12:00:00Z", camera: {xyz: [0, 0], rpy: [0, 0, 0]}}', 'xyz must be 3'),
        ('{date: yesterday, camera: {xyz: [0, 0, 0], rpy: [0, 0, 0]}}', 'yesterday'),
    ],
)
def test_files_that_cannot_be_used(text, message, tmp_path):
    path = tmp_path / 'camera.yaml'
    if text is not None:
        path.write_text(text)
    with pytest.raises(CameraCalibrationError, match=message):
        load_camera_calibration(path)
