"""Plans on a tiny world model: what they contain, what decides them, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch

from dexwm.geometry.heatmaps import HEATMAP_KEYPOINTS
from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm.geometry.rotations import transform_points
from dexwm.model.checkpoint import load_checkpoint, save_checkpoint
from dexwm.planning.errors import PlanningError
from dexwm.planning.goal import GoalError, KeypointGoal, ObjectCrop, PictureGoal
from dexwm.planning.model_digest import model_digest
from dexwm.planning.planner import Planner
from dexwm.planning.preset import (
    PRESETS,
    CostWeights,
    Preset,
    PresetError,
    find_preset,
    parse_preset,
)
from dexwm.robot.joints import ARM, HAND, HOME, robot_limits

from .planning_scene import (
    INTRINSICS,
    camera_pose,
    deep_model,
    observation,
    picture,
    picture_goal,
    planner,
)
from .tiny_world_model import TinyEncoder, tiny_world_model

TIPS = [0, 4, 8, 12, 16, 20]
ONLY_POINTS = CostWeights(latent=0, keypoint_pixels=0, keypoint_distance=1, step_size=1e-4)


def posture(seed=2):
    """Reachable, and inside the planner's limits."""
    rng = np.random.default_rng(seed)
    q = HOME.copy()
    q[ARM] += rng.normal(0, 0.2, 7)
    q[HAND] += rng.uniform(0, 0.3, 16)
    return robot_limits().with_margin(0.07).clamp(q)


@pytest.fixture(scope='module')
def deep():
    return deep_model()


@pytest.mark.parametrize('start', ['current', 'dummy', 'keypoints'])
@pytest.mark.parametrize('cost_at', ['last', 'every'])
def test_a_plan_is_complete_and_repeatable(deep, model, start, cost_at):
    p = planner(deep, model, horizon=2, start=start, cost_at=cost_at)
    seen = []
    plan = p.plan(observation(), picture_goal(), task='grasp', seed=5, on_iteration=seen.append)
    assert plan.waypoints.shape == (2, 23) and plan.waypoints.dtype == np.float64
    for waypoint in plan.waypoints:
        assert p.limits.violations(waypoint) == []
    assert plan.outcome == 'done' and plan.task == 'grasp' and plan.seed == 5
    assert plan.costs == tuple(i.best_cost for i in seen) and len(seen) == 3
    assert set(plan.terms) == {'latent', 'keypoint_pixels'}
    assert sum(plan.terms.values()) == pytest.approx(plan.costs[-1], rel=1e-4)
    assert plan.predicted_latents.shape == (2, 6, 6)
    assert plan.predicted_pixels.shape == (2, 12, 2) and plan.goal_pixels.shape == (12, 2)
    for pixels in (plan.predicted_pixels, plan.goal_pixels):
        assert np.isnan(pixels[..., :6, :]).all() and np.isfinite(pixels[..., 6:, :]).all()
    # The head looked at 24x16 pixels; the camera's picture is twice as large.
    read = deep.keypoint_pixels(plan.predicted_latents)[:, 6:].numpy()
    np.testing.assert_allclose(plan.predicted_pixels[:, 6:], 2 * read + 0.5, atol=1e-3)
    assert plan.goal_digest == picture_goal().digest
    assert plan.checkpoint_digest == model_digest(deep)
    parts = {'encoder', 'start', 'optimiser', 'kinematics', 'predictor', 'terms'}
    assert set(plan.seconds) == {*parts, 'total'}
    assert sum(plan.seconds[part] for part in parts) <= plan.seconds['total']
    again = p.plan(observation(), picture_goal(), task='grasp', seed=5)
    np.testing.assert_array_equal(again.waypoints, plan.waypoints)
    other = p.plan(observation(), picture_goal(), task='grasp', seed=6)
    assert (other.waypoints != plan.waypoints).any()
    image = p.decode(plan.predicted_latents[0])
    assert image.shape == (8, 12, 3) and image.dtype == np.uint8


def test_the_kinematics_of_the_start_count_as_kinematics(deep, model):
    """A fit is little else, and this plan is little else than a fit."""
    p = planner(deep, model, start='keypoints', optimiser='none')
    seconds = p.plan(observation(), picture_goal(), seed=0).seconds
    assert seconds['kinematics'] > seconds['start'] > 0


