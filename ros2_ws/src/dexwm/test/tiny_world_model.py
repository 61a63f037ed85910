"""A world model of a few thousand weights, whose encoder needs no file."""

import torch

from dexwm.model.encoders.encoder import Encoder
from dexwm.model.world_model import WorldModel, WorldModelConfig

WRITTEN = {
    'name': 'tiny',
    'predictor': {'dim': 8, 'depth': 2, 'heads': 2, 'context': 4},
    'keypoint_head': {'dim': 8, 'depth': 1, 'heads': 2, 'stride': 2},
    'decoder': {'dim': 8, 'depth': 1, 'heads': 2, 'patch': 4},
}


class TinyEncoder(Encoder):
    """Mean colours of patches, mixed by a fixed random matrix."""

    def __init__(self, dim=6, seed=0, trained=False):
        super().__init__('tiny', (16, 24), (2, 3), dim, mean=[128.0] * 3, std=[64.0] * 3)
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer('mix', torch.randn(3, dim, generator=generator))
        self.adapter = torch.nn.Linear(dim, dim) if trained else None
        self.freeze()

    def _encode(self, pixels):
        colours = torch.nn.functional.avg_pool2d(pixels, 8).flatten(2).transpose(1, 2)
        tokens = colours @ self.mix
        return tokens if self.adapter is None else self.adapter(tokens)

    def frozen_digest(self):
        return f'{self.mix.sum()}'

    def trained_state(self):
        return {} if self.adapter is None else self.adapter.state_dict()

    def load_trained_state(self, state):
        if self.adapter is None:
            super().load_trained_state(state)
        else:
            self.adapter.load_state_dict(state)


def tiny_world_model(seed=0, encoder=None, **written):
    """With weights everywhere, so that predictions depend on all of them."""
    torch.manual_seed(seed)
    encoder = TinyEncoder() if encoder is None else encoder
    model = WorldModel(WorldModelConfig.for_encoder({**WRITTEN, **written}, encoder), encoder)
    for part in (model.predictor, model.keypoint_head):
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()
