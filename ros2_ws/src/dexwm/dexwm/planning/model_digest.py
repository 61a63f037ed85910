"""A digest of a model in memory."""

from __future__ import annotations

from dexwm.model.encoders.encoder import digest_of
from dexwm.model.world_model import WorldModel


def model_digest(model: WorldModel) -> str:
    """SHA-256 of configuration and all weights, the encoder's too, hexadecimal.

    The same on all devices, and before and after a checkpoint.
    """
    return digest_of(model.config.to_dict(), model.state_dict())
