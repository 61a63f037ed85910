"""`make train`, as one command, with a two-hundredth of its data."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from dexwm.model.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[4]


@pytest.mark.timeout(900)
def test_the_default_model_is_made_from_nothing(tmp_path):
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'models').symlink_to(ROOT / 'models')
    script = shutil.copy(ROOT / 'tools' / 'train_default.sh', tmp_path / 'tools')
    subprocess.run([script], env={**os.environ, 'QUICK': '1'}, check=True)
    world_model, whole, shipped = (
        load_checkpoint(folder)
        for folder in (
            tmp_path / 'runs/train/default/model',
            tmp_path / 'runs/train/default_decoder/model',
            ROOT / 'models/default',
        )
    )
    assert whole.config == shipped.config
    before, after = (model.state_dict() for model in (world_model, whole))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {name.split('.')[0] for name in after.keys() - before.keys()} == {'decoder'}
