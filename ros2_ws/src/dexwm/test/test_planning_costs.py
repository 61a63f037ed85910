"""Cost terms against expressions written another way."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dexwm.planning.cost import Candidates, WeightedCost
from dexwm.planning.costs.hand_at_object import HandAtObject
from dexwm.planning.costs.joint_limit import JointLimit
from dexwm.planning.costs.keypoint_distance import KeypointDistance
from dexwm.planning.costs.latent_distance import LatentDistance
from dexwm.planning.costs.object_distance import ObjectDistance
from dexwm.planning.costs.orientation import EndEffectorOrientation, up_in_palm
from dexwm.planning.costs.posture import Posture
from dexwm.planning.costs.projected_pixels import ProjectedPixels
from dexwm.planning.costs.seen_keypoints import SeenKeypoints
from dexwm.planning.costs.step_size import StepSize
from dexwm.robot.joints import HOME

N, T, P, D = 3, 2, 4, 5


@pytest.fixture
def candidates():
    generator = torch.Generator().manual_seed(0)
    return Candidates(
        torch.randn(23, generator=generator),
        torch.randn(N, T, 23, generator=generator),
        torch.randn(N, T, 21, 3, generator=generator),
        torch.randn(N, T, P, D, generator=generator),
    )


def each(candidates, one):
    return torch.tensor([one(n) for n in range(N)])


@pytest.mark.parametrize('at', ['last', 'every'])
def test_latent_distance(candidates, at):
    goal = torch.randn(P, D, generator=torch.Generator().manual_seed(1))
    steps = [T - 1] if at == 'last' else range(T)
    expected = each(
        candidates,
        lambda n: np.mean(
            [np.mean((candidates.latents[n, t] - goal).numpy() ** 2) for t in steps]
        ),
    )
    torch.testing.assert_close(LatentDistance(goal, at)(candidates), expected.float())
    tokens = torch.tensor([False, True, True, False])
    some = each(
        candidates,
        lambda n: np.mean(
            [np.mean((candidates.latents[n, t] - goal).numpy()[1:3] ** 2) for t in steps]
        ),
    )
    torch.testing.assert_close(LatentDistance(goal, at, tokens)(candidates), some.float())


@pytest.mark.parametrize('at', ['first', 'last'])
def test_objects_are_expected_as_far_away_as_their_maps_say(candidates, at):
    away = torch.tensor([[[1.0, 2.0]], [[torch.nan, torch.nan]], [[5.0, 0.0]]])

    def read(latents):
        """Three objects, whose maps have two cells."""
        return latents[..., :3, :2].softmax(dim=-1).unsqueeze(-2)

    step = 0 if at == 'first' else T - 1

    def one(n):
        maps = read(candidates.latents)[n, step]
        told = maps[0, 0, 0] + 2 * maps[0, 0, 1] + 5 * maps[2, 0, 0]
        return float(told)

    torch.testing.assert_close(ObjectDistance(read, away, at)(candidates), each(candidates, one))


@pytest.mark.parametrize('at', ['first', 'last'])
def test_the_hand_is_as_far_from_an_object_s_place_as_its_tips_are_on_average(candidates, at):
    def project(points):
        """Twelve keypoints: x and y of the last of 21, in millimetres."""
        return 1000 * points[..., -12:, :2]

    place = torch.tensor([120.0, -40.0])
    step = 0 if at == 'first' else T - 1

    def one(n):
        tips = 1000 * candidates.keypoints_base[n, step, -5:, :2].numpy().mean(axis=0)
        return np.linalg.norm(tips - place.numpy())

    torch.testing.assert_close(
        HandAtObject(project, place, at)(candidates), each(candidates, one).float()
    )


@pytest.mark.parametrize('at', ['last', 'every'])
def test_pixel_distances_are_means_over_what_is_known(candidates, at):
    goal = torch.full((12, 2), torch.nan)
    goal[6], goal[8] = torch.tensor([3.0, 4.0]), torch.tensor([1.0, -1.0])

    def read(latents):
        return (
            latents[..., :3, :4]
            .flatten(-2)
            .unflatten(-1, (12, 1))
            .expand(*latents.shape[:-2], 12, 2)
        )

    seen = []
    term = SeenKeypoints(lambda z: seen.append(z.shape) or read(z), goal, 'pixels', at)
    steps = [T - 1] if at == 'last' else range(T)
    pixels = read(candidates.latents)
    expected = each(
        candidates,
        lambda n: np.mean(
            [math.dist(pixels[n, t, k], goal[k]) for t in steps for k in (6, 8)],
        ),
    )
    torch.testing.assert_close(term(candidates), expected.float())
    # The head reads no more frames than count.
    assert seen == [(N, len(steps), P, D)]
    in_space = torch.full((3, 4), torch.nan)
    in_space[1] = torch.tensor([3.0, 4.0, 1.0, 0.0])
    term = SeenKeypoints(lambda z: seen.append(z.shape) or z[..., :3, :4], in_space, 'm', at)
    expected = each(
        candidates,
        lambda n: np.mean(
            [math.dist(candidates.latents[n, t, 1, :4], in_space[1]) for t in steps]
        ),
    )
    torch.testing.assert_close(term(candidates), expected.float())
    assert seen[1:] == [(N, len(steps), P, D)]
    project = ProjectedPixels(lambda k: k[..., :12, :2], goal, at)
    expected = each(
        candidates,
        lambda n: np.mean(
            [
                math.dist(candidates.keypoints_base[n, t, k, :2], goal[k])
                for t in steps
                for k in (6, 8)
            ]
        ),
    )
    torch.testing.assert_close(project(candidates), expected.float())


def test_keypoint_distance_and_its_slope_at_the_goal(candidates):
    goal = torch.full((21, 3), torch.nan)
    goal[4], goal[20] = candidates.keypoints_base[0, -1, 4], torch.tensor([1.0, 2.0, 3.0])
    points = candidates.keypoints_base.clone().requires_grad_()
    moved = Candidates(candidates.start, candidates.joints, points, None)
    value = KeypointDistance(goal)(moved)
    expected = each(
        candidates,
        lambda n: np.mean([math.dist(points.detach()[n, -1, k], goal[k]) for k in (4, 20)]),
    )
    torch.testing.assert_close(value, expected.float(), atol=1e-5, rtol=1e-5)
    value.sum().backward()
    assert torch.isfinite(points.grad).all()


def test_tilt_does_not_see_turns_about_the_vertical(model):
    points = model.keypoints(HOME)
    neutral = up_in_palm(torch.from_numpy(points))
    for axis, angle, expected in (([0, 0, 1.2], 1.2, 0.0), ([0, 0.4, 0], 0.4, 1 - math.cos(0.4))):
        turned = Rotation.from_rotvec(axis).apply(points)
        seen = Candidates(
            torch.zeros(23), torch.zeros(1, 1, 23), torch.from_numpy(turned)[None, None], None
        )
        cost = EndEffectorOrientation(neutral)(seen)
        torch.testing.assert_close(cost, torch.tensor([expected], dtype=torch.float64))
        assert abs(np.linalg.norm(axis) - angle) < 1e-12
    bent = HOME.copy()
    bent[8:19] += 0.3
    fingers = up_in_palm(torch.from_numpy(model.keypoints(bent)))
    torch.testing.assert_close(fingers, neutral, atol=0.02, rtol=0)


def test_limits_and_steps(candidates):
    lower, upper = torch.full((23,), -1.0), torch.full((23,), 1.0)
    joints = torch.zeros(1, 1, 23)
    joints[0, 0, 0], joints[0, 0, 1] = 1.0, -0.95
    inside = Candidates(torch.zeros(23), joints, torch.zeros(1, 1, 21, 3), None)
    torch.testing.assert_close(
        JointLimit(lower, upper, band=0.1)(inside), torch.tensor([(1.0 + 0.25) / 23])
    )
    scale = torch.linspace(0.1, 0.5, 23)
    expected = each(
        candidates,
        lambda n: np.mean(
            [
                ((candidates.joints[n, 0] - candidates.start) / scale).square().mean(),
                ((candidates.joints[n, 1] - candidates.joints[n, 0]) / scale).square().mean(),
            ]
        ),
    )
    torch.testing.assert_close(StepSize(scale)(candidates), expected.float())


def test_terms_add_up_with_their_weights(candidates):
    latent = LatentDistance(torch.zeros(P, D))
    step = StepSize(torch.ones(23))
    cost = WeightedCost([(2.0, latent), (0.5, step)])
    parts = cost.parts(candidates)
    assert list(parts) == ['latent', 'step_size'] and cost.needs_latents
    torch.testing.assert_close(cost(candidates), 2 * latent(candidates) + 0.5 * step(candidates))
    assert not WeightedCost([(1.0, step)]).needs_latents


@pytest.mark.parametrize(
    ('terms', 'message'),
    [
        ([], 'at least one term'),
        ([(0.0, StepSize(torch.ones(23)))], 'weight of step_size must be positive, got 0'),
        ([(float('nan'), StepSize(torch.ones(23)))], 'must be positive, got nan'),
        ([(1.0, StepSize(torch.ones(23)))] * 2, 'different names, got step_size, step_size'),
    ],
)
def test_impossible_costs_are_refused(terms, message):
    with pytest.raises(ValueError, match=message):
        WeightedCost(terms)


def test_posture_looks_at_joints_with_a_scale_of_the_last_step(candidates):
    wanted, scale = torch.full((23,), 0.5), torch.full((23,), torch.inf)
    scale[7:] = 2.0
    moved = replace(candidates, joints=candidates.joints.clone())
    moved.joints[:, :-1] += 1.0
    moved.joints[:, -1, :7] += 1.0
    expected = [np.mean(((q[-1, 7:].numpy() - 0.5) / 2) ** 2) for q in candidates.joints]
    for given in (candidates, moved):
        torch.testing.assert_close(
            Posture(wanted, scale)(given), torch.tensor(np.array(expected, np.float32))
        )
