"""Looking at a scan again, a little changed: how steady each network's prediction stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from autoseg.images.context import split_by_side
from autoseg.images.fields import Output
from autoseg.images.steadiness import STEADINESS, steadiness_of
from autoseg.networks import sliding_window
from autoseg.records.errors import UserError
from autoseg.records.volumes import Image, PreprocessedCase
from autoseg.stages import preprocessing
from autoseg.stages.predicting.fields import Earlier, Member, Options, network_input, setting_of
from autoseg.stages.predicting.probabilities import to_probabilities
from autoseg.stages.predicting.streaming import on_device


def steadiness(
    image: Image,
    members: Sequence[Member],
    *,
    case: str,
    output: Output,
    options: Options,
    previous: Earlier | None = None,
) -> np.ndarray:
    """Return the signs of `images.steadiness` of each voice: the k-th fold of every member, averaged by their weights.

    Each network sees the scan nine times, in windows side by side and never mirrored: with windows that overlap by half
    that is about one pass more in 3D, and less where passes are mirrored.

    Args:
        image: A corrected scan in its own geometry.
        members: With their weights and folds.
        case: For messages.
        output: What the logits are.
        options: How to predict.
        previous: What earlier stages said, where a member is a second stage.

    Returns:
        Float64, (voices, structures, signs). Members that work on regions of interest say nothing: there is no whole
        scan that they would see again. Where no other is left, all are zero.

    Raises:
        UserError: A network gave values that are not finite.
    """
    count = max(len(member.networks) for member in members)
    prepared: dict[str, PreprocessedCase] = {}
    found: list[np.ndarray] = []
    weights: list[float] = []
    for member in members:
        if member.configuration.regions is not None:
            continue
        key = member.configuration.data_key
        if key not in prepared:
            prepared[key] = preprocessing.prepare(image, None, member.configuration, case=case)
        array = network_input(prepared[key], member, previous or {})
        own = [_of_network(array, member, place, case, output, options) for place in range(len(member.networks))]
        found.append(np.stack([own[place % len(own)] for place in range(count)]))
        weights.append(_weight(member, output))
    if not found:
        classes = members[0].configuration.architecture.output_channels - (output == "softmax")
        return np.zeros((count, classes, 2 * len(STEADINESS)))
    return np.asarray(np.average(found, axis=0, weights=weights))


def _weight(member: Member, output: Output) -> float:
    """Return what a member counts, over the structures where each has weights of its own."""
    if isinstance(member.weight, float):
        return member.weight
    return float(np.mean(member.weight[1 if output == "softmax" else 0 :]))


def _of_network(
    array: np.ndarray, member: Member, place: int, case: str, output: Output, options: Options
) -> np.ndarray:
    alone = replace(member, networks=(member.networks[place],), keys=(member.keys[place],))
    quick = replace(options, mirror=False, step_fraction=1.0)
    setting = on_device(setting_of(alone, quick), options.device)
    sides = member.configuration.sides

    def predict(image: np.ndarray) -> np.ndarray:
        try:
            logits = sliding_window.whole(setting, sliding_window.as_tensor(image))[0].numpy()
        except UserError as error:
            raise error.in_case(case) from None
        if sides is not None and sides.handling == "merge_split":
            logits = split_by_side(logits, sides)
        return to_probabilities(logits, output)

    seen = _scanned(member)
    return steadiness_of(array, predict, seen=seen, output=output)


def _scanned(member: Member) -> int:
    """Return how many input channels are of the scanner; behind them a cascade has the first stage's structures."""
    architecture = member.configuration.architecture
    if member.configuration.previous is None:
        return architecture.input_channels
    return architecture.input_channels - (architecture.output_channels - 1)
