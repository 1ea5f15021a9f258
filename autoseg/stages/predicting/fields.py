"""What each member of an ensemble says of an image, on its own network grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from autoseg.images.regrid import Field
from autoseg.networks import sliding_window
from autoseg.records.errors import DataError, UserError
from autoseg.records.plan import Configuration
from autoseg.records.volumes import Image, LabelMap, PreprocessedCase
from autoseg.stages import preprocessing


@dataclass(frozen=True)
class Member:
    """One candidate with the networks of its folds, ready to predict.

    Attributes:
        name: `ModelId.candidate()`.
        keys: `ModelId.key()` of each fold.
        digest: Of the weights.
    """

    name: str
    keys: tuple[str, ...]
    configuration: Configuration
    networks: tuple[torch.nn.Module, ...]
    weight: float
    digest: str


@dataclass(frozen=True)
class Options:
    """How to predict, whatever is predicted.

    Attributes:
        device: A torch device.
        precision: What the networks compute in.
        mirror: Whether predictions of flipped images are averaged in, along the axes that training flipped.
        step_fraction: Distance of two windows as a fraction of the patch.
    """

    device: str = "cpu"
    precision: str = "float32"
    mirror: bool = True
    step_fraction: float = 0.5


def predict_fields(
    image: Image,
    members: Sequence[Member],
    *,
    case: str,
    options: Options,
    previous: Mapping[str, LabelMap] | None = None,
) -> list[Field]:
    """Return the mean logits of each member's folds, on the member's network grid.

    Args:
        image: A corrected scan in its own geometry.
        members: Who predicts; members whose preprocessing is the same share it.
        case: For messages.
        options: How.
        previous: Configuration name -> label map of an earlier stage in the scan's geometry, for cascades.

    Raises:
        UserError: A network gave values that are not finite.
    """
    prepared: dict[tuple[str, str | None], PreprocessedCase] = {}
    fields = []
    for member in members:
        stage = member.configuration.previous.configuration if member.configuration.previous else None
        key = (member.configuration.data_key, stage)
        if key not in prepared:
            before = _previous(previous, stage, member) if stage else None
            prepared[key] = preprocessing.prepare(image, before, member.configuration, case=case)
        fields.append(_field(prepared[key], member, case, options))
    return fields


def _previous(previous: Mapping[str, LabelMap] | None, stage: str, member: Member) -> LabelMap:
    if previous is None or stage not in previous:
        raise DataError(
            f"{member.name} needs the prediction of its first stage, {stage}",
            fix=f"Train {stage} in every fold first.",
            code="missing_stage",
        )
    return previous[stage]


def _field(case: PreprocessedCase, member: Member, name: str, options: Options) -> Field:
    configuration = member.configuration
    image = np.asarray(case.image[:], dtype=np.float32)
    if configuration.previous is not None:
        image = np.concatenate([image, one_hot(np.asarray(case.labels[:]), configuration, image.shape[0])])
    try:
        logits = sliding_window.predict(
            member.networks,
            torch.from_numpy(image),
            configuration.patch_shape,
            dimensions=configuration.dimensions,
            mirror_axes=configuration.mirror_axes if options.mirror else (),
            step_fraction=options.step_fraction,
            precision=options.precision,
            device=options.device,
        )
    except UserError as error:
        raise error.in_case(name) from None
    return Field(array=logits.numpy(), passage=case.passage, weight=member.weight)


def one_hot(labels: np.ndarray, configuration: Configuration, image_channels: int) -> np.ndarray:
    """Return a float32 (K, Z, Y, X) array with a channel for each structure of the stage before."""
    count = configuration.architecture.input_channels - image_channels
    return np.stack([labels == value for value in range(1, count + 1)]).astype(np.float32)
