import numpy as np
import pytest

from dexwm_sim.tasks import (
    TASKS,
    GraspJudge,
    PlaceJudge,
    PushJudge,
    ReachJudge,
    TaskState,
    holds_strictly,
    make_judge,
)

GOAL = np.arange(15.0).reshape(5, 3) / 10


def state(hand=GOAL, position=(0, 0, 0), touched=()):
    return TaskState(
        np.array(hand, dtype=float), {'can': np.array(position, dtype=float)}, frozenset(touched)
    )


def shifted(distances):
    """Hand points, each so far from the goal, in a direction of its own."""
    directions = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, -1, 0], [0.6, 0.8, 0]])
    return state(GOAL + np.array(distances)[:, None] * directions)


def feed(judge, *states):
    for item in states:
        judge.update(item)
    return judge.verdict()


def test_reach_needs_ten_steps_in_a_row():
    near, far = shifted([0.149] * 5), shifted([0.151] * 5)
    assert not feed(ReachJudge(GOAL), *[near] * 9).success
    assert feed(ReachJudge(GOAL), *[near] * 10).success
    assert not feed(ReachJudge(GOAL), *[near] * 9, far, *[near] * 9).success
    assert feed(ReachJudge(GOAL), *[near] * 9, far, *[near] * 10).success


def test_reach_averages_the_five_points():
    assert feed(ReachJudge(GOAL), *[shifted([0.7, 0, 0, 0, 0])] * 10).success
    verdict = feed(ReachJudge(GOAL), *[shifted([0.8, 0, 0, 0, 0])] * 10)
    assert not verdict.success
    assert verdict.measure == pytest.approx(0.16)


def test_reach_at_exactly_15_cm_is_not_less():
    assert not feed(ReachJudge(np.zeros((5, 3))), *[state(np.full((5, 3), 1.0))] * 10).success
    exactly = np.zeros((5, 3))
    exactly[:, 0] = 0.15
    assert not feed(ReachJudge(np.zeros((5, 3))), *[state(exactly)] * 10).success


def test_strict_reach_is_5_cm():
    assert feed(ReachJudge(GOAL), *[shifted([0.06] * 5)] * 10).strict_success is False
    assert feed(ReachJudge(GOAL), *[shifted([0.049] * 5)] * 10).strict_success is True


def test_success_stays():
    near, far = shifted([0.0] * 5), shifted([1.0] * 5)
    verdict = feed(ReachJudge(GOAL), *[near] * 10, far)
    assert verdict.success
    assert verdict.strict_success
    assert verdict.measure == pytest.approx(1.0)


def wrist(distance, touched=('can',), z=0.0):
    hand = np.full((5, 3), 9.0)
    hand[0] = [distance, 0, z]
    return state(hand, (0, 0, z), touched)


def test_grasp_needs_nearness_and_contact_at_once():
    judge = lambda: GraspJudge('can', 0.0)  # noqa: E731
    assert feed(judge(), *[wrist(0.19)] * 10).success
    assert not feed(judge(), *[wrist(0.19)] * 9).success
    assert not feed(judge(), *[wrist(0.21)] * 10).success
    assert not feed(judge(), *[wrist(0.19, ())] * 10).success
    assert not feed(judge(), *[wrist(0.19, ('box',))] * 10).success
    alternating = [wrist(0.19), wrist(0.21), wrist(0.19, ())] * 10
    assert not feed(judge(), *alternating).success
    assert not feed(judge(), *[wrist(0.19)] * 5, wrist(0.19, ()), *[wrist(0.19)] * 5).success


def test_grasp_measures_to_the_wrist_not_the_fingers():
    hand = np.zeros((5, 3))
    hand[0] = [0.3, 0, 0]
    assert not feed(GraspJudge('can', 0.0), *[state(hand, touched=('can',))] * 10).success


def test_strict_grasp_is_lifted_by_5_cm():
    low, high = wrist(0.1, z=0.149), wrist(0.1, z=0.151)
    assert not feed(GraspJudge('can', 0.1), *[low] * 10).strict_success
    verdict = feed(GraspJudge('can', 0.1), *[high] * 10)
    assert verdict.strict_success
    assert verdict.measure == pytest.approx(0.051)
    assert not feed(GraspJudge('can', 0.1), *[high] * 9, low, high).strict_success


def test_place():
    goal = np.array([0.5, 0.1, 0.25])
    judge = lambda: PlaceJudge('can', goal)  # noqa: E731
    near = state(position=goal + [0, 0.06, 0.07])
    close = state(position=goal + [0.03, 0, 0.03])
    far = state(position=goal + [0, 0.08, 0.07])
    assert feed(judge(), *[near] * 10).success
    assert not feed(judge(), *[near] * 10).strict_success
    assert not feed(judge(), *[near] * 9).success
    assert not feed(judge(), *[far] * 10).success
    assert not feed(judge(), *[near] * 9, far, near).success
    assert feed(judge(), *[close] * 10).strict_success


def test_push_is_stricter_than_place():
    goal = np.array([0.5, 0.1, 0.25])
    near, close = state(position=goal + [0.049, 0, 0]), state(position=goal + [0, 0.029, 0])
    off = state(position=goal + [0.031, 0, 0.04])
    assert feed(PlaceJudge('can', goal), *[off] * 10).success
    assert not feed(PushJudge('can', goal), *[off] * 10).success
    verdict = feed(PushJudge('can', goal), *[near] * 10)
    assert verdict.success
    assert not verdict.strict_success
    assert verdict.measure == pytest.approx(0.049)
    assert feed(PushJudge('can', goal), *[close] * 10).strict_success
    assert not feed(PushJudge('can', goal), *[near] * 9, off, near).success


@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('millimetres', [29, 31, 49, 51, 80])
def test_what_holds_at_the_end_is_what_the_judge_wants(task, millimetres):
    start, moved = state(), state(position=(0, 0, millimetres / 1000))
    if task == 'reach':
        moved = shifted([millimetres / 1000] * 5)
    verdict = feed(make_judge(task, 'can', start, GOAL, {'can': np.zeros(3)}), *[moved] * 10)
    assert verdict.measure == pytest.approx(millimetres / 1000)
    assert holds_strictly(task, verdict.measure) is verdict.strict_success
    with pytest.raises(ValueError, match='unknown task'):
        holds_strictly('throw', 0.0)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match='5 hand points'):
        state(np.zeros((4, 3)))
    with pytest.raises(ValueError, match='5 hand points'):
        ReachJudge(np.zeros((21, 3)))
    with pytest.raises(ValueError, match='position'):
        PlaceJudge('can', np.zeros(7))
    with pytest.raises(ValueError, match='position'):
        PushJudge('can', np.zeros(7))
