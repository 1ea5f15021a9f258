"""What people write: a network family, how it is trained, and the bounds that it sets to the planner."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import JsonValue

from autoseg.records.geometry import Shape, Triple
from autoseg.records.record import GrowingRecord, Record

NormalizationKind = Literal["ct", "zscore", "minmax", "rgb", "none"]


class Augmentation(GrowingRecord):
    """Probability and range of each random change; ranges are (low, high), angles in degrees.

    Attributes:
        added: Name of a transform that an installed package adds -> probability per sample.
    """

    LATER: ClassVar[tuple[str, ...]] = ("channel_dropout_probability", "added")

    rotation_probability: float = 0.2
    rotation_degrees: float = 30.0
    scaling_probability: float = 0.2
    scaling_range: tuple[float, float] = (0.7, 1.4)
    mirror_probability: float = 0.5
    noise_probability: float = 0.1
    noise_variance: tuple[float, float] = (0.0, 0.1)
    blur_probability: float = 0.2
    blur_sigma: tuple[float, float] = (0.5, 1.0)
    brightness_probability: float = 0.15
    brightness_range: tuple[float, float] = (0.75, 1.25)
    contrast_probability: float = 0.15
    contrast_range: tuple[float, float] = (0.75, 1.25)
    low_resolution_probability: float = 0.25
    low_resolution_range: tuple[float, float] = (0.5, 1.0)
    gamma_probability: float = 0.3
    inverted_gamma_probability: float = 0.1
    gamma_range: tuple[float, float] = (0.7, 1.5)
    previous_morphology_probability: float = 0.4
    previous_removal_probability: float = 0.2
    channel_dropout_probability: float = 0.0
    added: dict[str, float] = {}


class Recipe(GrowingRecord):
    """How a network is trained: every key is fixed by a preset and may be changed with `--set` at training.

    Attributes:
        optimizer: `sgd` (Nesterov), `adamw` or `adam`.
        schedule: `polynomial` (power 0.9), `cosine`, `warmup_stable_decay`, or `plateau`; every one starts with the
            warm-up.
        plateau_epochs, plateau_factor: `plateau` multiplies the rate by the factor after so many measurements
            without a gain.
        monitor_fraction: Share of the fold's training patients that are set apart to measure on.
        stop_epochs: After so many measurements without a gain the rate is annealed and the run ends; 0 for never.
        warmup_fraction: Share of the steps in which the rate rises linearly from 0.
        decay_fraction: Share of the steps over which `warmup_stable_decay` anneals to 0.
        epochs: Full length, where no budget is given.
        steps_per_epoch: Steps between two validations and log lines.
        foreground_fraction: Share of each batch centred on a foreground voxel (at least one sample).
        loss: `dice_ce` (regions: Dice + BCE), `dice_focal`, `dice_topk`, `tversky_ce`, `ce` (regions: BCE), or one that
            an installed package adds.
        tversky_alpha, tversky_beta: What a false positive and a false negative cost in `tversky_ce`; both 0.5 is Dice.
        class_weights: `none`, `inverse` or `effective`: of the cross-entropy, from the training cases' voxel counts.
        positive_weight: How many times a voxel inside a region counts in the BCE; nothing where there are no regions.
        blob_weight: Weight of the term in which every connected piece counts the same however small; 0 for none.
        batch_dice: Dice over the batch at once rather than per sample; None lets the planner decide.
        deep_supervision: Whether coarser outputs are supervised too.
        layer_decay: Rate of the first layer as a share of the last's, geometric in between; 1 for the same rate.
        freeze_fraction: Share of the steps in which weights that were loaded (`--pretrained`) stay as they are.
        ema_decay: Decay of the moving average of the weights, 0 for none. The average is what predicts.
        lesion_fraction, rejection_fraction, jitter_fraction: Only where a network works on proposed regions: the share
            of windows centred on a lesion, and that of windows centred on a proposal that holds none (the rest is
            centred on any proposal); and how far centres are moved, as a share of the window along each axis.
        precision: `auto` measures, or `float32`, `bfloat16`, `float16`.
    """

    LATER: ClassVar[tuple[str, ...]] = (
        "tversky_alpha",
        "tversky_beta",
        "class_weights",
        "positive_weight",
        "blob_weight",
        "plateau_epochs",
        "plateau_factor",
        "monitor_fraction",
        "stop_epochs",
        "layer_decay",
        "freeze_fraction",
        "lesion_fraction",
        "rejection_fraction",
        "jitter_fraction",
    )

    optimizer: Literal["sgd", "adamw", "adam"] = "sgd"
    learning_rate: float = 1e-2
    momentum: float = 0.99
    weight_decay: float = 3e-5
    clip: float = 12.0
    schedule: Literal["polynomial", "cosine", "warmup_stable_decay", "plateau"] = "polynomial"
    warmup_fraction: float = 0.0
    decay_fraction: float = 0.3
    plateau_epochs: int = 30
    plateau_factor: float = 0.2
    monitor_fraction: float = 0.0
    stop_epochs: int = 0
    epochs: int = 1000
    steps_per_epoch: int = 250
    foreground_fraction: float = 0.34
    loss: str = "dice_ce"
    tversky_alpha: float = 0.3
    tversky_beta: float = 0.7
    class_weights: Literal["none", "inverse", "effective"] = "none"
    positive_weight: float = 1.0
    blob_weight: float = 0.0
    batch_dice: bool | None = None
    deep_supervision: bool = True
    layer_decay: float = 1.0
    freeze_fraction: float = 0.0
    ema_decay: float = 0.0
    lesion_fraction: float = 0.5
    rejection_fraction: float = 0.25
    jitter_fraction: float = 0.25
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    augmentation: Augmentation = Augmentation()


class NetworkPreset(Record):
    """What a preset says of its network; the planner adds what follows from the data.

    Attributes:
        kind: A kind of `autoseg.networks.catalog`.
        dimensions: Which configurations it can make: "2d", "3d".
        features: Of the first stage; they double from stage to stage.
        max_features_2d, max_features_3d: Where doubling ends.
        blocks: Convolutions (plain) or residual blocks a stage, encoder; the last number repeats.
        decoder_blocks: Convolutions a stage, decoder.
        max_stages: At most this many resolutions; 0 means no bound.
        arguments: Anything else that the network takes, plain JSON.
    """

    kind: str
    dimensions: tuple[Literal["2d", "3d"], ...] = ("2d", "3d")
    features: int = 32
    max_features_2d: int = 512
    max_features_3d: int = 320
    blocks: tuple[int, ...] = (2,)
    decoder_blocks: int = 2
    max_stages: int = 0
    arguments: dict[str, JsonValue] = {}


class PlanningPreset(GrowingRecord):
    """Bounds that a preset sets to the planner.

    Attributes:
        min_batch: No patch is chosen for which this batch does not fit.
        max_batch: No batch is larger, however much memory there is.
        voxel_fraction: A batch holds at most this share of the data set's voxels.
        memory_gb: Plan for a card of this size where the device has more; None takes all that there is.
        patch_shape, batch_size, spacing_mm: By hand: (z, y, x) of an image in LPS orientation, or a number; None
            lets the rules decide.
        normalizations: By hand: channel -> kind; the rules decide on the others.
        context_slices: Slices on each side that a 2D network sees beside its own; None lets the rules decide.
        left_right: What becomes of structures with a twin on the other side: `no_mirror` (no flip from left to
            right), `swap` (a flip exchanges the twins), `merge_split` (trained as one, split by side afterwards).
        conformance: Plan with nnU-Net's element counts instead of measured memory, `(elements_3d, elements_2d)` at
            8 GB; only tests use it.
        regions: Whether a second stage on the regions that the 3D network proposes is planned; None lets the rules
            decide.
        region_shape: Of that stage's windows, by hand: (z, y, x) of an image in LPS orientation.
        region_sensitivity: Share of the lesions that the proposed regions must hold, out of fold.
    """

    LATER: ClassVar[tuple[str, ...]] = ("regions", "region_shape", "region_sensitivity")

    min_batch: int = 2
    max_batch: int = 4096
    voxel_fraction: float = 0.05
    memory_gb: float | None = None
    patch_shape: Shape | None = None
    batch_size: int | None = None
    spacing_mm: Triple | None = None
    normalizations: dict[str, NormalizationKind] = {}
    context_slices: int | None = None
    left_right: Literal["no_mirror", "swap", "merge_split"] = "no_mirror"
    conformance: tuple[float, float] | None = None
    regions: bool | None = None
    region_shape: Shape | None = None
    region_sensitivity: float = 0.98


class ShortBudget(Record):
    """What a preset changes when a run's budget allows too few steps for the full recipe.

    A narrow network that sees more samples and a rate that falls soon win there.

    Attributes:
        steps_below: The change applies when a run has fewer steps than this.
        min_steps: Batch, then patch, shrink until a run has at least so many steps.
        features: Of the first stage.
        recipe: Instead of the preset's.
    """

    steps_below: int = 20_000
    min_steps: int = 1500
    features: int
    recipe: Recipe


class Preset(Record):
    """What works everywhere: a network family and how it is trained; written by people as TOML."""

    name: str
    about: str
    network: NetworkPreset
    recipe: Recipe = Recipe()
    planning: PlanningPreset = PlanningPreset()
    short: ShortBudget | None = None
