"""What each member of an ensemble says of an image, on its own network grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from autoseg.images.context import merged, split_by_side, with_neighbours
from autoseg.images.fields import Field
from autoseg.images.orientation import reorient
from autoseg.images.proposals import Foreground
from autoseg.images.resizing import anisotropic_axis, resize_labels
from autoseg.images.tiles import bytes_held
from autoseg.networks import sliding_window
from autoseg.networks.passes import Setting, Swap, flips_along
from autoseg.networks.sweep import puts_off_heads
from autoseg.records.choice import Share
from autoseg.records.configuration import Configuration
from autoseg.records.errors import DataError, UserError
from autoseg.records.volumes import Image, LabelMap, Passage, PreprocessedCase
from autoseg.stages import preprocessing
from autoseg.stages.predicting import regional
from autoseg.stages.predicting.region import cut, region_on
from autoseg.stages.predicting.streaming import Computed, free_bytes, on_device
from autoseg.stages.predicting.windows import slab_memory, window_batch

Earlier = Mapping[str, LabelMap | Foreground]
"""First stage's configuration -> its label map in the scan's geometry (cascade), or what it proposes (regions)."""


@dataclass(frozen=True)
class Member:
    """One candidate with the networks of its folds, ready to predict.

    Attributes:
        name: `ModelId.candidate()`.
        keys: `ModelId.key()` of each fold.
        weight: Its share among other members.
        digest: Of the weights.
    """

    name: str
    keys: tuple[str, ...]
    configuration: Configuration
    networks: tuple[torch.nn.Module, ...]
    weight: Share
    digest: str


@dataclass(frozen=True)
class Options:
    """How to predict, whatever is predicted.

    Attributes:
        device: A torch device.
        precision: What the networks compute in.
        mirror: Whether predictions of flipped images are averaged in, along the axes that training flipped.
        step_fraction: Distance of two windows as a fraction of the patch.
        memory_gb: What windows and the logits that they are added up in may take; None takes half of what is free.
        fast: Whether a quick pass finds where structures are, and only that region is predicted.
    """

    device: str = "cpu"
    precision: str = "float32"
    mirror: bool = True
    step_fraction: float = 0.5
    memory_gb: float | None = None
    fast: bool = False


def predict_fields(
    image: Image,
    members: Sequence[Member],
    *,
    case: str,
    options: Options,
    previous: Earlier | None = None,
) -> list[Field]:
    """Return the mean logits of each member's folds, on the member's network grid.

    Args:
        image: A corrected scan in its own geometry.
        members: Who predicts; members whose preprocessing is the same share it.
        case: For messages.
        options: How.
        previous: What earlier stages said, where a member is a second stage.

    Raises:
        UserError: A network gave values that are not finite.
    """
    opened = open_fields(image, members, case=case, options=options, previous=previous)
    return [
        field if isinstance(field.array, np.ndarray) else replace(field, array=_whole(field.array)) for field in opened
    ]


def open_fields(
    image: Image,
    members: Sequence[Member],
    *,
    case: str,
    options: Options,
    previous: Earlier | None = None,
    region: LabelMap | None = None,
) -> list[Field]:
    """Return what `predict_fields` does, computed only as `home` reads it; each field can be read once or again.

    Args:
        image: As in `predict_fields`, and so are the others.
        members: Who predicts.
        case: For messages.
        options: How.
        previous: Likewise.
        region: What a quick pass found, in the scan's geometry: fields cover what lies around it. None: everything.
    """
    prepared: dict[str, PreprocessedCase] = {}
    fields = []
    for member in members:
        key = member.configuration.data_key
        if key not in prepared:
            prepared[key] = preprocessing.prepare(image, None, member.configuration, case=case)
        array = network_input(prepared[key], member, previous or {})
        passage, sides = prepared[key].passage, member.configuration.sides
        if member.configuration.regions is not None:
            found = _in_regions(_computed(array, member, case, options), prepared[key], member, previous or {})
            source = found if sides is None or sides.handling != "merge_split" else split_by_side(found.whole(), sides)
            fields.append(Field(source, passage, member.weight))
            continue
        if sides is not None and sides.handling == "merge_split":
            # Which side a voxel lies on follows from its place in the whole grid.
            whole = split_by_side(_whole(_computed(array, member, case, options)), sides)
            fields.append(Field(whole, passage, member.weight))
            continue
        part = None if region is None else region_on(region, passage, member.configuration.patch_shape)
        fields.append(Field(_computed(cut(array, part), member, case, options), passage, member.weight, part))
    return fields


def network_input(case: PreprocessedCase, member: Member, previous: Earlier) -> np.ndarray:
    """Return the image, with the first stage's structures as further channels in a cascade."""
    image = with_neighbours(np.asarray(case.image[:], dtype=np.float32), member.configuration.context_slices)
    if member.configuration.previous is None:
        return image
    seen = previous.get(member.configuration.previous.configuration)
    if not isinstance(seen, LabelMap):
        raise _without_first_stage(member, case)
    count = member.configuration.architecture.input_channels - image.shape[0]
    earlier = merged(follow(seen, case.passage), member.configuration.sides)
    return np.concatenate([image, one_hot(earlier, count)])