@pytest.mark.parametrize('optimiser', ['cem', 'icem', 'mppi', 'gradient', 'random'])
def test_every_optimiser_plans_through_the_model(deep, model, optimiser):
    p = planner(deep, model, optimiser=optimiser, iterations=6)
    plan = p.plan(observation(), picture_goal(), seed=0)
    assert len(plan.costs) == (1 if optimiser == 'random' else 6)
    assert np.isfinite(plan.costs).all()
    if optimiser != 'random':
        assert plan.costs[-1] < plan.costs[0]


def test_keypoints_alone_bring_the_hand_to_its_goal(deep, model):
    goal = posture()
    p = planner(deep, model, samples=256, iterations=30, elites=20, weights=ONLY_POINTS)
    plan = p.plan(observation(), KeypointGoal(points_base=model.keypoints(goal)), seed=0)
    away = np.linalg.norm(model.keypoints(HOME) - model.keypoints(goal), axis=1).mean()
    left = np.linalg.norm(
        model.keypoints(plan.waypoints[-1]) - model.keypoints(goal), axis=1
    ).mean()
    assert away > 0.08 and left < 0.03
    assert plan.predicted_latents is None and 'predictor' not in plan.seconds
    assert set(plan.terms) == {'keypoint_distance', 'step_size'}


def test_a_prediction_is_read_in_space_where_the_model_reads_depths(deep, model):
    weights = CostWeights(latent=0, keypoint_pixels=0, predicted_distance=1)
    goal = KeypointGoal(points_base=model.keypoints(posture()))
    plan = planner(deep, model, weights=weights).plan(observation(), goal, seed=0)
    assert set(plan.terms) == {'predicted_distance'}
    _, pixels, depths = deep.keypoints(plan.predicted_latents[-1])
    small = ResizeAndCrop.to_cover(48, 32, 16, 24).apply_to_intrinsics(INTRINSICS)
    rays = np.c_[pixels[6:].numpy() - [small.cx, small.cy], np.full(6, small.fx)] / small.fx
    points = transform_points(camera_pose(), rays * depths[6:, None].numpy())
    rows = [row - 21 for row in HEATMAP_KEYPOINTS[6:]]
    away = np.linalg.norm(points - goal.points_base[rows], axis=1).mean()
    assert plan.terms['predicted_distance'] == pytest.approx(away, rel=1e-3)
    with pytest.raises(PlanningError, match=r'tells nothing .* \(predicted_distance'):
        planner(tiny_world_model(), model, weights=weights).plan(observation(), goal, seed=0)


def test_the_keypoint_start_brings_the_hand_there_before_the_model_is_asked(deep, model):
    points = np.full((21, 3), np.nan)
    points[TIPS] = model.keypoints(posture())[TIPS]
    p = planner(deep, model, samples=2, elites=2, iterations=1, start='keypoints')
    plan = p.plan(observation(), KeypointGoal(points_base=points), seed=0)
    distance = np.linalg.norm(model.keypoints(plan.waypoints[-1]) - points, axis=1)[TIPS].mean()
    start = np.linalg.norm(model.keypoints(HOME) - points, axis=1)[TIPS].mean()
    assert start > 0.08 and distance < 0.5 * start


@pytest.fixture(scope='module')
def seeing():
    """A model that reads objects, clearly."""
    reads = deep_model(objects=['ball', 'cube'])
    torch.nn.init.normal_(reads.object_head.input_proj.weight, std=2.0)
    torch.nn.init.normal_(reads.object_head.output.weight, std=4.0)
    return reads


PUSHING = CostWeights(latent=0, keypoint_pixels=0, keypoint_distance=1, object_pixels=1)
SWEEP = {'horizon': 4, 'replans': 5, 'optimiser': 'none', 'start': 'sweep', 'objects_at': 'first'}


