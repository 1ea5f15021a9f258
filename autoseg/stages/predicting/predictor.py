"""A model that was loaded once and predicts one scan after the other: from files, from memory, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from autoseg import __version__
from autoseg.compute import devices
from autoseg.images.cases import cropped
from autoseg.images.channels import finite_voxels, unshaded
from autoseg.images.header import as_matrix, check_grid, nearest_rotation
from autoseg.images.signs import ALL_SIGNS
from autoseg.images.traits import traits
from autoseg.records.choice import PostprocessingStep
from autoseg.records.dataset import Correction
from autoseg.records.errors import DataError, UsageError
from autoseg.records.geometry import IDENTITY, Grid, Triple
from autoseg.records.labels import Labels
from autoseg.records.likeness import Unlikeness
from autoseg.records.package import Package
from autoseg.records.plan import Plan
from autoseg.records.quality import PredictedScore, Reliability
from autoseg.records.volumes import Doubt, Image, LabelMap, Prediction
from autoseg.stages.predicting import packages
from autoseg.stages.predicting.costs import Cost, expected_cost
from autoseg.stages.predicting.fields import Member, Options
from autoseg.stages.predicting.new_scans import predict_scan, written_values
from autoseg.stages.predicting.pace import Pace, measure_pace
from autoseg.stages.predicting.quality import against_usual, predict_quality
from autoseg.stages.predicting.unlikeness import told_by, unlikeness

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Segmentation:
    """What a model says of an array.

    Attributes:
        labels: (Z, Y, X), the values of the label maps that the model was trained with; 0 is background.
        names: Value -> name of the structure.
        probabilities: float32, (K, Z, Y, X), or None when nobody asked.
        channels: What each of the K channels stands for: `background` and the structures, or the regions.
        seconds: Wall time.
        model: Digest of the model.
        quality: The Dice that each structure is thought to have, with its 90 % interval; empty when nobody asked, or
            where the model cannot tell.
        entropy: float32 (Z, Y, X): 0 sure, 1 every class as likely as another; None when nobody asked.
        disagreement: The part of it that comes from folds and members differing; None when nobody asked.
        unlikeness: How unlike the training scans it is (`.flagged`, `.line()`); None where the model cannot tell.
    """

    labels: np.ndarray
    names: dict[int, str]
    probabilities: np.ndarray | None
    channels: tuple[str, ...]
    seconds: float
    model: str
    quality: tuple[PredictedScore, ...] = ()
    entropy: np.ndarray | None = None
    disagreement: np.ndarray | None = None
    unlikeness: Unlikeness | None = None


@dataclass(frozen=True)
class Predictor:
    """A loaded model. Threads may share it: one case is computed at a time, so that memory stays that of one case.

    Attributes:
        plan: Channels, labels and corrections.
        members: Who predicts.
        first_stages: Configuration name -> member, for second stages.
        postprocessing: Cleaning steps, in order.
        options: How to predict.
        digest: Stands for the model in every output.
        package: The manifest, where the model came as a file.
        reliability: What the model knows of its own doubt.
    """

    plan: Plan
    members: tuple[Member, ...]
    first_stages: Mapping[str, Member] = field(default_factory=dict)
    postprocessing: tuple[PostprocessingStep, ...] = ()
    options: Options = field(default_factory=Options)
    digest: str = ""
    package: Package | None = None
    reliability: Reliability = field(default_factory=Reliability)
    _one_at_a_time: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | None = None,
        mirror: bool = True,
        step_fraction: float = 0.5,
        memory_gb: float | None = None,
        members: Sequence[str] = (),
        precision: str | None = None,
        fast: bool = False,
    ) -> Predictor:
        """Load a model file that `autoseg export` wrote; nothing else is needed, and nothing is written.

        Args:
            path: `model.zip`, or the folder of an ONNX export.
            device: `cuda`, `mps` or `cpu`; None takes the fastest there is. ONNX networks always use the CPU.
            mirror: Whether flipped images are averaged in, where the model was trained for it.
            step_fraction: Distance of two windows as a fraction of the patch.
            memory_gb: What windows and the logits of a scan may take at once; None takes half of what is free.
            members: Names of the members to use, equally weighted; none takes all, as they were chosen.
            precision: `float32`, `bfloat16` or `float16`; None takes that of the training where the device is fast in
                it, else float32.
            fast: Whether a quick pass finds where structures are, and only that region is predicted.

        Raises:
            DataError: It is no whole model file; see `autoseg.stages.predicting.packages`.
            UsageError: There is no such device or member, or the device does not compute in that precision.
        """
        model = packages.opened(Path(path))
        first = model.package.networks()[0]
        options = options_for(
            first.precision,
            device=device,
            mirror=mirror,
            step_fraction=step_fraction,
            memory_gb=memory_gb,
            precision=precision,
            fast=fast,
        )
        loaded, stages = packages.load_members(model, names=members, device=options.device)
        return cls(
            plan=model.package.plan,
            members=tuple(loaded),
            first_stages=stages,
            postprocessing=() if members else model.package.postprocessing,
            options=options,
            digest=model.digest,
            package=model.package,
            reliability=(None if members else model.package.reliability) or Reliability(),
        )

    @property
    def labels(self) -> Labels:
        """What is segmented."""
        return self.plan.labels

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that an array must have, in this order."""
        return tuple(channel.name for channel in self.plan.channels)

    @property
    def names(self) -> dict[int, str]:
        """Value in a label map -> name of the structure."""
        return {item.original: item.name for item in self.labels.structures}

    @property
    def description(self) -> str:
        """What an output says of where it came from."""
        return describe(self.plan, self.digest)

    def expected_cost(self, grid: Grid, *, uncertainty: bool = False) -> Cost:
        """Return what a scan on this grid will take, the first stages of cascades before the members."""
        seen = self._seen_grid(grid)
        stages = [expected_cost(seen, [stage], self.options) for stage in self._stages()]
        steady = uncertainty and self._steady
        last = expected_cost(seen, self.members, self.options, doubt=uncertainty, steady=steady)
        return reduce(add, [*stages, last])

    def measure_pace(self, grid: Grid, *, uncertainty: bool = False) -> Pace:
        """Return the pace at which what `expected_cost` counts is done, for scans whose voxels are as large."""
        measure = partial(measure_pace, options=self.options, grid=self._seen_grid(grid), output=self.labels.output)
        stages = [measure([stage]) for stage in self._stages()]
        return reduce(add, [*stages, measure(self.members, uncertainty=uncertainty)])

    def _seen_grid(self, grid: Grid) -> Grid:
        return _upright(grid) if _keeps_axes(self.plan.corrections) else grid

    @property
    def _steady(self) -> bool:
        """Whether the doubt's signs tell how steady a prediction stays."""
        return self.reliability.signs == len(ALL_SIGNS)

    @property
    def knows_its_signs(self) -> bool:
        """Whether the Dice follows from signs that this version reads."""
        return all(name in ALL_SIGNS for model in self.reliability.quality for name in model.features)

    def _stages(self) -> list[Member]:
        needed = {item.configuration.first_stage for item in self.members}
        return [self.first_stages[name] for name in sorted(self.first_stages) if name in needed]

    def predict(
        self,
        array: Any,
        spacing_mm: Sequence[float] | None = None,
        *,
        direction: Sequence[Sequence[float]] | None = None,
        affine: Any = None,
        probabilities: bool = False,
        uncertainty: bool = False,
        case: str = "array",
    ) -> Segmentation:
        """Return what the model says of a scan in memory; the disk is not touched.

        Args:
            array: (C, Z, Y, X) with the channels in the order of `channels`, or (Z, Y, X) where there is one; as the
                scanner gave it (Hounsfield units, no normalisation). A slice has Z = 1.
            spacing_mm: Distance of voxels along (z, y, x), in mm. Not needed beside `affine`.
            direction: 3x3, columns the directions of the x, y and z axes in the patient (LPS, as ITK has it); without
                it or `affine` x runs to the left, y to the back, z to the head of the patient.
            affine: 4x4 of nibabel instead: from voxel (x, y, z) to the patient (RAS), in mm. The array is then
                `image.get_fdata().T`.
            probabilities: Also return probabilities (needs their full size in memory).
            uncertainty: Also return maps of the doubt and the Dice that each structure is thought to have.
            case: For messages.

        Raises:
            UsageError: Neither spacing nor affine was given, or both.
            DataError: The array has other axes or channels, holds numbers that are not finite (unless the model fills
                them), or an impossible geometry.
        """
        image = self._image(array, spacing_mm, direction, affine, case)
        prediction = self.predict_image(image, case=case, probabilities=probabilities, uncertainty=uncertainty)
        named = tuple(region.name for region in self.labels.regions)
        return Segmentation(
            labels=written_values(prediction.labels.array, self.labels),
            names=self.names,
            probabilities=prediction.probabilities,
            channels=named or ("background", *(item.name for item in self.labels.structures)),
            seconds=prediction.seconds,
            model=self.digest,
            quality=prediction.quality,
            entropy=prediction.doubt.entropy if prediction.doubt else None,
            disagreement=prediction.doubt.disagreement if prediction.doubt else None,
            unlikeness=prediction.unlikeness,
        )

    def predict_image(
        self,
        image: Image,
        *,
        case: str,
        probabilities: bool = False,
        scratch: Path | None = None,
        uncertainty: bool = False,
    ) -> Prediction:
        """Return what the model says of a corrected scan, inside values on the scan's own grid.

        Args:
            image: As `read_image` gives it.
            case: For messages.
            probabilities: Also return probabilities.
            scratch: Folder in whose file without a name they lie, float16; None: they are float32 in memory.
            uncertainty: Also return the doubt, calibrated, and the Dice that each structure is thought to have.

        Raises:
            UserError: A network gave values that are not finite, or the scan does not fit the model.
        """
        seen = seen_by(image, self.plan.corrections)
        with self._one_at_a_time:
            prediction = predict_scan(
                seen,
                self.members,
                case=case,
                labels=self.labels,
                postprocessing=self.postprocessing,
                first_stages=self.first_stages,
                options=self.options,
                probabilities=probabilities,
                scratch=scratch,
                temperature=self.reliability.temperature if uncertainty else None,
                steady=self._steady,
            )
        return replace(
            prediction,
            labels=LabelMap(prediction.labels.array, image.grid),
            quality=self._quality(prediction),
            unlikeness=self._unlikeness(seen, prediction),
        )

    def _quality(self, prediction: Prediction) -> tuple[PredictedScore, ...]:
        if prediction.doubt is None or not self.knows_its_signs:
            return ()
        names = [name for name, _ in self.labels.targets]
        return tuple(predict_quality(self.reliability.quality, names, self._signs(prediction.doubt)))

    def _signs(self, doubt: Doubt) -> np.ndarray:
        """Return the signs against what each fold usually shows; all members were trained on the same folds."""
        longest = max(self.members, key=lambda member: len(member.keys))
        folds = [key.rpartition("/fold_")[2] for key in longest.keys]
        return against_usual(doubt.signs, folds, self.reliability.voices)

    def _unlikeness(self, seen: Image, prediction: Prediction) -> Unlikeness | None:
        if self.reliability.likeness is None:
            return None
        found = traits(seen, [channel.kind for channel in self.plan.channels])
        if prediction.doubt is not None and self.knows_its_signs:
            found |= told_by(self._signs(prediction.doubt))
        return unlikeness(self.reliability.likeness, found)

    def _image(
        self,
        array: Any,
        spacing_mm: Sequence[float] | None,
        direction: Sequence[Sequence[float]] | None,
        affine: Any,
        case: str,
    ) -> Image:
        voxels = np.asarray(array)
        voxels = voxels[None] if voxels.ndim == 3 and len(self.channels) == 1 else voxels
        if voxels.ndim != 4 or voxels.shape[0] != len(self.channels) or 0 in voxels.shape:
            raise DataError(
                f"the array has the shape {np.shape(array)} instead of (C, Z, Y, X) with C = {len(self.channels)}: "
                f"{', '.join(self.channels)}",
                case=case,
                fix="Give one channel each, in this order; a slice has Z = 1.",
                code="wrong_shape",
            )
        grid = _grid(voxels.shape[1:], spacing_mm, direction, affine, case)
        corrected = []
        for index, channel in enumerate(self.plan.channels):
            filled, _ = finite_voxels(voxels[index], channel, self.plan.corrections, file=None)
            corrected.append(unshaded(filled, grid, channel, self.plan.corrections)[0])
        return cropped(Image(np.stack(corrected), grid), self.channels, self.plan.channels, self.plan.corrections)