def _in_regions(computed: Computed, case: PreprocessedCase, member: Member, previous: Earlier) -> regional.Regional:
    """Return the logits inside of the regions that the first stage proposes, background outside."""
    foreground = previous.get(member.configuration.first_stage or "")
    if not isinstance(foreground, Foreground):
        raise _without_first_stage(member, case)
    regions = regional.regions_of(foreground, case.passage, member.configuration, case=case.id)
    background = regional.sure_background(computed.classes, foreground.output)
    return regional.compute(computed.setting, computed.image, regions, background=background, case=case.id)


def _without_first_stage(member: Member, case: PreprocessedCase) -> DataError:
    stage = member.configuration.first_stage
    return DataError(
        f"{member.name} needs the prediction of its first stage, {stage}",
        case=case.id,
        fix=f"Train {stage} in every fold first.",
        code="missing_stage",
    )


def _computed(image: np.ndarray, member: Member, case: str, options: Options) -> Computed:
    setting = on_device(setting_of(member, options), options.device)
    tensor = sliding_window.as_tensor(image)
    return Computed(tensor, setting, member.configuration.architecture.output_channels, case)


def setting_of(member: Member, options: Options) -> Setting:
    """Return how a member's windows are computed."""
    configuration = member.configuration
    axes = _mirror_axes(configuration) if options.mirror else ()
    return Setting(
        networks=member.networks,
        patch=tuple(configuration.patch_shape),
        dimensions=configuration.dimensions,
        flips=flips_along(axes, configuration.dimensions),
        step_fraction=options.step_fraction,
        precision=options.precision,
        device=torch.device(options.device),
        window_batch=window_batch(
            configuration,
            precision=options.precision,
            device=options.device,
            memory_bytes=memory_bytes(options),
            headless=headless(member),
        ),
        swap=_swap(configuration),
    )


def headless(member: Member) -> bool:
    """Whether a member's windows are added up before its networks' last layer."""
    return puts_off_heads(member.networks, swap=_swap(member.configuration))


def memory_bytes(options: Options) -> float:
    """Return what a scan may take: as asked for, else half of what is free."""
    return free_bytes(options.device) if options.memory_gb is None else options.memory_gb * 2**30


def slab_memory_of(fields: Sequence[Field], members: Sequence[Member], options: Options) -> float:
    """Return what of the memory is left for the fields' logits beside the windows."""
    return slab_memory(
        [(member.configuration, headless(member)) for member in members],
        precision=options.precision,
        device=options.device,
        memory_bytes=memory_bytes(options),
        wanted=bytes_held(fields),
    )


def _whole(source: Computed | regional.Regional) -> np.ndarray:
    """Return all logits of a member, (K, Z, Y, X), on the CPU."""
    if isinstance(source, regional.Regional):
        return source.whole()
    try:
        return sliding_window.whole(source.setting, source.image)[0].numpy()
    except UserError as error:
        raise error.in_case(source.case) from None


def _swap(configuration: Configuration) -> Swap | None:
    """Return which output channels a flip from left to right exchanges."""
    sides = configuration.sides
    if sides is None:
        return None
    channels = list(range(configuration.architecture.output_channels))
    if sides.handling == "merge_split":
        return None
    for first, second in sides.pairs:
        channels[first], channels[second] = second, first
    return Swap(sides.axis, tuple(channels), _swapped_inputs(configuration, channels))


def _swapped_inputs(configuration: Configuration, channels: list[int]) -> tuple[int, ...]:
    """Return the same of a cascade's input, whose last channels are the structures, background left out."""
    if configuration.previous is None:
        return ()
    structures = configuration.architecture.output_channels - 1
    first = configuration.architecture.input_channels - structures
    return (*range(first), *(first + channel - 1 for channel in channels[1:]))


def _mirror_axes(configuration: Configuration) -> tuple[int, ...]:
    """Return the axes to average over: those that training flipped, for no network knows a flip it never saw."""
    flipped = configuration.recipe.augmentation.mirror_probability > 0
    return configuration.mirror_axes if flipped else ()


def follow(label_map: LabelMap, passage: Passage) -> np.ndarray:
    """Return a label map of the scan's geometry on the network grid that a passage leads to, (Z, Y, X)."""
    oriented = reorient(label_map.array, passage.original, passage.oriented)
    coarse = anisotropic_axis(passage.oriented.spacing_mm, passage.network.spacing_mm)
    return resize_labels(oriented[passage.crop.slices()], passage.network.shape, anisotropic_axis=coarse)


def one_hot(labels: np.ndarray, count: int) -> np.ndarray:
    """Return a float32 (count, Z, Y, X) array with a channel for each of the inside values 1..count."""
    return np.stack([labels == value for value in range(1, count + 1)]).astype(np.float32)
