"""What a goal means for one observation: latents, pixels and points to be near."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dexwm.geometry.heatmaps import soft_argmax
from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm.model.world_model import WorldModel
from dexwm.planning.goal import Goal, GoalError, KeypointGoal, ObjectCrop
from dexwm.planning.goal_reader import GoalReader
from dexwm.planning.joint_actions import RIGHT_HAND, RIGHT_HEATMAP_KEYPOINTS, JointActions
from dexwm.robot.keypoints import KEYPOINTS

# How alike two pictures are misread falls with the way of the hand between them: by 1/e in this
# many metres (held-out scenes: misreadings correlate 0.93 below 1 cm, 0.6 at 4, 0.35 at 12).
_ALIKE_WITHIN = 0.09
# Entropy of a map of an object that is seen, nats, mean of both pictures (30 held-out pushes:
# below it are 93 % of the objects to be pushed, and 4 % of the kinds that are not there).
_CLEAR = 2.8
_SEEN = list(RIGHT_HEATMAP_KEYPOINTS)


@dataclass(frozen=True)
class Target:
    """A goal as the cost's terms take it.

    Attributes:
        latents: (P, D) of the goal picture, or of one with an object crop; None without.
        tokens: (P,) bool, which of them the goal tells; None for all.
        pixels: (12, 2) in the input picture, NaN where unknown; None where all are.
        points_base: (21, 3) of the hand, metres, NaN where unknown; None where all are.
        objects: (K, 2) centres of objects in the input picture, NaN where not known; None where
            all are, or the model reads none.
        moving: (2,) the centre in the goal of that object, of these, which is furthest from where
            it is now; None where there is none.
        digest: of the goal, SHA-256, hexadecimal.
    """

    latents: Tensor | None
    tokens: Tensor | None
    pixels: Tensor | None
    points_base: Tensor | None
    objects: Tensor | None
    moving: Tensor | None
    digest: str


def make_target(
    goal: Goal,
    model: WorldModel,
    reader: GoalReader,
    actions: JointActions,
    image: NDArray[np.uint8],
    preprocess: ResizeAndCrop,
    latents: Tensor,
) -> Target:
    """Reads a goal with the world model.

    Points in space are corrected by what the model misreads now: the robot knows where its hand
    is, and a picture of a hand nearby is misread alike. So plans get more exact the nearer the
    hand is, and errors of the camera's place count less. It is not in the paper.

    Args:
        goal: what to reach.
        model: which reads the observed picture.
        reader: of goal pictures, with the same model.
        actions: the camera of the input picture, and the posture now.
        image: (H, W, 3) uint8 RGB, the observed picture.
        preprocess: from the camera's pictures to the model's.
        latents: (P, D), of the observed picture.

    Raises:
        GoalError: where the goal's size or place does not fit the camera's picture.
    """
    if isinstance(goal, KeypointGoal):
        return _of_keypoints(goal, model, actions, image, preprocess)
    wanted = reader.read(goal, preprocess)
    pixels = wanted.pixels.clone()
    # The robot has no left hand.
    pixels[: RIGHT_HAND.start] = torch.nan
    points = None
    if wanted.depths is not None:
        seen = actions.unproject(pixels[RIGHT_HAND], wanted.depths[RIGHT_HAND])
        points = torch.full((len(KEYPOINTS), 3), torch.nan, device=pixels.device)
        points[_SEEN] = seen - _misread(seen, latents, model, actions)
    objects, moving = _objects(wanted.latents, latents, model)
    return Target(wanted.latents, None, pixels, points, objects, moving, goal.digest)


def _misread(goal: Tensor, latents: Tensor, model: WorldModel, actions: JointActions) -> Tensor:
    """How far from the truth the model is expected to see the goal's points (6, 3), metres.

    Args:
        goal: (6, 3), where it sees them, in the base, metres.
        latents: (P, D), of the observed picture.
        model: which reads them.
        actions: tell where the hand is in the observed picture.
    """
    _, read, depths = model.keypoints(latents)
    assert depths is not None
    seen = actions.unproject(read[RIGHT_HAND], depths[RIGHT_HAND])
    truth = actions.start_keypoints_base
    pixels, _ = actions.project(truth)
    size = pixels.new_tensor((actions.intrinsics.width, actions.intrinsics.height))
    inside = ((pixels > -0.5) & (pixels < size - 0.5)).all(dim=-1)[RIGHT_HAND, None]
    way = (goal - seen).norm(dim=-1).mean()
    # What is outside the picture is not seen at all.
    return torch.where(inside, torch.exp(-way / _ALIKE_WITHIN) * (seen - truth[_SEEN]), 0.0)


def _objects(
    goal: Tensor, observed: Tensor, model: WorldModel
) -> tuple[Tensor | None, Tensor | None]:
    """Where objects are in the goal picture.

    The head has a map for each kind of object. That of one that is not there is spread out, and so
    is that of one that is hidden.

    Args:
        goal: (P, D), latents of the goal picture.
        observed: (P, D), of the observed one.
        model: which reads them.

    Returns:
        Centres (K, 2), NaN for objects that are not seen clearly in the mean of both pictures,
        and that (2,) of the one which moves furthest; both None where none is seen.
    """
    if model.object_head is None:
        return None, None
    maps = model.object_maps(torch.stack([goal, observed]))
    spread = -(maps * maps.clamp(min=1e-12).log()).sum(dim=(-2, -1))
    clear = spread.mean(dim=0) < _CLEAR
    if not clear.any():
        return None, None
    centres = soft_argmax(maps.log(), model.config.heatmap_stride)
    way = (centres[0] - centres[1]).norm(dim=-1)
    furthest = torch.where(clear, way, -1.0).argmax()
    return torch.where(clear[:, None], centres[0], torch.nan), centres[0, furthest]


def _of_keypoints(
    goal: KeypointGoal,
    model: WorldModel,
    actions: JointActions,
    image: NDArray[np.uint8],
    preprocess: ResizeAndCrop,
) -> Target:
    device = actions.start.device
    points: Tensor | None = None
    pixels: Tensor | None = None
    if goal.points_base is not None:
        points = _if_known(torch.from_numpy(goal.points_base).float().to(device))
    if goal.pixels is not None:
        moved = goal.pixels @ preprocess.matrix[:2, :2].T + preprocess.matrix[:2, 2]
        pixels = torch.from_numpy(moved).float().to(device)
        pixels[: RIGHT_HAND.start] = torch.nan
        pixels = _if_known(pixels)
    if pixels is None and points is not None:
        # Projected, so that the world model's predictions can be compared with them too.
        pixels = _if_known(actions.project(points)[0])
    latents = tokens = None
    if goal.object_crop is not None:
        pasted, covered = _paste(goal.object_crop, image)
        latents = model.encode(torch.from_numpy(preprocess.apply(pasted))[None].to(device))[0]
        tokens = _covered_tokens(preprocess.apply(covered), model).to(device)
    return Target(latents, tokens, pixels, points, None, None, goal.digest)


def _if_known(points: Tensor) -> Tensor | None:
    """Points (K, d), None where not one is known."""
    return points if torch.isfinite(points).all(dim=-1).any() else None


def _paste(
    crop: ObjectCrop, image: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The observed picture with the crop in it, and a picture that is white where the crop is."""
    height, width = crop.image.shape[:2]
    rows, columns = slice(crop.row, crop.row + height), slice(crop.column, crop.column + width)
    if rows.stop > image.shape[0] or columns.stop > image.shape[1]:
        raise GoalError(
            f'the object crop of {width}x{height} at column {crop.column}, row {crop.row} leaves '
            f"the camera's picture of {image.shape[1]}x{image.shape[0]}"
        )
    pasted, covered = image.copy(), np.zeros_like(image)
    pasted[rows, columns] = crop.image
    covered[rows, columns] = 255
    return pasted, covered


def _covered_tokens(covered: NDArray[np.uint8], model: WorldModel) -> Tensor:
    """(P,) the tokens of which the crop covers at least half, or the one it covers most of."""
    rows, columns = model.encoder.grid
    part = covered[..., 0].reshape(rows, covered.shape[0] // rows, columns, -1).mean(axis=(1, 3))
    part = part.ravel() / 255
    if part.max() == 0:
        raise GoalError('the object crop lies in a part of the picture that the model cuts off')
    return torch.from_numpy(part >= min(0.5, part.max()))