def test_a_push_is_the_sweep_that_the_model_likes_best(seeing, model):
    p = planner(seeing, model, sweeps=40, substeps=2, weights=PUSHING, **SWEEP)
    plan = p.plan(observation(), picture_goal(), task='push', seed=0)
    assert plan.waypoints.shape == (4, 23)
    assert set(plan.terms) == {'keypoint_distance', 'object_pixels'}
    again = p.plan(observation(), picture_goal(), task='push', seed=0)
    np.testing.assert_array_equal(again.waypoints, plan.waypoints)
    few = planner(seeing, model, sweeps=1, substeps=2, weights=PUSHING, **SWEEP)
    one = few.plan(observation(), picture_goal(), task='push', seed=0)
    assert plan.terms['object_pixels'] < one.terms['object_pixels']
    # The next plan sweeps as well, the third goes up, the fourth away, the fifth to the goal.
    plans = [
        p.plan(observation(q=plan.waypoints[0]), picture_goal(), task='push', seed=0, replan=n)
        for n in range(1, 5)
    ]
    assert [len(later.waypoints) for later in plans] == [4, 3, 2, 1]
    heights = [
        model.frame_pose(later.waypoints[0], 'allegro_wrist')[2, 3] for later in (plan, plans[1])
    ]
    assert heights[1] == pytest.approx(heights[0] + 0.1, abs=0.002)


def test_a_push_can_be_aimed_without_the_model_s_predictions(seeing, model):
    weights = dataclasses.replace(PUSHING, object_pixels=0, hand_at_object=1)
    p = planner(seeing, model, sweeps=40, weights=weights, **SWEEP)
    plan = p.plan(observation(), picture_goal(), task='push', seed=0)
    assert plan.predicted_latents is None
    assert set(plan.terms) == {'keypoint_distance', 'hand_at_object'}
    few = planner(seeing, model, sweeps=1, weights=weights, **SWEEP)
    one = few.plan(observation(), picture_goal(), task='push', seed=0)
    assert plan.terms['hand_at_object'] < one.terms['hand_at_object']


def test_a_push_needs_an_object_that_is_seen(seeing, deep, model):
    p = planner(deep, model, weights=PUSHING, **SWEEP)
    with pytest.raises(PlanningError, match=r'the preset test pushes .* sees no object clearly'):
        p.plan(observation(), picture_goal(), task='push', seed=0)
    # Later it may be hidden by the hand: nothing more is pushed.
    plan = p.plan(observation(), picture_goal(), task='push', seed=0, replan=1)
    np.testing.assert_allclose(plan.waypoints[0], p.limits.clamp(HOME), atol=1e-6)
    p = planner(seeing, model, weights=PUSHING, **SWEEP)
    with pytest.raises(PlanningError, match='sees no object clearly'):
        p.plan(observation(), KeypointGoal(points_base=model.keypoints(HOME)), seed=0)


def test_steps_to_a_waypoint_are_waypoints_on_the_way(deep, model):
    end = posture().astype(np.float32)
    half = ((HOME + end) / 2).astype(np.float32)
    weights = CostWeights(keypoint_pixels=0.1)
    found = {}
    for substeps, mean in ((2, [end]), (1, [half, end])):
        p = planner(
            deep, model, horizon=len(mean), substeps=substeps, optimiser='none', weights=weights
        )
        before = dataclasses.replace(
            planner(deep, model, horizon=len(mean) + 1, optimiser='none').plan(
                observation(), picture_goal(), seed=0
            ),
            waypoints=np.array([HOME, *mean]),
        )
        found[substeps] = p.plan(observation(), picture_goal(), seed=0, previous=before)
    two, one = found[2], found[1]
    assert len(two.waypoints) == 1 and len(two.predicted_latents) == 1
    torch.testing.assert_close(
        two.predicted_latents[-1], one.predicted_latents[-1], atol=1e-4, rtol=1e-4
    )
    assert two.costs == pytest.approx(one.costs, rel=1e-4)


