import pytest


@pytest.fixture(scope='session')
def urdf():
    """The description of the real robot, which another package of the workspace holds."""
    description = pytest.importorskip('dexwm_franka_bringup.description')
    return description.robot_description()


@pytest.fixture(scope='session')
def model(urdf):
    from dexwm.robot.model import RobotModel

    return RobotModel.from_urdf(urdf)
