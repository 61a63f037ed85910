import pytest
import torch


@pytest.fixture(scope='module', autouse=True)
def _threads():
    """Sums are rounded otherwise with more threads: what tests set ends with their module."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='session')
def urdf():
    """The description of the real robot, which another package of the workspace holds."""
    description = pytest.importorskip('dexwm_franka_bringup.description')
    return description.robot_description()


@pytest.fixture(scope='session')
def model(urdf):
    from dexwm.robot.model import RobotModel

    return RobotModel.from_urdf(urdf)