def test_pixels_are_enough_of_a_goal(deep, model):
    p = planner(
        deep,
        model,
        samples=128,
        iterations=15,
        weights=CostWeights(latent=0, keypoint_pixels=0, projected_pixels=1),
    )
    points = model.keypoints(posture())[TIPS]
    pose = camera_pose()
    pixels = np.full((12, 2), np.nan)
    pixels[6:] = INTRINSICS.project((points - pose[:3, 3]) @ pose[:3, :3])
    goal = KeypointGoal(pixels=pixels)
    plan = p.plan(observation(), goal, seed=0)
    np.testing.assert_allclose(plan.goal_pixels, pixels, atol=1e-3)
    error = np.linalg.norm(plan.predicted_pixels[0, 6:] - pixels[6:], axis=1).mean()
    start = INTRINSICS.project((model.keypoints(HOME)[TIPS] - pose[:3, 3]) @ pose[:3, :3])
    assert error < 0.3 * np.linalg.norm(start - pixels[6:], axis=1).mean()
    # The model's predictions can be compared with them as well.
    world = planner(deep, model).plan(observation(), goal, seed=0)
    assert set(world.terms) == {'keypoint_pixels'}


def test_knuckles_alone_are_a_goal_that_heat_maps_do_not_show(deep, model):
    points = np.full((21, 3), np.nan)
    points[5:8] = model.keypoints(posture())[5:8]
    goal = KeypointGoal(points_base=points)
    plan = planner(deep, model, weights=ONLY_POINTS).plan(observation(), goal, seed=0)
    assert plan.goal_pixels is None and set(plan.terms) == {'keypoint_distance', 'step_size'}
    with pytest.raises(PlanningError, match='tells nothing'):
        planner(deep, model).plan(observation(), goal, seed=0)


def test_an_object_crop_counts_in_the_tokens_that_it_covers(deep, model):
    p = planner(deep, model)
    crop = picture(9, 16, 16)
    plan = p.plan(observation(), KeypointGoal(object_crop=ObjectCrop(crop, 32, 0)), seed=0)
    pasted = observation().image.copy()
    pasted[:16, 32:] = crop
    whole = p.plan(observation(), PictureGoal(pasted), seed=0)
    assert set(plan.terms) == {'latent'}
    # Token 2 of 2x3 is the top right third of the upper half.
    goal = deep.encode(torch.from_numpy(_half(pasted))[None])[0]
    expected = (plan.predicted_latents[-1, 2] - goal[2]).square().mean()
    assert plan.terms['latent'] == pytest.approx(float(expected), rel=1e-3)
    assert whole.terms['latent'] != pytest.approx(plan.terms['latent'], rel=1e-3)
    with pytest.raises(GoalError, match="leaves the camera's picture of 48x32"):
        outside = KeypointGoal(object_crop=ObjectCrop(crop, 40, 0))
        p.plan(observation(), outside, seed=0)


def _half(image):
    from dexwm.geometry.preprocess import ResizeAndCrop

    return ResizeAndCrop.to_cover(48, 32, 16, 24).apply(image)


def test_a_goal_of_another_size_is_taken_if_its_shape_fits(deep, model):
    p = planner(deep, model)
    large = np.repeat(np.repeat(picture(1), 2, axis=0), 2, axis=1)
    plan = p.plan(observation(), PictureGoal(large), seed=0)
    same = p.plan(observation(), picture_goal(), seed=0)
    np.testing.assert_allclose(plan.goal_pixels, same.goal_pixels, atol=0.2)
    with pytest.raises(GoalError, match='48x40 pixels, the camera 48x32: another aspect ratio'):
        p.plan(observation(), PictureGoal(picture(1, 40, 48)), seed=0)


def test_later_plans_are_shorter_closer_and_begin_where_the_last_ended(deep, model):
    p = planner(deep, model, horizon=3, sigma_decay=0.001, replans=3)
    first = p.plan(observation(), picture_goal(), seed=0)
    second = p.plan(observation(), picture_goal(), seed=0, replan=1, previous=first)
    third = p.plan(observation(), picture_goal(), seed=0, replan=2, previous=second)
    assert [len(x.waypoints) for x in (first, second, third)] == [3, 2, 1]
    np.testing.assert_allclose(second.waypoints, first.waypoints[1:], atol=2e-3)
    np.testing.assert_allclose(third.waypoints, second.waypoints[1:], atol=2e-3)


def test_fingers_that_hold_something_hardly_move(deep, model):
    p = planner(deep, model, samples=64)
    moved = {
        task: np.abs(p.plan(observation(), picture_goal(), task=task, seed=0).waypoints[0] - HOME)
        for task in ('reach', 'place')
    }
    assert moved['place'][HAND].max() < 0.06 < moved['reach'][HAND].max()


