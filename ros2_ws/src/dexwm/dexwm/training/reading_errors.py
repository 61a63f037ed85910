"""How far what is read in single frames is off: sums over batches, and figures made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dexwm.data.batch import FrameBatch

PCK_PIXELS = 20.0
"""A keypoint within this distance is close, pixels of the input picture."""


def reading_errors(
    batch: FrameBatch,
    keypoints: Sequence[int],
    pixels: Tensor,
    depths: Tensor | None,
    centres: Tensor | None,
) -> dict[str, Tensor]:
    """Sums over a batch.

    Args:
        batch: The truth.
        keypoints: Which C of the 42 are read.
        pixels: (B, C, 2) where they are read.
        depths: (B, C) at which depths, metres; None where that is not read.
        centres: (B, K, 2) where centres of objects are read; None likewise.

    Returns:
        'keypoint_pixels' (sum of distances), 'keypoints_near' (within 20 pixels), 'depth'
        (metres) and 'keypoints' (their number); 'object_pixels' and 'objects';
        'objects_in_contact_pixels' and 'objects_in_contact'.
    """
    valid, true_pixels, true_depths = batch.keypoints(keypoints)
    distance = torch.linalg.vector_norm(pixels - true_pixels, dim=-1)
    sums = {
        'keypoint_pixels': distance[valid].sum(),
        'keypoints_near': (distance[valid] <= PCK_PIXELS).sum(),
        'keypoints': valid.sum(),
    }
    if depths is not None:
        sums['depth'] = (depths - true_depths).abs()[valid].sum()
    if centres is not None:
        distance = torch.linalg.vector_norm(centres - batch.object_pixels, dim=-1)
        touched = batch.object_valid & batch.object_contact
        sums |= {
            'object_pixels': distance[batch.object_valid].sum(),
            'objects': batch.object_valid.sum(),
            'objects_in_contact_pixels': distance[touched].sum(),
            'objects_in_contact': touched.sum(),
        }
    return sums


def reading_figures(sums: Mapping[str, float]) -> dict[str, float]:
    """Mean errors: pixels of keypoints and of objects' centres, and metres of depth."""
    return {
        name: sums[total] / sums[count]
        for name, total, count in (
            ('keypoint_px', 'keypoint_pixels', 'keypoints'),
            ('pck20', 'keypoints_near', 'keypoints'),
            ('depth_m', 'depth', 'keypoints'),
            ('object_px', 'object_pixels', 'objects'),
            ('object_in_contact_px', 'objects_in_contact_pixels', 'objects_in_contact'),
        )
        if total in sums and sums[count]
    }
