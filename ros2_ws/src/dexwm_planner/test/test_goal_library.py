"""The goal library: what is stored comes back, what cannot be is refused and leaves nothing."""

import os

import cv2
import numpy as np
import pytest

from dexwm.planning.goal import GoalError
from dexwm_planner.planner.goal_library import GoalLibrary, GoalLibraryError


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (12, 20, 3), dtype=np.uint8)


@pytest.fixture
def library(tmp_path):
    times = iter(range(10, 100))
    return GoalLibrary(tmp_path / 'goals', lambda: next(times))


def test_goals_come_back_newest_first(library):
    for seed, name in enumerate(('mug', 'can-2', 'a.b')):
        library.add(name, picture(seed))
    goals, problems = GoalLibrary(library.folder).list()
    assert [(goal.name, goal.stamp_ns) for goal in goals] == [
        ('a.b', 12),
        ('can-2', 11),
        ('mug', 10),
    ]
    assert problems == []
    np.testing.assert_array_equal(library.get('mug').image, picture(0))
    digests = {goal.digest for goal in goals}
    assert len(digests) == 3


def test_a_goal_of_the_same_name_takes_its_place(library):
    library.add('mug', picture(0))
    library.add('mug', picture(1))
    np.testing.assert_array_equal(library.get('mug').image, picture(1))
    assert len(list(library.folder.iterdir())) == 2


def test_a_file_is_imported(library, tmp_path):
    cv2.imwrite(str(tmp_path / 'goal.png'), cv2.cvtColor(picture(), cv2.COLOR_RGB2BGR))
    stored = library.import_file('file', tmp_path / 'goal.png')
    np.testing.assert_array_equal(stored.image, picture())
    (tmp_path / 'text.png').write_text('no picture')
    with pytest.raises(GoalError, match='no picture that can be read'):
        library.import_file('text', tmp_path / 'text.png')
    assert [goal.name for goal in library.list()[0]] == ['file']


@pytest.mark.parametrize('name', ['', '../up', 'a/b', '.hidden', 'x' * 65, 'with space'])
def test_impossible_names_are_refused(library, name):
    for use in (lambda: library.add(name, picture()), lambda: library.get(name)):
        with pytest.raises(GoalLibraryError, match='is not a possible name'):
            use()
    assert not library.folder.exists()


def test_a_missing_goal_is_refused_with_those_there_are(library):
    library.add('mug', picture())
    with pytest.raises(GoalLibraryError, match=r"no goal 'cup' .* there are mug"):
        library.get('cup')


def test_damaged_goals_are_named_and_the_others_listed(library):
    for seed, name in enumerate(('a', 'b', 'c', 'd')):
        library.add(name, picture(seed))
    (library.folder / 'a.png').write_bytes((library.folder / 'a.png').read_bytes()[:50])
    (library.folder / 'b.json').write_text('{}')
    os.replace(library.folder / 'd.png', library.folder / 'c.png')
    goals, problems = library.list()
    assert goals == []
    assert len(problems) == 4 and all('set it again' in problem for problem in problems)
    assert 'was changed' in problems[2]


def test_a_full_disk_leaves_the_old_goal(library):
    library.add('mug', picture(0))
    blocked = library.folder / 'mug.png.part'
    blocked.mkdir()
    with pytest.raises(GoalLibraryError, match='cannot be stored'):
        library.add('mug', picture(1))
    blocked.rmdir()
    np.testing.assert_array_equal(library.get('mug').image, picture(0))
