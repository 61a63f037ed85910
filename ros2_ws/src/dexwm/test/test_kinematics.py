import numpy as np
import pinocchio
import pytest
import torch

from dexwm.robot.joints import HOME, robot_limits
from dexwm.robot.kinematics import BatchedKinematics
from dexwm.robot.model import RobotModel, RobotModelError


@pytest.fixture(scope='module')
def kinematics(model):
    return BatchedKinematics.from_model(model)


@pytest.fixture(scope='module')
def samples(model):
    limits = robot_limits()
    q = np.random.default_rng(7).uniform(limits.lower, limits.upper, (1000, 23))
    return q, np.stack([model.keypoints(row) for row in q])


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_equals_pinocchio(model, samples, dtype, tolerance):
    q, expected = samples
    kinematics = BatchedKinematics.from_model(model).to(dtype)
    points = kinematics(torch.tensor(q, dtype=dtype))
    assert points.dtype == dtype
    np.testing.assert_allclose(points.numpy(), expected, rtol=0.0, atol=tolerance)


def test_differentiable(kinematics):
    q = torch.tensor(np.stack([HOME, HOME + 0.1]), requires_grad=True)
    assert torch.autograd.gradcheck(kinematics, q)


def test_gradient_equals_pinocchios_jacobian(kinematics, model):
    jacobian = torch.autograd.functional.jacobian(kinematics, torch.tensor(HOME))
    np.testing.assert_allclose(
        jacobian[8].numpy(), model.jacobian(HOME, 'link_3.0_tip')[:3], atol=1e-12
    )


def test_any_batch_shape(kinematics, samples):
    q, expected = samples
    points = kinematics(torch.from_numpy(q[:12]).view(3, 2, 2, 23))
    assert points.shape == (3, 2, 2, 21, 3)
    np.testing.assert_allclose(points.numpy().reshape(12, 21, 3), expected[:12], atol=1e-12)
    assert kinematics(torch.from_numpy(q[0])).shape == (21, 3)
    assert kinematics(torch.empty(0, 23, dtype=torch.float64)).shape == (0, 21, 3)


def test_wrong_inputs_are_refused(kinematics):
    with pytest.raises(ValueError, match='23'):
        kinematics(torch.zeros(2, 7, dtype=torch.float64))
    with pytest.raises(ValueError, match='float32'):
        kinematics(torch.zeros(2, 23))


def test_another_tree_is_refused(urdf):
    """A finger that hangs on another finger would be computed wrongly, so it is an error."""
    tree = pinocchio.buildModelFromXML(
        urdf.replace(
            '<joint name="joint_4.0" type="revolute"><parent link="palm_link"/>',
            '<joint name="joint_4.0" type="revolute"><parent link="link_1.0"/>',
        )
    )
    with pytest.raises(RobotModelError, match=r'joint_4\.0 must be a child of fr3_joint7'):
        BatchedKinematics.from_model(RobotModel(tree))
