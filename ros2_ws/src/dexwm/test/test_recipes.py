"""Recipes: what is read, and what is said of mistakes."""

from pathlib import Path

import pytest

from dexwm.training.recipe_file import RecipeError, load_recipe

RECIPES = Path(__file__).parents[4] / 'models' / 'recipes'
SMOKE = RECIPES / 'smoke.yaml'


@pytest.fixture(autouse=True)
def _places(monkeypatch):
    for name in ('EGODEX', 'DROID', 'ROBOCASA_RANDOM'):
        monkeypatch.setenv(name, f'/data/{name.lower()}')
    monkeypatch.delenv('DEXWM_DATA', raising=False)


@pytest.mark.parametrize('path', sorted(RECIPES.glob('*.yaml')), ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_valid_and_named_as_its_file(path):
    assert load_recipe(path).name == path.stem


def test_the_papers_recipes_have_its_numbers():
    recipe = load_recipe(RECIPES / 'paper_pretrain.yaml')
    (phase,) = recipe.phases
    assert (phase.epochs, phase.batch_size) == (40, 4096)
    assert (phase.learning_rate, phase.final_learning_rate) == (1e-4, 1e-7)
    assert recipe.optimiser.weight_decay == 1e-5
    assert recipe.loss.hand_consistency.weight == 100
    assert [source.kind for source in recipe.data] == ['egodex', 'droid']
    assert recipe.data[0].path == Path('/data/egodex')
    tuned = load_recipe(RECIPES / 'paper_finetune.yaml')
    (phase,) = tuned.phases
    assert (phase.loss, phase.rollout_steps, phase.epochs, phase.batch_size) == (
        'rollout',
        8,
        50,
        8,
    )
    assert phase.learning_rate == 1e-5


def test_changes_are_typed_and_reach_into_lists():
    recipe = load_recipe(
        SMOKE,
        [
            'seed=7',
            'data.0.path=/somewhere',
            'data.0.weight=2',
            'validation=null',
            'loss.hand_consistency.weight=0.5',
            'engine.micro_batch_size=2',
        ],
    )
    assert recipe.seed == 7 and recipe.validation is None
    assert recipe.data[0].path == Path('/somewhere') and recipe.data[0].weight == 2.0
    assert recipe.loss.hand_consistency.weight == 0.5
    assert recipe.engine.micro_batch_size == 2 and recipe.engine.device == 'cpu'


def test_the_environment_fills_in_and_a_missing_variable_is_named(monkeypatch):
    assert load_recipe(SMOKE).data[0].path == Path('runs/data/exploration')
    monkeypatch.setenv('DEXWM_DATA', '/mnt')
    assert load_recipe(SMOKE).data[0].path == Path('/mnt/exploration')
    monkeypatch.delenv('EGODEX')
    with pytest.raises(RecipeError, match=r'\$\{EGODEX\}: this variable'):
        load_recipe(RECIPES / 'paper_pretrain.yaml')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('colour=red', r'colour: unknown key; there are .*ema_decay, encoder'),
        ('data.0.pth=/x', r'data\.0\.pth: unknown key; there are cache, in_memory, kind, options'),
        ('loss.hand_consistency.heatmaps.s=1', r'heatmaps\.s: unknown key; there are radius'),
        ('phases.0.loss=huber', r"phases\.0\.loss: .*'window' or 'rollout' \(given: 'huber'\)"),
        ('phases.0.steps=none', r'phases\.0\.steps: .*integer'),
        ('phases.0.epochs=2', r'phases\.0: give steps or epochs, one of them'),
        ('phases.1.rollout_steps=4', r'phases\.1\.rollout_steps: windows of 4 frames allow 3'),
        ('phases.1.loss=window', r'phases\.1: rollout_steps belongs to loss: rollout'),
        ('phases.0.learning_rate=.nan', r'phases\.0\.learning_rate: .*finite'),
        ('data=[]', r'data: .*at least 1'),
        ('data.0.path=null', r'data\.0: give path, or cache, or both'),
        ('data.1.path=/x', r'--set data\.1\.path: 1 is not an index of 1 entries'),
        ('seed.x=1', r'--set seed\.x: 0 has no x'),
        ('seed', r'--set seed: not of the form KEY=VALUE'),
        ('model=null', 'give encoder and model, or else start_from'),
        ('kind=planner', r"kind: 'planner' is none of world_model, adapter, decoder"),
        ('name=a/b', r'name: .*pattern'),
    ],
)
def test_mistakes_are_named_with_file_key_and_what_would_do(change, message):
    with pytest.raises(RecipeError, match=message) as error:
        load_recipe(SMOKE, [change])
    assert change.startswith(('data.1', 'seed')) or str(SMOKE) in str(error.value)


def test_a_key_of_an_objective_is_checked_too():
    with pytest.raises(RecipeError, match=r'objective\.wight: unknown key; .*picture_weight'):
        load_recipe(RECIPES / 'default_adapter.yaml', ['objective.wight=1'])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a: [', 'not YAML'),
        ('seed: 1\nseed: 2\n', "'seed' stands twice"),
        ('- 1\n', 'a mapping of keys'),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path, text, message):
    path = tmp_path / 'x.yaml'
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(RecipeError, match='No such file'):
        load_recipe(tmp_path / 'x.yaml')
