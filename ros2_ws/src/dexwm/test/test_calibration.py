import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dexwm.calibration.board_view import BoardView, BoardViewError
from dexwm.calibration.camera_pose import (
    MIN_VIEWS,
    CalibrationFailed,
    check_poses,
    solve_camera_pose,
)
from dexwm.calibration.charuco_board import BoardError, CharucoBoard
from dexwm.calibration.hand_eye import DegeneratePosesError, solve_hand_eye
from dexwm.calibration.lens import Lens, LensError
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.geometry.rotations import inverse_pose

from .board_camera import BoardCamera

INTRINSICS = CameraIntrinsics(960, 540, 690.0, 686.0, 484.3, 266.8)
LENS = Lens('plumb_bob', (-0.11, 0.06, 0.0008, -0.0005, -0.01))
BOARD = CharucoBoard()


def pose(rotation, translation):
    result = np.eye(4)
    result[:3, :3] = rotation.as_matrix()
    result[:3, 3] = translation
    return result


T_BASE_FROM_CAMERA = pose(
    Rotation.from_euler('ZYX', [0.73, 0.02, -2.36]) * Rotation.from_euler('Z', 0.1),
    [0.10, 0.55, 1.00],
)
T_HAND_FROM_BOARD = pose(Rotation.from_euler('xyz', [0.2, -0.4, 1.9]), [-0.09, -0.06, 0.05])


def hand_poses(n, rng, tilt=0.5):
    """Poses of the hand at which the board, tilted anyhow, is in the middle of the view."""
    poses = []
    for _ in range(n):
        turn = Rotation.from_rotvec(
            [*rng.uniform(-tilt, tilt, 2), rng.uniform(-np.pi / 2, np.pi / 2) if tilt else 0.0]
        )
        centre = np.array([BOARD.columns, BOARD.rows, 0.0]) * BOARD.square / 2
        at = np.array([rng.uniform(-0.15, 0.15), rng.uniform(-0.08, 0.08), rng.uniform(0.5, 0.8)])
        T_camera_from_board = pose(turn, at - turn.apply(centre))
        poses.append(T_BASE_FROM_CAMERA @ T_camera_from_board @ inverse_pose(T_HAND_FROM_BOARD))
    return np.array(poses)


def seen(T_base_from_hand, camera, rng, board=BOARD):
    T_camera_from_board = inverse_pose(T_BASE_FROM_CAMERA) @ T_base_from_hand @ T_HAND_FROM_BOARD
    return camera.picture(board, T_camera_from_board, rng)


def ideal_view(T_base_from_hand, noise=None, T_hand_from_board=T_HAND_FROM_BOARD, scale=1.0):
    """A view without picture: corners projected, with noise in pixels."""
    chain = inverse_pose(T_BASE_FROM_CAMERA) @ T_base_from_hand @ T_hand_from_board
    points = scale * BOARD.corners @ chain[:3, :3].T + chain[:3, 3]
    pixels = INTRINSICS.project(points)
    if noise is not None:
        pixels = pixels + noise.normal(0, 0.2, pixels.shape)
    return BoardView(T_base_from_hand, BOARD.corners, pixels)


def assert_found(found, millimetres, degrees):
    error = inverse_pose(T_BASE_FROM_CAMERA) @ found
    assert np.linalg.norm(error[:3, 3]) <= millimetres * 1e-3
    assert np.degrees(Rotation.from_matrix(error[:3, :3]).magnitude()) <= degrees


@pytest.fixture(scope='module')
def pictures():
    """12 pictures of the board, and where the hand was said to be: joints are not perfect."""
    rng = np.random.default_rng(0)
    camera = BoardCamera(INTRINSICS, LENS)
    hands = hand_poses(12, rng)
    images = [seen(hand, camera, rng) for hand in hands]
    jitter = [
        pose(Rotation.from_rotvec(rng.normal(0, 5e-4, 3)), rng.normal(0, 3e-4, 3)) for _ in hands
    ]
    return images, hands @ np.array(jitter)


def test_rendered_boards_give_the_camera_pose(pictures):
    """From pictures with distortion, blur and noise, and joints off by half a milliradian."""
    views = [
        BoardView.from_picture(image, BOARD, hand, INTRINSICS, LENS)
        for image, hand in zip(*pictures, strict=True)
    ]
    result = solve_camera_pose(views, INTRINSICS)
    assert_found(result.T_base_from_camera, 2.0, 0.2)
    assert result.reprojection_rms < 1.0
    assert result.outliers == ()
    assert result.residual_position.max() < 0.01
    assert np.degrees(result.residual_angle.max()) < 1.0
    assert result.scale == pytest.approx(1.0, abs=0.005)


