"""One way to train on a data set, to the last number."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import JsonValue

from autoseg.records.geometry import Shape
from autoseg.records.preset import NormalizationKind, Recipe
from autoseg.records.record import GrowingRecord, Record


class Architecture(Record):
    """A network to the last number, as plain data.

    Attributes:
        kind: A kind of `autoseg.networks.catalog`.
        dimensions: 2 (tensors are (B, C, Y, X)) or 3 (tensors are (B, C, Z, Y, X)).
        input_channels: Image channels, and one a structure of the previous stage in a cascade.
        output_channels: `Labels.output_channels`.
        deep_supervision: Whether training returns coarser outputs too, finest first.
        checkpointing: Whether activations are recomputed in the backward pass.
        arguments: Of the kind: strides and kernels per stage as [z, y, x] ([y, x] in 2D), features, blocks ...
    """

    kind: str
    dimensions: Literal[2, 3]
    input_channels: int
    output_channels: int
    deep_supervision: bool = True
    checkpointing: bool = False
    arguments: dict[str, JsonValue]


class Normalization(Record):
    """How one channel becomes network input.

    Attributes:
        kind: `ct` (clip to [lower, upper], then subtract mean, divide by std), `zscore` (per case; inside the
            non-zero mask when `masked`), `minmax`, `rgb` (divide by 255), `none`.
    """

    channel: str
    kind: NormalizationKind
    masked: bool = False
    lower: float = 0.0
    upper: float = 0.0
    mean: float = 0.0
    std: float = 1.0


class MemoryEstimate(Record):
    """Peak of one training step as measured by a dry run.

    Attributes:
        peak_bytes: Parameters, gradients, optimiser state, activations and inputs at the worst moment.
        parameters: Trainable numbers.
        step_flops: Floating-point operations of one step at the planned patch and batch.
        points: What was measured: (patch z, y, x, batch, bytes).
    """

    peak_bytes: int
    parameters: int
    step_flops: float
    points: tuple[tuple[int, int, int, int, int], ...] = ()


class Sides(Record):
    """How structures with a twin on the other side are told apart although images are flipped from left to right.

    Attributes:
        handling: `swap`: a flip exchanges the twins, in training and in mirrored prediction. `merge_split`: both are
            learned as the first of the pair, and each voxel goes to the twin on whose side it lies.
        axis: Of the patch, from right to left (0 z, 1 y, 2 x).
        pairs: Inside values.
        split_at: Of each pair: where the first's side ends and the second's begins, as a fraction of the cropped image
            along the axis.
        first_below: Of each pair: whether the first lies below `split_at`.
    """

    handling: Literal["swap", "merge_split"]
    axis: int
    pairs: tuple[tuple[int, int], ...]
    split_at: tuple[float, ...] = ()
    first_below: tuple[bool, ...] = ()


class Previous(Record):
    """The stage whose prediction a cascade's second stage takes as extra input channels (one-hot structures)."""

    configuration: str


class Regions(Record):
    """Where a second stage for small lesions works: on regions that a first stage proposes; all else is background.

    A proposal is a connected piece of voxels that the first stage holds for foreground with a low probability or more;
    its region is the piece's bounding box, grown on every side.

    Attributes:
        configuration: The first stage.
        sensitivity: Share of the lesions that the regions must hold, by which the probability is chosen out of fold.
        margin_mm: By which boxes are grown.
        threshold: The probability; None in a plan, before a first stage was trained.
        proposals_digest: Of what the probability was chosen from; empty in a plan.
    """

    configuration: str
    sensitivity: float
    margin_mm: float
    threshold: float | None = None
    proposals_digest: str = ""


class Preparation(Record):
    """What preprocessing needs to know of a configuration.

    Attributes:
        axis_order, spacing_mm, normalizations, data_key: As in Configuration.
    """

    axis_order: tuple[int, int, int]
    spacing_mm: tuple[float | None, float, float]
    normalizations: tuple[Normalization, ...]
    data_key: str


class Configuration(GrowingRecord):
    """One way to train on the data set. Shapes and spacings are in network order (after `axis_order`).

    Attributes:
        name: `<preset>_2d`, `<preset>_3d`, `<preset>_3d_lowres`, `<preset>_3d_cascade`, `<preset>_3d_regions`.
        axis_order: Which axis of the canonical (z, y, x) array becomes the network's first, second, third.
        spacing_mm: Target; None on an axis where every case keeps its own (first axis in 2D).
        patch_shape: (z, y, x); z = 1 in 2D.
        median_shape: Of the cases at the target spacing.
        mirror_axes: Axes of the patch that training and prediction flip (0 z, 1 y, 2 x).
        batch_dice: Dice over the batch at once rather than per sample.
        data_key: Configurations with equal keys share their preprocessed cases.
        context_slices: Neighbouring slices on each side that a 2D network sees as further channels (2.5D); at the
            first and the last slice the edge is repeated.
        sides: Where twins are swapped or merged; None where nothing is flipped from left to right.
        regions: Where it works, if not everywhere.
    """

    LATER: ClassVar[tuple[str, ...]] = ("regions",)

    name: str
    preset: str
    axis_order: tuple[int, int, int]
    spacing_mm: tuple[float | None, float, float]
    patch_shape: Shape
    median_shape: Shape
    batch_size: int
    normalizations: tuple[Normalization, ...]
    mirror_axes: tuple[int, ...]
    batch_dice: bool
    architecture: Architecture
    recipe: Recipe
    memory: MemoryEstimate
    previous: Previous | None = None
    data_key: str
    context_slices: int = 0
    sides: Sides | None = None
    regions: Regions | None = None

    @property
    def first_stage(self) -> str | None:
        """The configuration that has to be trained and predict before this one, in every fold."""
        stage = self.previous or self.regions
        return stage.configuration if stage else None

    @property
    def as_planned(self) -> Configuration:
        """The same before anything was chosen from the predictions of its first stage."""
        if self.regions is None:
            return self
        regions = self.regions.model_copy(update={"threshold": None, "proposals_digest": ""})
        return self.model_copy(update={"regions": regions})

    @property
    def dimensions(self) -> Literal[2, 3]:
        """2 or 3."""
        return self.architecture.dimensions

    @property
    def preparation(self) -> Preparation:
        """What preprocessing needs to know."""
        return Preparation(
            axis_order=self.axis_order,
            spacing_mm=self.spacing_mm,
            normalizations=self.normalizations,
            data_key=self.data_key,
        )
