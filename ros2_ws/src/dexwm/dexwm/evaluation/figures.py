"""The figures of an open-loop evaluation, from what was predicted and what happened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dexwm.data.moved_objects import moved_since_start, touched_since_start
from dexwm.evaluation.bootstrap import Estimate, ratio_of_sums
from dexwm.evaluation.errors import EvaluationError
from dexwm.evaluation.pck import (
    DENOMINATORS,
    PCK_THRESHOLDS,
    Denominator,
    correct_and_counted,
    pixel_distances,
)

OBJECT_HORIZONS = (1.0, 2.0)
"""Times after the observed frame, besides the last, at which errors of objects are given (s)."""

OBJECT_PARTS = ('touching', 'left', 'untouched')
"""Moved objects that the hand touches, has touched since the observed frame, and has not."""


@dataclass(frozen=True)
class Truth:
    """What happened in N windows of one observed frame and T later ones.

    Attributes:
        episode: (N,) number of the episode of each window.
        times: (T,) seconds from the observed frame to each later one.
        keypoint_pixels: (N, T + 1, 12, 2) pixels of the input picture.
        keypoint_visible: (N, T + 1, 12) inside the picture.
        object_names: K kinds of objects; a window has one of a kind at most.
        object_pixels: (N, T + 1, K, 2) centres, pixels.
        object_visible: (N, T + 1, K) there, and its centre inside the picture.
        object_contact: (N, T + 1, K) touched by the hand.
    """

    episode: NDArray[np.int64]
    times: NDArray[np.float64]
    keypoint_pixels: NDArray[np.float32]
    keypoint_visible: NDArray[np.bool_]
    object_names: tuple[str, ...]
    object_pixels: NDArray[np.float32]
    object_visible: NDArray[np.bool_]
    object_contact: NDArray[np.bool_]

    def __post_init__(self) -> None:
        n, frames, objects = len(self.episode), len(self.times) + 1, len(self.object_names)
        if n == 0:
            raise EvaluationError('there are no windows to evaluate')
        expected = {
            'keypoint_pixels': (n, frames, 12, 2),
            'keypoint_visible': (n, frames, 12),
            'object_pixels': (n, frames, objects, 2),
            'object_visible': (n, frames, objects),
            'object_contact': (n, frames, objects),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise EvaluationError(
                    f'{name} must have shape {shape}, got {getattr(self, name).shape}'
                )


@dataclass(frozen=True)
class Readings:
    """What the predicted latents of N windows and T later frames show.

    Attributes:
        latent_mae: (N, T) mean absolute error.
        latent_mse: (N, T) mean squared error.
        keypoints: (N, T, 12, 2) pixels.
        objects: (N, T, K, 2) centres, pixels.
    """

    latent_mae: NDArray[np.float32]
    latent_mse: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    objects: NDArray[np.float32]


@dataclass(frozen=True)
class Curve:
    """A figure over time and its summaries.

    Attributes:
        steps: Its value at each of the T later frames, NaN where nothing was counted.
        mean: Over all later frames.
        last: At the last one.
    """

    steps: tuple[float, ...]
    mean: Estimate
    last: Estimate


@dataclass(frozen=True)
class ObjectError:
    """Errors of the centres of moved objects at some of the later frames.

    Attributes:
        error: Of the prediction, pixels.
        persistence: Of the object that the probe reads out of the observed frame, pixels.
        ratio: error / persistence.
        true_start: Of the object's true place in the observed frame, pixels: how far it moved.
        ratio_to_true_start: error / true_start. A probe that reads badly makes `persistence`
            larger than this; the two ratios agree where it reads well.
    """

    error: Estimate
    persistence: Estimate
    ratio: Estimate
    true_start: Estimate
    ratio_to_true_start: Estimate


@dataclass(frozen=True)
class ObjectFigures:
    """Errors of the centres of moved objects.

    Attributes:
        error: Over time, pixels.
        parts: By what was moved ('all', or one of `OBJECT_PARTS`) and when ('mean' over all later
            frames, or '4 s').
    """

    error: Curve
    parts: dict[str, dict[str, ObjectError]]


@dataclass(frozen=True)
class KeypointFigures:
    """Errors of the hands' keypoints in the picture.

    Attributes:
        error: Mean distance of visible keypoints, pixels.
        median: (T,) their median, pixels; NaN where none is visible.
        pck: By denominator and threshold in pixels: share of correct keypoints.
    """

    error: Curve
    median: tuple[float, ...]
    pck: dict[Denominator, dict[str, Curve]]

    def pck_curve(self, threshold: float, denominator: Denominator = 'visible') -> Curve:
        """PCK at one of the thresholds."""
        return self.pck[denominator][_threshold_name(threshold)]


@dataclass(frozen=True)
class Figures:
    """All figures of one model.

    Attributes:
        latent_mae: Mean absolute error of the latents; the paper's "embedding L2 error".
        latent_mse: Mean squared error of the latents.
        latent_mse_ratio: latent_mse / that of persistence.
        keypoints: As read by the probe.
        objects: Of moved objects; None where the data does not say where objects are.
    """

    latent_mae: Curve
    latent_mse: Curve
    latent_mse_ratio: Curve
    keypoints: KeypointFigures
    objects: ObjectFigures | None


def compute_figures(truth: Truth, readings: Readings, persistence: Readings) -> Figures:
    """Compares what a model predicted with what happened and with nothing happening.

    Args:
        truth: What happened.
        readings: What the model predicted.
        persistence: The readings of the observed frame's latent, repeated.
    """
    frames = np.ones_like(readings.latent_mse)
    return Figures(
        latent_mae=_mean_curve(truth.episode, readings.latent_mae, frames),
        latent_mse=_mean_curve(truth.episode, readings.latent_mse, frames),
        latent_mse_ratio=_curve(
            truth.episode, readings.latent_mse, persistence.latent_mse, frames
        ),
        keypoints=keypoint_figures(truth, readings.keypoints),
        objects=_object_figures(truth, readings, persistence) if truth.object_names else None,
    )


def keypoint_figures(truth: Truth, keypoints: NDArray[np.floating]) -> KeypointFigures:
    """Compares keypoints (N, T, 12, 2), pixels, with the true ones."""
    visible = truth.keypoint_visible[:, 1:]
    distances = pixel_distances(keypoints, truth.keypoint_pixels[:, 1:])
    pcks: dict[Denominator, dict[str, Curve]] = {}
    for name in DENOMINATORS:
        pcks[name] = {}
        for threshold in PCK_THRESHOLDS:
            correct, counted = correct_and_counted(distances, visible, threshold, name)
            pcks[name][_threshold_name(threshold)] = _mean_curve(
                truth.episode, correct.sum(-1), counted.sum(-1)
            )
    return KeypointFigures(
        error=_mean_curve(truth.episode, np.where(visible, distances, 0).sum(-1), visible.sum(-1)),
        median=tuple(
            float(np.median(distances[:, t][visible[:, t]])) if visible[:, t].any() else np.nan
            for t in range(len(truth.times))
        ),
        pck=pcks,
    )


def _mean_curve(
    episode: NDArray[np.int64], totals: NDArray[np.number], counts: NDArray[np.number]
) -> Curve:
    """A mean over what was counted; arguments (N, T)."""
    return _curve(episode, totals, counts, counts)


def _curve(
    episode: NDArray[np.int64],
    numerator: NDArray[np.number],
    denominator: NDArray[np.number],
    counts: NDArray[np.number],
) -> Curve:
    """The ratio of sums at each later frame, over all, and at the last; arguments (N, T)."""
    top, bottom = numerator.sum(0, dtype=float), denominator.sum(0, dtype=float)
    steps = np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)

    def estimate(part: slice) -> Estimate:
        return ratio_of_sums(
            numerator[:, part].sum(1, dtype=float),
            denominator[:, part].sum(1, dtype=float),
            episode,
            int(counts[:, part].sum()),
        )

    return Curve(tuple(steps.tolist()), estimate(slice(None)), estimate(slice(-1, None)))


def _object_figures(truth: Truth, readings: Readings, persistence: Readings) -> ObjectFigures:
    true = truth.object_pixels[:, 1:]
    errors = pixel_distances(readings.objects, true)
    persistence_errors = pixel_distances(persistence.objects, true)
    displacement = pixel_distances(np.broadcast_to(truth.object_pixels[:, :1], true.shape), true)
    moved = moved_since_start(truth.object_pixels, truth.object_visible)
    touched = touched_since_start(truth.object_contact)
    result: dict[str, dict[str, ObjectError]] = {}
    touching = truth.object_contact[:, 1:]
    parts = (touching, touched & ~touching, ~touched)
    for name, part in zip(('all', *OBJECT_PARTS), (np.ones_like(moved), *parts), strict=True):
        chosen = moved & part
        result[name] = {}
        for when, steps in _horizons(truth.times).items():
            then = np.zeros_like(chosen)
            then[:, steps] = chosen[:, steps]
            result[name][when] = _object_error(
                truth.episode, then, errors, persistence_errors, displacement
            )
    return ObjectFigures(
        _mean_curve(truth.episode, np.where(moved, errors, 0).sum(-1), moved.sum(-1)), result
    )


def _object_error(
    episode: NDArray[np.int64],
    part: NDArray[np.bool_],
    errors: NDArray[np.floating],
    persistence_errors: NDArray[np.floating],
    displacement: NDArray[np.floating],
) -> ObjectError:
    """Errors of the chosen part of (N, T, K) distances."""
    counts = part.sum((1, 2))

    def total(distances: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.where(part, distances, 0).sum((1, 2))

    def estimate(top: NDArray[np.number], bottom: NDArray[np.number]) -> Estimate:
        return ratio_of_sums(top, bottom, episode, int(counts.sum()))

    return ObjectError(
        error=estimate(total(errors), counts),
        persistence=estimate(total(persistence_errors), counts),
        ratio=estimate(total(errors), total(persistence_errors)),
        true_start=estimate(total(displacement), counts),
        ratio_to_true_start=estimate(total(errors), total(displacement)),
    )


def _horizons(times: NDArray[np.float64]) -> dict[str, list[int]]:
    """The later frames over which errors of objects are taken, by name."""
    horizons = {'mean': list(range(len(times)))}
    for seconds in (*OBJECT_HORIZONS, float(times[-1])):
        if seconds <= times[-1]:
            horizons[f'{seconds:g} s'] = [int(np.abs(times - seconds).argmin())]
    return horizons


def _threshold_name(threshold: float) -> str:
    return f'{threshold:g}'