def test_corners_are_found_to_a_tenth_of_a_pixel(pictures):
    images, _ = pictures
    found = BOARD.find(images[0])
    assert len(found.ids) == len(BOARD.corners) == 24
    rng = np.random.default_rng(0)
    chain = inverse_pose(T_BASE_FROM_CAMERA) @ hand_poses(1, rng)[0] @ T_HAND_FROM_BOARD
    points = BOARD.corners[found.ids] @ chain[:3, :3].T + chain[:3, 3]
    truth = LENS.distorted(INTRINSICS.project(points), INTRINSICS)
    assert np.sqrt(((found.pixels - truth) ** 2).sum(axis=1).mean()) < 0.1


def test_ignoring_the_lens_misses_the_tolerance(pictures):
    """What undistortion is worth with this lens."""
    views = [
        BoardView.from_picture(image, BOARD, hand, INTRINSICS, Lens())
        for image, hand in zip(*pictures, strict=True)
    ]
    result = solve_camera_pose(views, INTRINSICS)
    error = inverse_pose(T_BASE_FROM_CAMERA) @ result.T_base_from_camera
    assert np.linalg.norm(error[:3, 3]) > 2e-3


def test_closed_form_is_exact_without_noise():
    hands = hand_poses(5, np.random.default_rng(1))
    boards = inverse_pose(T_BASE_FROM_CAMERA) @ hands @ T_HAND_FROM_BOARD
    X, Y = solve_hand_eye(hands, boards)
    np.testing.assert_allclose(X, T_BASE_FROM_CAMERA, atol=1e-9)
    np.testing.assert_allclose(Y, T_HAND_FROM_BOARD, atol=1e-9)


@pytest.mark.parametrize('joint_error', [0.0, 1e-3], ids=['exact joints', 'inexact joints'])
def test_standard_errors_are_those_of_repeated_calibrations(joint_error):
    """Predicted scatter against that of 20 calibrations with other noise."""
    hands = hand_poses(10, np.random.default_rng(2))
    positions, turns, predicted = [], [], []
    for seed in range(20):
        noise = np.random.default_rng(100 + seed)
        views = []
        for hand in hands:
            view = ideal_view(hand, noise)
            off = pose(
                Rotation.from_rotvec(noise.normal(0, joint_error, 3)),
                noise.normal(0, joint_error, 3),
            )
            views.append(BoardView(hand @ off, view.points_board, view.pixels))
        result = solve_camera_pose(views, INTRINSICS)
        error = T_BASE_FROM_CAMERA @ inverse_pose(result.T_base_from_camera)
        positions.append(result.T_base_from_camera[:3, 3] - T_BASE_FROM_CAMERA[:3, 3])
        turns.append(Rotation.from_matrix(error[:3, :3]).as_rotvec())
        predicted.append((result.position_sigma, result.angle_sigma))
    scatter = [np.sqrt((np.array(v) ** 2).sum(axis=1).mean()) for v in (positions, turns)]
    np.testing.assert_allclose(np.mean(predicted, axis=0), scatter, rtol=0.4)


def test_a_wrong_print_shows_in_the_scale():
    hands = hand_poses(10, np.random.default_rng(3))
    noise = np.random.default_rng(4)
    result = solve_camera_pose([ideal_view(h, noise, scale=0.99) for h in hands], INTRINSICS)
    assert result.scale == pytest.approx(0.99, abs=0.001)


def test_one_bad_view_is_named_and_left_out():
    hands = hand_poses(10, np.random.default_rng(5))
    noise = np.random.default_rng(6)
    views = [ideal_view(h, noise) for h in hands]
    slipped = T_HAND_FROM_BOARD @ pose(Rotation.from_euler('x', 0.05), [0.01, 0, 0])
    views[3] = ideal_view(hands[3], noise, slipped)
    result = solve_camera_pose(views, INTRINSICS)
    assert result.outliers == (3,)
    assert result.view_rms[3] > 5 * np.median(result.view_rms)
    assert_found(result.T_base_from_camera, 2.0, 0.2)


def test_a_board_that_keeps_slipping_is_refused():
    rng = np.random.default_rng(7)
    views = [
        ideal_view(
            hand,
            None,
            T_HAND_FROM_BOARD
            @ pose(Rotation.from_rotvec(rng.normal(0, 0.1, 3)), rng.normal(0, 0.03, 3)),
        )
        for hand in hand_poses(10, rng)
    ]
    with pytest.raises(CalibrationFailed, match='the board slipped'):
        solve_camera_pose(views, INTRINSICS)


