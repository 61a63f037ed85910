import numpy as np
import pytest

from dexwm.robot.box import Box
from dexwm.robot.collision import CollisionChecker, CollisionModelError
from dexwm.robot.ik import solve_ik
from dexwm.robot.joints import ARM, HAND, HOME, robot_limits
from dexwm.robot.model import RobotModelError

COUNTER = Box('counter', [0.86, 1.7, 0.04], [0.61, 0.1, 0.2])
COUNTER_TOP = 0.22
TIP_RADIUS = 0.012

# The palm over the counter's middle, pitched by 43 degrees, 10 cm above it at the fingertips.
HOVER = HOME.copy()
HOVER[ARM] = [0.0, -0.35, 0.0, -2.45, 0.0, 2.85, 0.785]


@pytest.fixture(scope='module')
def checker(urdf):
    return CollisionChecker.from_urdf(urdf, [COUNTER])


def lowered(model, height):
    """Joint positions with the hovering palm ``height`` lower."""
    target = model.frame_pose(HOVER, 'palm_link')
    target[2, 3] -= height
    result = solve_ik(model, 'palm_link', target, HOVER, robot_limits())
    assert result.converged
    return result.q


def test_home_is_free(checker):
    assert checker.check(HOME) == []
    assert checker.check(HOVER) == []


def test_hand_in_the_counter_is_found(checker, model):
    contacts = checker.check(lowered(model, 0.1))
    assert {contact.second for contact in contacts} == {'counter'}
    assert 'link_7.0_tip' in {contact.first for contact in contacts}
    assert all(contact.distance < 0.0 for contact in contacts)
    distances = [contact.distance for contact in contacts]
    assert distances == sorted(distances)


def test_hand_in_the_arm_is_found(checker):
    q = HOVER.copy()
    q[[1, 3, 5]] = [-1.7, -3.0, 1.0]
    pairs = {(contact.first, contact.second) for contact in checker.check(q)}
    assert ('fr3_link1', 'palm_link') in pairs


def test_closed_hand_is_free(checker):
    q = HOVER.copy()
    q[HAND] = robot_limits().upper[HAND]
    assert checker.check(q) == []


def test_distance_is_that_of_the_geometry(urdf, model):
    """Within the clearance, a fingertip's distance is its height less its radius."""
    checker = CollisionChecker.from_urdf(urdf, [COUNTER], clearance=0.05)
    q = lowered(model, 0.06)
    heights = {
        tip: model.frame_pose(q, tip)[2, 3] - TIP_RADIUS - COUNTER_TOP
        for tip in ('link_3.0_tip', 'link_7.0_tip', 'link_11.0_tip')
    }
    assert all(0.0 < height < 0.05 for height in heights.values())
    found = {c.first: c.distance for c in checker.check(q) if c.second == 'counter'}
    for tip, height in heights.items():
        assert found[tip] == pytest.approx(height, abs=1e-4)
    assert CollisionChecker.from_urdf(urdf, [COUNTER]).check(q) == []


def test_clearance_zero_and_larger_agree_on_what_touches(urdf):
    """A contact without clearance is one with clearance, just as deep."""
    tight = CollisionChecker.from_urdf(urdf, [COUNTER])
    wide = CollisionChecker.from_urdf(urdf, [COUNTER], clearance=0.02)
    limits = robot_limits()
    touching = 0
    for q in np.random.default_rng(0).uniform(limits.lower, limits.upper, (200, 23)):
        near = {(c.first, c.second): c.distance for c in wide.check(q)}
        for contact in tight.check(q):
            touching += 1
            assert near[contact.first, contact.second] == pytest.approx(contact.distance, abs=1e-3)
    assert touching > 50


def test_path_between_free_points_is_checked(urdf):
    """A thin post stands where the hand sweeps past."""
    start, end = HOVER.copy(), HOVER.copy()
    start[0], end[0] = -0.6, 0.6
    post = Box('post', [0.02, 0.02, 1.0], [0.55, 0.0, 0.5])
    checker = CollisionChecker.from_urdf(urdf, [post])
    assert checker.check(start) == []
    assert checker.check(end) == []
    collision = checker.check_path(np.stack([start, start, end]))
    assert collision.segment == 1
    assert 0.1 < collision.fraction < 0.5
    assert collision.contacts[0].second == 'post'
    np.testing.assert_allclose(collision.q, start + (end - start) * collision.fraction)
    assert 'of the way from point 1 to 2: ' in str(collision)
    assert CollisionChecker.from_urdf(urdf).check_path(np.stack([start, end])) is None


def test_step_bounds_every_joint(urdf):
    """The post is found even where one joint turns much farther than the others."""
    start, end = HOVER.copy(), HOVER.copy()
    start[0], end[0] = -0.6, 0.6
    start[6] = -2.0
    post = Box('post', [0.005, 0.005, 1.0], [0.62, 0.0, 0.5])
    assert CollisionChecker.from_urdf(urdf, [post]).check_path([start, end]) is not None


def test_hand_that_touches_may_leave_but_not_go_deeper(checker, model):
    pressed = lowered(model, 0.09)
    deeper = lowered(model, 0.12)
    assert checker.check(pressed)
    assert checker.check_path([pressed, HOVER]) is None
    assert 'counter' in str(checker.check_path([pressed, deeper]))
    back = checker.check_path([pressed, HOVER, pressed])
    assert back.segment == 1


def test_one_point_is_a_path(checker):
    assert checker.check_path(HOVER[None]) is None


@pytest.mark.parametrize('path', [HOVER, np.zeros((2, 7)), np.full((2, 23), np.nan)])
def test_malformed_path(checker, path):
    with pytest.raises(RobotModelError):
        checker.check_path(path)


def test_step_must_be_positive(checker):
    with pytest.raises(ValueError, match='step'):
        checker.check_path(HOVER[None], step=0.0)


def test_unusable_models(urdf):
    with pytest.raises(CollisionModelError, match='two boxes are called counter'):
        CollisionChecker.from_urdf(urdf, [COUNTER, COUNTER])
    with pytest.raises(CollisionModelError, match='name of a link'):
        CollisionChecker.from_urdf(urdf, [Box('palm_link', [1, 1, 1], [0, 0, 0])])
    with pytest.raises(CollisionModelError, match='clearance'):
        CollisionChecker.from_urdf(urdf, clearance=-0.01)
    broken = urdf.replace('link3.stl', 'absent.stl')
    with pytest.raises(CollisionModelError, match='cannot read'):
        CollisionChecker.from_urdf(broken)


def test_description_without_meshes_is_refused():
    description = pytest.importorskip('dexwm_franka_bringup.description')
    with pytest.raises(CollisionModelError, match='fr3_link0'):
        CollisionChecker.from_urdf(description.robot_description(meshes=False))


@pytest.mark.parametrize(
    ('size', 'position'),
    [([1, 1], [0, 0, 0]), ([1, 1, 0], [0, 0, 0]), ([1, 1, 1], [0, 0, np.inf])],
)
def test_a_box_has_an_extent_and_a_place(size, position):
    with pytest.raises(ValueError, match='box b'):
        Box('b', size, position)