def test_cancelling_and_a_budget_keep_the_best_so_far(deep, model):
    p = planner(deep, model, iterations=50)
    seen = []
    plan = p.plan(
        observation(),
        picture_goal(),
        seed=0,
        on_iteration=seen.append,
        should_stop=lambda: len(seen) == 4,
    )
    assert plan.outcome == 'cancelled' and len(plan.costs) == 4
    early = p.plan(observation(), picture_goal(), seed=0, should_stop=lambda: True)
    assert early.outcome == 'cancelled' and early.costs == () and early.terms == {}
    np.testing.assert_allclose(early.waypoints[0], HOME, atol=1e-6)
    with pytest.raises(PlanningError, match='budget of 0 s ended before one candidate'):
        p.plan(observation(), picture_goal(), seed=0, budget=0.0)
    endless = planner(deep, model, iterations=10**6)
    plan = endless.plan(observation(), picture_goal(), seed=0, budget=1.0)
    assert plan.outcome == 'budget' and plan.costs


def test_a_stop_is_noticed_between_chunks(deep, model, monkeypatch):
    monkeypatch.setattr('dexwm.planning.rollout.CHUNK_BYTES', 1)
    p = planner(deep, model, samples=12, iterations=1)
    asked = []
    plan = p.plan(
        observation(),
        picture_goal(),
        seed=0,
        should_stop=lambda: asked.append(1) or len(asked) == 5,
    )
    assert plan.outcome == 'cancelled' and plan.costs == () and len(asked) == 5


def test_chunks_do_not_change_a_plan(deep, model, monkeypatch):
    p = planner(deep, model)
    whole = p.plan(observation(), picture_goal(), seed=0)
    monkeypatch.setattr('dexwm.planning.rollout.CHUNK_BYTES', 1)
    single = p.plan(observation(), picture_goal(), seed=0)
    np.testing.assert_allclose(single.costs, whole.costs, rtol=1e-4)


def test_weights_that_are_nan_are_an_error(model):
    broken = deep_model()
    with torch.no_grad():
        broken.predictor.output_proj.weight[0, 0] = torch.nan
    with pytest.raises(PlanningError, match='candidates can be judged'):
        planner(broken, model).plan(observation(), picture_goal(), seed=0)


def test_goals_that_the_cost_does_not_look_at_are_refused(deep, model):
    crop = KeypointGoal(object_crop=ObjectCrop(picture(9, 16, 16), 32, 0))
    with pytest.raises(PlanningError, match=r'preset test looks at .keypoint_distance, step_size'):
        planner(deep, model, weights=ONLY_POINTS).plan(observation(), crop, seed=0)
    with pytest.raises(PlanningError, match="start is not 'keypoints'"):
        planner(deep, model, start='keypoints').plan(observation(), crop, seed=0)
    with pytest.raises(PlanningError, match='must not be negative, got -1'):
        planner(deep, model).plan(observation(), picture_goal(), seed=-1)


def test_a_model_without_depths_starts_from_pixels(model):
    flat = tiny_world_model()
    plan = planner(flat, model, start='keypoints').plan(observation(), picture_goal(), seed=0)
    assert plan.costs
    only = planner(
        flat, model, weights=CostWeights(latent=0, keypoint_pixels=0, projected_pixels=1)
    )
    assert set(only.plan(observation(), picture_goal(), seed=0).terms) == {'projected_pixels'}


def test_models_and_limits_of_something_else_are_refused(deep, model):
    camera_only = tiny_world_model(action={'subset': 'nwm'})
    with pytest.raises(PlanningError, match='right hand'):
        planner(camera_only, model).plan(observation(), picture_goal(), seed=0)
    with pytest.raises(PlanningError, match='limits must be of the joints'):
        Planner(deep, model, Preset('test'), robot_limits().subset(['fr3_joint1']))


