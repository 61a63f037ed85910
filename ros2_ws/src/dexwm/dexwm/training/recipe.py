"""What a recipe of a training may say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, model_validator

from dexwm.training.adapter import AdapterObjectiveConfig
from dexwm.training.decoder import DecoderObjectiveConfig

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A part of a recipe: an unknown key is an error, and nothing changes later."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)


class Source(Section):
    """A dataset, and how much of the mixture it is.

    Attributes:
        kind: Format.
        path: Folder, in the layout of its format. With a cache it may be missing: nothing is
            read but the cache.
        options: Of the format's reader, see `dexwm.data.datasets.OPTIONS`; with a path.
        cache: Folder of encoded pictures (`dexwm encode`); None: pictures are read and encoded
            while training.
        weight: Share of the windows, relative to the other sources; None for all of them: each
            gives as many as it has.
        in_memory: Reads the cache into memory at the start, rather than where it is needed.
    """

    kind: Literal['recording', 'egodex', 'droid', 'robocasa']
    path: Path | None = None
    options: dict[str, Any] = {}
    cache: Path | None = None
    weight: Positive | None = None
    in_memory: bool = False

    @model_validator(mode='after')
    def _has_a_place(self) -> Self:
        if self.path is None and self.cache is None:
            raise ValueError('give path, or cache, or both')
        if self.options and self.cache is not None:
            raise ValueError('options are for reading path; a cache was read with its own')
        return self


def _alike_in_weight(sources: list[Source]) -> list[Source]:
    if len({source.weight is None for source in sources}) > 1:
        raise ValueError('give every source a weight, or none')
    return sources


def source_weights(sources: Sequence[Source], sizes: Sequence[int]) -> list[float]:
    """How much of a mixture each source is, relative to the others.

    Args:
        sources: All with a weight, or all without.
        sizes: What each has, which is its weight where it is given none.
    """
    return [
        float(size) if source.weight is None else source.weight
        for source, size in zip(sources, sizes, strict=True)
    ]


Sources = Annotated[list[Source], Field(min_length=1), AfterValidator(_alike_in_weight)]


class Windows(Section):
    """How windows are drawn (paper, appendix C.1).

    Attributes:
        frames: Frames of a window, the predicted ones included.
        max_seconds: Longest time between first and last.
        segments: Windows of an episode in an epoch.
        spacing: Times between frames: drawn, or all alike.
        min_gap_seconds: Shortest time between frames that is drawn.
        vary_span: The time of a window is drawn too, up to max_seconds, so that small steps are
            about as common as large ones.
        moved_share: Share of the windows, 0 to 1, in which an object is to move; the others are
            drawn as they come. Needs caches of data that tell where objects are. Not for
            held-out figures.
        whole: Windows end only where all their frames fit before the last, instead of repeating
            the first; short episodes of many frames a window need it.
        augment: Colours and blur drawn anew for every window; needs pictures.
    """

    frames: Annotated[int, Field(ge=2)] = 9
    max_seconds: Positive = 4.0
    segments: PositiveInt = 10
    spacing: Literal['random', 'uniform'] = 'random'
    min_gap_seconds: NotNegative = 0.0
    vary_span: bool = False
    moved_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    whole: bool = False
    augment: bool = False


class Phase(Section):
    """A stretch of training with one schedule of the learning rate.

    Attributes:
        steps: Steps of the optimiser; or
        epochs: so many passes over the data.
        batch_size: Windows (or frames) of a step, over all devices.
        learning_rate: Peak, see `dexwm.training.schedule`.
        final_learning_rate: At the last step.
        warmup_steps: Steps of linear rise before the peak.
    """

    steps: PositiveInt | None = None
    epochs: Positive | None = None
    batch_size: PositiveInt
    learning_rate: Positive
    final_learning_rate: NotNegative
    warmup_steps: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode='after')
    def _has_one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError('give steps or epochs, one of them')
        if self.steps is not None and self.warmup_steps >= self.steps:
            raise ValueError(f'warmup_steps must be less than the {self.steps} steps')
        return self


class Optimiser(Section):
    """AdamW.

    Attributes:
        weight_decay: Decoupled decay of weights.
        betas: Decay of the gradient's averages.
        clip_norm: Largest norm of the gradient; None: it is not clipped.
    """

    weight_decay: NotNegative = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: Positive | None = 1.0


class Validation(Section):
    """Figures on held-out windows, the same ones each time.

    Attributes:
        data: What is held out: caches of it, or folders, of which recordings and EgoDex give
            their held-out part.
        every_steps: Steps between.
        batches: How many batches are looked at.
        batch_size: Windows (or frames) of one, over all devices.
    """

    data: Sources
    every_steps: PositiveInt
    batches: PositiveInt = 8
    batch_size: PositiveInt = 32


class Engine(Section):
    """On what, and how exactly, is computed.

    All but the precision may differ when a training is resumed.

    Attributes:
        device: auto takes a CUDA device if there is one, and says what it took.
        devices: Devices (on a CPU: processes) of each machine.
        nodes: Machines.
        strategy: ddp: every device holds the model; fsdp: parameters, gradients and the
            optimiser's state are spread over the devices. Used where there is more than one.
        precision: Of the arithmetic; weights stay float32 in the mixed ones.
        micro_batch_size: Largest part of a batch that a device takes at once; the gradients of
            the parts are added up. None: all at once.
        activation_checkpointing: Computes activations again in the backward pass rather than
            keeping them: less memory, a third more arithmetic.
        compile: Compiles the predictor (needs a C++ compiler on a CPU).
        workers: Processes that prepare batches; 0: the training's own.
        threads: Threads of torch in each process; None: torch decides.
        peak_flops: FLOP/s of a device, for the utilisation; None: measured.
    """

    device: Literal['auto', 'cpu', 'cuda'] = 'auto'
    devices: PositiveInt = 1
    nodes: PositiveInt = 1
    strategy: Literal['ddp', 'fsdp'] = 'ddp'
    precision: Literal['32-true', 'bf16-mixed'] = '32-true'
    micro_batch_size: PositiveInt | None = None
    activation_checkpointing: bool = False
    compile: bool = False
    workers: Annotated[int, Field(ge=0)] = 0
    threads: PositiveInt | None = None
    peak_flops: Positive | None = None


class Saving(Section):
    """When the state is saved, from which a training goes on; the end and SIGTERM save too.

    Attributes:
        every_steps: Steps between; None: only time counts.
        every_minutes: Minutes between; None: only steps count.
    """

    every_steps: PositiveInt | None = None
    every_minutes: Positive | None = 10.0


class BaseRecipe(Section):
    """What all kinds of training have.

    Attributes:
        name: Names the folder of the training.
        seed: Of initial weights, data and all else that is drawn.
        data: What is trained on.
        phases: One after the other.
        optimiser: AdamW's settings.
        ema_decay: Of the moving average of the weights, which is then what is validated and
            saved; None: the weights themselves.
        validation: Figures on held-out data; None: without.
        engine: On what is computed.
        saving: When the state is saved.
        log_every_steps: Steps that a line of figures averages.
    """

    name: Annotated[str, Field(pattern=r'^[\w.-]+$')]
    seed: Annotated[int, Field(ge=0)] = 0
    data: Sources
    phases: Sequence[Phase]
    optimiser: Optimiser = Optimiser()
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    validation: Validation | None = None
    engine: Engine = Engine()
    saving: Saving = Saving()
    log_every_steps: PositiveInt = 50


class WorldModelPhase(Phase):
    """A phase of the world model.

    Attributes:
        loss: window: every frame of a window is predicted from the true ones before it;
            rollout: the model goes on from its own predictions, with gradients through all
            steps.
        rollout_steps: Steps of a rollout.
    """

    loss: Literal['window', 'rollout'] = 'window'
    rollout_steps: PositiveInt | None = None

    @model_validator(mode='after')
    def _steps_belong_to_rollouts(self) -> Self:
        if (self.loss == 'rollout') != (self.rollout_steps is not None):
            raise ValueError('rollout_steps belongs to loss: rollout, and to it alone')
        return self


class Heatmaps(Section):
    """How the maps that the keypoint head learns are drawn; the defaults are the paper's.

    See `dexwm.geometry.heatmaps.gaussian_heatmaps`.
    """

    sigma: Positive = 2.0
    round_to_pixel: bool = True
    radius: Positive | None = 2.0
    zero_at_border: bool = True


class HandConsistency(Section):
    """The loss of keypoints (paper, section 3.3).

    Attributes:
        weight: Weight of the heat maps of predicted latents; 0: without.
        true_latents_weight: Weight of the heat maps of the encoder's latents, of the last frame
            of each window, from which the keypoint head alone learns.
        kind: Loss of a heat map.
        heatmaps: How the true maps are drawn.
        depth_weight: Weight of the absolute error of depths, per metre, beside the loss of the
            heat maps; above 0 where the model's keypoint head has `depths`.
    """

    weight: NotNegative = 100.0
    true_latents_weight: NotNegative = 0.0
    kind: Literal['mse', 'cross_entropy'] = 'mse'
    heatmaps: Heatmaps = Heatmaps()
    depth_weight: NotNegative = 0.0


class ObjectConsistency(Section):
    """The loss of objects' centres, which only a simulator knows. Not in the paper.

    They are read by the model's object head, which has the keypoint head's sizes.

    Attributes:
        weight: Weight of the heat maps of predicted latents; 0: without.
        true_latents_weight: Weight of the heat maps of the encoder's latents, of the last frame
            of each window, from which the head alone learns.
        moved_weight: How much more an object counts that is away from where it was in the first
            frame of its window.
        sigma: Of the drawn maps, pixels.
    """

    weight: NotNegative = 0.0
    true_latents_weight: NotNegative = 0.0
    moved_weight: NotNegative = 0.0
    sigma: Positive = 5.6


class WorldModelLoss(Section):
    """The loss of the world model.

    Attributes:
        hand_consistency: Loss of keypoints.
        object_consistency: Loss of objects' centres.
        changed_patch_weight: How much more a patch counts that changes within the window, see
            `dexwm.model.losses.state_loss`; 0: all alike.
    """

    hand_consistency: HandConsistency = HandConsistency()
    object_consistency: ObjectConsistency = ObjectConsistency()
    changed_patch_weight: NotNegative = 0.0


class EncoderChoice(Section):
    """An encoder by its name, see `dexwm.model.encoders.registry`.

    Attributes:
        name: Which.
        options: Its options.
    """

    name: str
    options: dict[str, Any] = {}


class WorldModelRecipe(BaseRecipe):
    """Training of predictor and keypoint head.

    Attributes:
        encoder: Frozen, makes latents of pictures.
        model: The rest of the model: keys of `dexwm.model.world_model.WorldModelConfig`; what
            follows from the encoder may be left out.
        start_from: Checkpoint to go on from, in place of `encoder` and `model`.
        windows: How windows are drawn.
        loss: What is minimised.
    """

    kind: Literal['world_model']
    encoder: EncoderChoice | None = None
    model: dict[str, Any] | None = None
    start_from: Path | None = None
    windows: Windows = Windows()
    loss: WorldModelLoss = WorldModelLoss()
    phases: Annotated[list[WorldModelPhase], Field(min_length=1)]

    @model_validator(mode='after')
    def _starts_somewhere(self) -> Self:
        new = self.encoder is not None and self.model is not None
        neither = self.encoder is None and self.model is None
        if not (new if self.start_from is None else neither):
            raise ValueError('give encoder and model, or else start_from')
        for index, phase in enumerate(self.phases):
            if (phase.rollout_steps or 0) >= self.windows.frames:
                raise ValueError(
                    f'phases.{index}.rollout_steps: windows of {self.windows.frames} frames '
                    f'allow {self.windows.frames - 1}'
                )
        return self


class AdapterRecipe(BaseRecipe):
    """Training of an adapter behind a frozen encoder, on truth that a simulator knows.

    Attributes:
        encoder: One with an adapter; its options shape the adapter.
        objective: What the latents should tell.
        data: Caches of the encoder's backbone, with small pictures.
    """

    kind: Literal['adapter']
    encoder: EncoderChoice
    objective: AdapterObjectiveConfig = AdapterObjectiveConfig()
    phases: Annotated[list[Phase], Field(min_length=1)]


class DecoderSizes(Section):
    """Sizes of a decoder, see `dexwm.model.decoder.DecoderConfig`."""

    patch: PositiveInt = 16
    dim: PositiveInt = 192
    depth: Annotated[int, Field(ge=0)] = 3
    heads: PositiveInt = 4
    mlp_ratio: Positive = 4.0
    output: Literal['linear', 'convolutions'] = 'convolutions'


class Lpips(Section):
    """Weights of LPIPS, see `dexwm.training.perceptual.LpipsVgg16`."""

    vgg: Path
    linear: Path


class DecoderRecipe(BaseRecipe):
    """Training of a decoder for the latents of a world model.

    Attributes:
        start_from: Checkpoint of the world model, which is saved again with the decoder.
        decoder: Sizes.
        objective: What is minimised.
        lpips: Weights of the perceptual distance; None: EfficientNet-Lite0 compares.
        data: Caches of the model's encoder, with pictures of the decoder's size.
    """

    kind: Literal['decoder']
    start_from: Path
    decoder: DecoderSizes = DecoderSizes()
    objective: DecoderObjectiveConfig = DecoderObjectiveConfig()
    lpips: Lpips | None = None
    phases: Annotated[list[Phase], Field(min_length=1)]


class HeadsLoss(Section):
    """What the heads are trained on.

    Attributes:
        heatmaps: How the true maps of keypoints are drawn; the loss of a map is the model's.
        depth_weight: Weight of the absolute error of keypoints' depths, per metre, beside the
            loss of the maps; above 0 where the model's keypoint head has `depths`.
        object_weight: Weight of the maps of objects' centres; 0: without an object head.
        object_sigma: Of the true maps of objects, pixels.
    """

    heatmaps: Heatmaps = Heatmaps()
    depth_weight: NotNegative = 0.0
    object_weight: NotNegative = 0.0
    object_sigma: Positive = 5.6


class HeadsRecipe(BaseRecipe):
    """Training of the heads of a world model on single frames.

    Attributes:
        start_from: Checkpoint of the world model, which is saved again with the heads.
        start_share: Share that the weights of `start_from` have in those that are kept, 0 to 1;
            what was trained has the rest. Heads read predictions too, and learn here from true
            frames alone: trained ones read these better and predictions worse, weights in
            between both well (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
            A head that the model did not have is kept as it was trained.
        loss: What is minimised.
        data: Caches of the model's encoder.
    """

    kind: Literal['heads']
    start_from: Path
    start_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    loss: HeadsLoss = HeadsLoss()
    phases: Annotated[list[Phase], Field(min_length=1)]


Recipe = WorldModelRecipe | AdapterRecipe | DecoderRecipe | HeadsRecipe

RECIPES: dict[str, type[Recipe]] = {
    'world_model': WorldModelRecipe,
    'adapter': AdapterRecipe,
    'decoder': DecoderRecipe,
    'heads': HeadsRecipe,
}
"""Recipes by kind."""