def test_too_few_left_without_the_bad_views():
    hands = hand_poses(MIN_VIEWS, np.random.default_rng(5))
    views = [ideal_view(h, np.random.default_rng(6)) for h in hands]
    views[2] = ideal_view(
        hands[2], None, T_HAND_FROM_BOARD @ pose(Rotation.identity(), [0.02] * 3)
    )
    with pytest.raises(CalibrationFailed, match=r'views \[3\] contradict the others'):
        solve_camera_pose(views, INTRINSICS)


def test_too_few_or_degenerate_poses_are_refused_in_words():
    rng = np.random.default_rng(8)
    with pytest.raises(DegeneratePosesError, match='7 views of the board are too few'):
        check_poses(hand_poses(7, rng))
    with pytest.raises(DegeneratePosesError, match='at least 10 are needed'):
        check_poses(hand_poses(12, rng, tilt=0.0))
    about_one_axis = np.array(
        [pose(Rotation.from_euler('z', a), [a, 0, 0.4]) for a in np.linspace(-1, 1, 12)]
    )
    with pytest.raises(DegeneratePosesError, match='tilt the board left and right'):
        check_poses(about_one_axis)
    with pytest.raises(DegeneratePosesError, match='about one axis'):
        solve_hand_eye(about_one_axis, about_one_axis)


def test_views_that_do_not_show_the_board(pictures):
    image = pictures[0][0]
    blank = np.full_like(image, 128)
    with pytest.raises(BoardViewError, match='no board is seen'):
        BoardView.from_picture(blank, BOARD, np.eye(4), INTRINSICS, LENS)
    with pytest.raises(BoardViewError, match='its camera matrix is for 960x540'):
        BoardView.from_picture(image[:100], BOARD, np.eye(4), INTRINSICS, LENS)
    # Cut through the board: only its first columns of corners are left.
    left = np.sort(BOARD.find(image).pixels[:, 0])[7] + 4
    hidden = image.copy()
    hidden[:, int(left) :] = 128
    with pytest.raises(BoardViewError, match=r'only \d corners|no board'):
        BoardView.from_picture(hidden, BOARD, np.eye(4), INTRINSICS, LENS)
    with pytest.raises(BoardError, match='no picture of bytes'):
        BOARD.find(image.astype(np.float32))


@pytest.mark.parametrize(
    'lens',
    [
        LENS,
        Lens('rational_polynomial', (0.2, -0.1, 1e-4, -2e-4, 0.01, 0.5, -0.05, 0.02)),
        Lens('equidistant', (0.02, -0.01, 0.003, -0.001)),
    ],
    ids=lambda lens: lens.model,
)
def test_undistortion_inverts_distortion(lens):
    rng = np.random.default_rng(9)
    ideal = rng.uniform((80, 50), (880, 490), (50, 2))
    moved = lens.distorted(ideal, INTRINSICS)
    assert np.abs(moved - ideal).max() > 1.0
    np.testing.assert_allclose(lens.undistorted(moved, INTRINSICS), ideal, atol=1e-3)


def test_distortion_is_that_of_the_model():
    """The plumb bob's formula, written out for one point."""
    k1, k2, p1, p2, k3 = LENS.coefficients
    x, y = 0.3, -0.2
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    yd = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    K = INTRINSICS
    found = LENS.distorted([[K.fx * x + K.cx, K.fy * y + K.cy]], K)
    np.testing.assert_allclose(found, [[K.fx * xd + K.cx, K.fy * yd + K.cy]], atol=1e-6)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'dictionary': 'DICT_9X9'}, 'it is one of DICT_4X4_50'),
        ({'columns': 2}, 'too small'),
        ({'square': 30.0, 'marker': 22.0}, 'given in metres'),
        ({'marker': 0.03}, 'a marker is smaller'),
        ({'square': float('nan')}, 'a marker is smaller'),
        ({'columns': 20, 'rows': 20}, 'need 200 markers'),
    ],
)
def test_boards_that_do_not_exist(arguments, message):
    with pytest.raises(BoardError, match=message):
        CharucoBoard(**arguments)


def test_lenses_that_do_not_exist():
    with pytest.raises(LensError, match='one of plumb_bob'):
        Lens('fisheye', (0.0,) * 4)
    with pytest.raises(LensError, match='plumb_bob has 5'):
        Lens('plumb_bob', (0.0,) * 4)
