import numpy as np
from scipy.spatial.transform import Rotation

from dexwm.geometry.rotations import (
    euler_xyz,
    inverse_pose,
    relative_pose,
    transform_points,
    wrap_angle,
)


def random_poses(rng, *shape):
    poses = np.zeros((*shape, 4, 4))
    flat = Rotation.random(int(np.prod(shape)), rng).as_matrix()
    poses[..., :3, :3] = flat.reshape(*shape, 3, 3)
    poses[..., :3, 3] = rng.normal(size=(*shape, 3))
    poses[..., 3, 3] = 1
    return poses


def turn(axis, angle):
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix


def test_euler_angles_turn_about_fixed_x_then_y_then_z():
    angles = np.random.default_rng(0).uniform(-1.5, 1.5, (4, 5, 3))
    matrices = np.empty((4, 5, 3, 3))
    for i in np.ndindex(4, 5):
        x, y, z = angles[i]
        matrices[i] = turn(2, z) @ turn(1, y) @ turn(0, x)
    np.testing.assert_allclose(euler_xyz(matrices), angles, atol=1e-9)


def test_wrapped_angles():
    np.testing.assert_allclose(
        wrap_angle([0.1, -0.1, np.pi, 3 * np.pi / 2, -7.0]),
        [0.1, -0.1, -np.pi, -np.pi / 2, 2 * np.pi - 7.0],
    )


def test_poses_invert_and_chain():
    rng = np.random.default_rng(1)
    a, b = random_poses(rng, 3, 2), random_poses(rng, 3, 2)
    np.testing.assert_allclose(inverse_pose(a), np.linalg.inv(a), atol=1e-12)
    np.testing.assert_allclose(relative_pose(a, b), np.linalg.inv(a) @ b, atol=1e-12)
    points = rng.normal(size=(3, 2, 7, 3))
    homogeneous = np.concatenate([points, np.ones((3, 2, 7, 1))], -1)
    expected = np.einsum('abij,abnj->abni', a, homogeneous)[..., :3]
    np.testing.assert_allclose(transform_points(a, points), expected, atol=1e-12)