def options_for(
    trained: str,
    *,
    device: str | None = None,
    mirror: bool = True,
    step_fraction: float = 0.5,
    memory_gb: float | None = None,
    precision: str | None = None,
    fast: bool = False,
) -> Options:
    """Return how to predict on a device: in the precision of the training, unless it is slow or unknown there.

    Raises:
        UsageError: There is no such device, or it does not compute in the precision that is asked for.
    """
    profile = devices.find(device)
    devices.set_threads(profile.threads)
    able = {"float32": True, "bfloat16": profile.fast_bfloat16, "float16": profile.kind == "cuda"}
    if precision is not None and not able.get(precision, False):
        there = ", ".join(name for name in able if able[name])
        what = f"{profile.name or profile.kind} does not compute in {precision}, or slower than in float32"
        raise UsageError(what, fix=f"There are: {there}.", code="no_precision")
    return Options(
        device=str(devices.torch_device(profile)),
        precision=precision or (trained if able[trained] else "float32"),
        mirror=mirror,
        step_fraction=step_fraction,
        memory_gb=memory_gb,
        fast=fast,
    )


def describe(plan: Plan, digest: str = "") -> str:
    """Return what an output says of where it came from, within the 79 letters of a NIfTI header."""
    return f"autoseg {__version__} plan {plan.digest()}" + (f" model {digest[:16]}" if digest else "")