def test_the_digest_is_that_of_the_weights(tmp_path):
    one = tiny_world_model(encoder=TinyEncoder(trained=True))
    digest = model_digest(one)
    save_checkpoint(one, tmp_path)
    again = load_checkpoint(tmp_path, encoder=one.encoder)
    assert model_digest(again) == digest
    with torch.no_grad():
        again.predictor.output_proj.bias[0] += 1
    assert model_digest(again) != digest


def test_presets_have_names_and_the_papers_numbers():
    assert all(name == preset.name for name, preset in PRESETS.items())
    sim, real = find_preset('paper-sim'), find_preset('paper-real')
    assert (sim.horizon, sim.samples, sim.elites, sim.iterations) == (3, 512, 10, 10)
    assert (real.horizon, real.samples, real.elites, real.iterations) == (2, 256, 10, 10)
    assert (sim.sigma_arm, sim.sigma_hand, sim.sigma_hand_place) == (0.3, 0.1, 0.01)
    assert (real.replans, real.executed) == (1, 2)
    assert [sim.horizon_at(r) for r in range(4)] == [3, 2, 1, 1]
    assert [find_preset('push').horizon_at(r) for r in range(5)] == [4, 4, 3, 2, 1]
    assert [find_preset('cpu').horizon_at(r) for r in range(3)] == [1, 1, 1]
    with pytest.raises(PresetError, match="no preset 'gpu'; there are paper-sim, paper-real, cpu"):
        find_preset('gpu')


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'horizon': 0}, 'horizon must be at least 1, got 0'),
        ({'sigma_arm': float('nan')}, 'sigma_arm must be positive, got nan'),
        ({'sigma_floor': 2.0}, r'sigma_floor must be in \[0, 1\]'),
        ({'sigma_decay': 0.0}, r'sigma_decay must be in \(0, 1\]'),
        ({'optimiser': 'bfgs'}, "one of cem, icem, mppi, gradient, random, none, got 'bfgs'"),
        ({'start': 'home'}, 'start must be one of current, dummy, keypoints'),
        ({'elites': 65}, 'elites must be from 2 to the 64 samples, got 65'),
        ({'start': 'sweep'}, "start 'sweep' needs a horizon of at least 3"),
        (
            {'start': 'sweep', 'horizon': 3},
            'a weight of object_pixels or hand_at_object, got 3 and 0.0',
        ),
        ({'substeps': 0}, 'substeps must be at least 1, got 0'),
        ({'executed': 2}, '2 waypoints cannot be executed of a plan of 1'),
    ],
)
def test_impossible_presets_are_refused(settings, message):
    with pytest.raises(PresetError, match=message):
        Preset('test', **settings)
    with pytest.raises(PresetError, match='weight of latent must not be negative'):
        CostWeights(latent=-1.0)


def test_settings_of_a_preset_can_be_written_behind_its_name():
    text = 'hybrid,samples=4,elites=2,sigma_arm=1,cost_at=every,weights.latent=0'
    text += ',precision=bfloat16,compile=true'
    hybrid, changed = find_preset('hybrid'), parse_preset(text)
    assert changed == dataclasses.replace(
        hybrid,
        name=text,
        samples=4,
        elites=2,
        sigma_arm=1.0,
        cost_at='every',
        precision='bfloat16',
        compile=True,
        weights=dataclasses.replace(hybrid.weights, latent=0.0),
    )
    assert parse_preset('cpu') == find_preset('cpu')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('fast', "no preset 'fast'"),
        ('hybrid,speed=1', "no setting 'speed'; there are horizon, samples"),
        ('hybrid,name=x', "no setting 'name'"),
        ('hybrid,weights.beauty=1', "no setting 'beauty'; there are latent, predicted_distance"),
        ('hybrid,cost.latent=1', "no setting 'cost.latent'"),
        ('hybrid,samples=many', "samples must be of type int, got 'many'"),
        ('hybrid,samples', "samples must be of type int, got ''"),
        ('hybrid,compile=yes', "compile must be true or false, got 'yes'"),
        ('hybrid,precision=half', "precision must be one of float32, bfloat16, got 'half'"),
        ('hybrid,samples=4', 'elites must be from 2 to the 4 samples'),
    ],
)
def test_wrong_settings_behind_a_preset_are_refused(text, message):
    with pytest.raises(PresetError, match=message):
        parse_preset(text)
