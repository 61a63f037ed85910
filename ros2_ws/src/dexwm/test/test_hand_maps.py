"""Hands on the grid of tokens."""

import pytest
import torch

from dexwm.model.hand_maps import HandMaps, HandMapsConfig, HandMapsError

CONFIG = HandMapsConfig(grid=(4, 6), patch=8, keypoints=4)


def told(*points):
    """Columns, rows and depths: left hand before, right hand before, left after, right after."""
    return torch.tensor(points, dtype=torch.float32).flatten()


def parts(action):
    """What goes into the last layer: four maps (4, 6, 8) of keypoints before and after."""
    maps = HandMaps(CONFIG, 4)
    inside = []
    maps.linear.register_forward_pre_hook(lambda _, inputs: inside.append(inputs[0]))
    assert maps(action[None]).shape == (1, 24, 4)
    return inside[0][0].unflatten(0, CONFIG.grid).chunk(4, dim=-1)


UNKNOWN = (0.0, 0.0, 0.0)
# Pixels of the centres of tokens (row 1, column 2) and (row 2, column 4).
HERE, THERE = (19.5, 11.5, 1.0), (35.5, 19.5, 0.9)


def test_a_keypoint_is_a_spot_where_the_picture_shows_it():
    action = told(UNKNOWN, UNKNOWN, HERE, HERE, UNKNOWN, UNKNOWN, THERE, THERE)
    spots, away_u, away_v, beyond = parts(action)
    for keypoint in (0, 1, 4, 5):
        assert not spots[..., keypoint].any()
    for keypoint, place, depth in ((2, (1, 2), 1.0), (7, (2, 4), 0.9)):
        assert spots[..., keypoint].argmax() == place[0] * 6 + place[1]
        assert spots[*place, keypoint] == 1
        fading = torch.exp(torch.tensor(-1 / (2 * 0.7**2)))
        beside = (place[0], place[1] - 1)
        torch.testing.assert_close(spots[*beside, keypoint], fading)
        torch.testing.assert_close(away_u[*beside, keypoint], fading)
        assert away_v[*beside, keypoint] == 0
        torch.testing.assert_close(beyond[*place, keypoint], torch.tensor((depth - 0.9) * 4))


def test_gradients_reach_where_the_hand_goes():
    action = told(UNKNOWN, UNKNOWN, HERE, HERE, UNKNOWN, UNKNOWN, THERE, THERE).requires_grad_()
    torch.manual_seed(0)
    HandMaps(CONFIG, 4)(action[None]).square().sum().backward()
    assert action.grad.isfinite().all()
    assert (action.grad.unflatten(0, (8, 3))[6:] != 0).all()


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (((0, 6), 8, 4), r'grid=\(0, 6\)'),
        (((4, 6), 0, 4), 'patch=0'),
        (((4, 6), 8, 4, 0.0), 'width=0.0'),
        (((4, 6), 8, 0), 'goes without maps'),
    ],
)
def test_impossible_configurations_are_refused(values, message):
    with pytest.raises(HandMapsError, match=message):
        HandMapsConfig(*values)