def seen_by(image: Image, corrections: Sequence[Correction]) -> Image:
    """Return the image as a model sees it: for one that never looked where the axes point they are the patient's."""
    if not _keeps_axes(corrections):
        return image
    return Image(image.array, _upright(image.grid), image.valid, image.notes)


def _keeps_axes(corrections: Sequence[Correction]) -> bool:
    return any(item.kind == "keep_axes" for item in corrections)


def _upright(grid: Grid) -> Grid:
    return grid.model_copy(update={"direction": IDENTITY, "origin_mm": (0.0, 0.0, 0.0)})


def _grid(
    shape: Sequence[int],
    spacing_mm: Sequence[float] | None,
    direction: Sequence[Sequence[float]] | None,
    affine: Any,
    case: str,
) -> Grid:
    if (spacing_mm is None) == (affine is None) or (affine is not None and direction is not None):
        fix = "Give spacing_mm=(z, y, x), and direction where you know it; or affine alone."
        raise UsageError("the array needs either its spacing or its affine", case=case, fix=fix, code="no_spacing")
    rows: Any = IDENTITY if direction is None else direction
    origin: Triple = (0.0, 0.0, 0.0)
    if affine is not None:
        matrix = RAS_TO_LPS @ np.asarray(affine, dtype=float).reshape(4, 4)
        lengths = np.linalg.norm(matrix[:3, :3], axis=0)
        spacing_mm, rows = lengths[::-1].tolist(), matrix[:3, :3] / np.where(lengths > 0, lengths, 1.0)
        origin = tuple(matrix[:3, 3].tolist())
    spacing = tuple(float(size) for size in spacing_mm or ())
    rotation, _ = nearest_rotation(np.asarray(rows, dtype=float).reshape(3, 3), file=Path(case))
    if len(spacing) != 3:
        fix = "Give (z, y, x); a slice has any thickness, such as 1."
        raise UsageError(f"the spacing has {len(spacing)} numbers", case=case, fix=fix, code="no_spacing")
    grid = Grid(
        shape=tuple(int(size) for size in shape), spacing_mm=spacing, origin_mm=origin, direction=as_matrix(rotation)
    )
    return check_grid(grid, file=Path(case))
