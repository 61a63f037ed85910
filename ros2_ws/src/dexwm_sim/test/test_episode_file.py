"""Episodes in folders: they come back as they were, damaged ones are refused."""

import json

import cv2
import numpy as np
import pytest

from dexwm_sim.cell import Cell
from dexwm_sim.episode_file import (
    EPISODE,
    GOAL_PICTURE,
    EpisodeFileError,
    load_episode,
    save_episode,
)
from dexwm_sim.episode_maker import EpisodeMaker


@pytest.fixture(scope='module')
def episode():
    return EpisodeMaker(quality='fast').make('grasp', 1)


@pytest.fixture(scope='module')
def folder(episode, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run') / 'episode'
    assert save_episode(folder, episode) == folder / EPISODE
    return folder


def test_an_episode_comes_back(episode, folder):
    stored = load_episode(folder / EPISODE)
    assert (stored.task, stored.seed, stored.scene) == ('grasp', 1, episode.scene)
    np.testing.assert_array_equal(stored.start.qpos, episode.start.qpos)
    np.testing.assert_array_equal(stored.start.command, episode.start.command)
    picture = cv2.cvtColor(cv2.imread(str(folder / GOAL_PICTURE)), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(picture, episode.goal.image)


def test_its_cell_starts_where_the_episodes_did_and_its_judge_says_the_same(episode, folder):
    stored = load_episode(folder / EPISODE)
    cell = Cell(stored.scene)
    cell.restore(stored.start)
    np.testing.assert_allclose(cell.hand_points(), episode.start_state.hand_points, atol=1e-9)
    judges = stored.judge(), episode.judge()
    for height in (0.0, *[0.06] * 10):
        state = cell.task_state()
        state.object_positions[stored.scene.target][2] += height
        for judge in judges:
            judge.update(state)
    first, second = (judge.verdict() for judge in judges)
    assert first == second and first.strict_success


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'format_version': 0}, 'of another version'),
        ({'task': 'juggle'}, 'of another version'),
        ({'start': {}}, 'is not an episode'),
        ({'scene': '{}'}, 'is not an episode'),
    ],
)
def test_other_files_are_refused(change, message, folder, tmp_path):
    path = tmp_path / EPISODE
    path.write_text(json.dumps(json.loads((folder / EPISODE).read_text()) | change))
    with pytest.raises(EpisodeFileError, match=message):
        load_episode(path)
    with pytest.raises(EpisodeFileError, match='cannot be read'):
        load_episode(tmp_path / 'nothing.json')
