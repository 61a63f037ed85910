import argparse

import pytest
import torch

from dexwm.commands import pca
from dexwm.data.latent_cache import LatentCache
from dexwm.data.recording import RecordingDataset
from dexwm.model.encoders.encoder import EncoderError
from dexwm.model.encoders.registry import build_encoder

from .tiny_recordings import IMAGE_SIZE, write_recording


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pca')
    (folder / 'data').mkdir()
    for seed in (1, 2):
        write_recording(folder / 'data', seed)
    encoder = build_encoder('efficientnet_lite0', {'image_size': IMAGE_SIZE})
    return LatentCache.build(RecordingDataset(folder / 'data', 'all'), encoder, folder / 'cache')


def dexwm_pca(*arguments):
    parser = argparse.ArgumentParser()
    pca.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(['pca', *map(str, arguments)])
    return parsed.run(parsed)


def test_the_file_makes_an_encoder_that_continues_the_cache(cache, tmp_path, capsys):
    file = tmp_path / 'new' / 'pca.safetensors'
    assert dexwm_pca('--cache', cache.folder, '--out', file, '--dim', 8, '--frames', 20) == 0
    assert '8 components of 768 channels keep' in capsys.readouterr().out
    options = {'projection': file, 'image_size': IMAGE_SIZE}
    encoder = build_encoder('efficientnet_lite0_pca', options)
    derived = cache.derive(encoder, tmp_path / 'derived')
    assert derived.latents.shape == (24, 6, 8)
    # Their variance is 1 on average, over the frames that they were fitted to.
    assert torch.tensor(derived.latents).float().reshape(-1, 8).var(0).mean() == pytest.approx(
        1.0, abs=0.3
    )


def test_the_seed_chooses_the_frames(cache, tmp_path):
    digests = set()
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        file = tmp_path / f'{name}.safetensors'
        arguments = ('--out', file, '--dim', 4, '--frames', 5, '--seed', seed)
        dexwm_pca('--cache', cache.folder, *arguments)
        options = {'projection': file, 'image_size': IMAGE_SIZE}
        digests.add(build_encoder('efficientnet_lite0_pca', options).digest())
    assert len(digests) == 2


def test_a_cache_of_latents_is_refused(cache, tmp_path):
    file = tmp_path / 'pca.safetensors'
    dexwm_pca('--cache', cache.folder, '--out', file, '--dim', 4)
    options = {'projection': file, 'image_size': IMAGE_SIZE}
    derived = cache.derive(build_encoder('efficientnet_lite0_pca', options), tmp_path / 'derived')
    with pytest.raises(EncoderError, match='efficientnet_lite0_pca_pca'):
        dexwm_pca('--cache', derived.folder, '--out', file)
