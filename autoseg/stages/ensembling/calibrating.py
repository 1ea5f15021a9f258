"""One temperature for the members' logits, so that a voxel said to be 80 % sure is right 8 times in 10.

Each member's logits are divided by the temperature before the members are averaged. It is fitted out of fold: a case
was then seen by one fold of each member, and so does the prediction of doubt look at one fold at a time.

Source: Guo et al. 2017 (temperature scaling; expected calibration error).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from autoseg.records.choice import EnsembleChoice
from autoseg.records.labels import Labels
from autoseg.records.temperature import ReliabilityBin, TemperatureFit
from autoseg.stages.ensembling.counting import CaseReader, HeldOut, TruthReader, undecided

VOXELS_A_CASE = 4000
TEMPERATURES = (0.2, 5.0)
BINS = 15
# Eight bits hold nothing below half a step.
LEAST = 0.5 / 255


@dataclass(frozen=True)
class Sample:
    """Voxels of one case: probabilities (members, K, n) and what was drawn there: (n,) values, or (K, n) regions."""

    parts: np.ndarray
    drawn: np.ndarray


def calibrate(
    choice: EnsembleChoice,
    cases: Sequence[HeldOut],
    labels: Labels,
    *,
    probabilities: CaseReader,
    truth: TruthReader,
    seed: int = 0,
) -> TemperatureFit | None:
    """Return the temperature of a choice, or None where no case was annotated in full.

    Args:
        choice: Whose members.
        cases: That all members predicted out of fold.
        labels: What is segmented.
        probabilities: (candidate, case) -> uint8 (K, Z, Y, X).
        truth: Case -> its truth on the same grid.
        seed: Of the draw of voxels.
    """
    whole = [case for case in cases if case.annotated is None]
    samples = list(_samples(choice, whole, labels, probabilities=probabilities, truth=truth, seed=seed))
    if not samples:
        return None
    weights = np.array(choice.class_weights or choice.weights)

    def loss(log_temperature: float) -> float:
        return nll(samples, weights, float(np.exp(log_temperature)), regions=bool(labels.regions))

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-3})
    temperature = float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0
    before, after = (reliability(samples, weights, at, regions=bool(labels.regions)) for at in (1.0, temperature))
    return TemperatureFit(
        temperature=temperature,
        nll_before=loss(0.0),
        nll_after=loss(float(np.log(temperature))),
        error_before=calibration_error(before),
        error_after=calibration_error(after),
        bins_before=before,
        bins_after=after,
        cases=len(samples),
        voxels=sum(sample.parts.shape[-1] for sample in samples),
    )


def _samples(
    choice: EnsembleChoice,
    cases: Iterable[HeldOut],
    labels: Labels,
    *,
    probabilities: CaseReader,
    truth: TruthReader,
    seed: int,
) -> Iterator[Sample]:
    for case in cases:
        drawn = truth(case.id).array
        found = undecided(drawn, [probabilities(name, case.id) for name in choice.members], labels)
        known = np.arange(len(found.truth))
        if labels.ignore_value is not None:
            known = np.flatnonzero(found.truth != labels.ignore_value)
        if not known.size:
            continue
        rng = np.random.default_rng([seed, zlib.crc32(case.id.encode())])
        taken = np.sort(rng.permutation(known)[:VOXELS_A_CASE])
        values = found.truth[taken].astype(np.int64)
        if labels.regions:
            values = np.stack([np.isin(values, inside) for _, inside in labels.targets])
        yield Sample(np.stack([part[:, taken] for part in found.parts]), values)


def tempered(parts: np.ndarray, weights: np.ndarray, temperature: float, *, regions: bool) -> np.ndarray:
    """Return the members' mean (K, n) after dividing their logits by the temperature.

    Args:
        parts: uint8 probabilities, (members, K, n).
        weights: (members,), adding up to 1, or (members, K), each channel adding up to 1.
        temperature: Above 0.
        regions: Whether channels are sigmoids of their own rather than one softmax.
    """
    share = np.clip(parts / 255.0, LEAST, 1 - LEAST)
    powered = share ** (1 / temperature)
    total = powered + (1 - share) ** (1 / temperature) if regions else powered.sum(axis=1, keepdims=True)
    mean: np.ndarray = np.einsum("mk,mkn->kn", np.broadcast_to(weights.reshape(len(parts), -1), parts.shape[:2]),
                                 powered / total)  # fmt: skip
    return mean if regions or weights.ndim == 1 else mean / mean.sum(axis=0)


def nll(samples: Sequence[Sample], weights: np.ndarray, temperature: float, *, regions: bool) -> float:
    """Return the mean negative log-likelihood of what was drawn, in nats a voxel (a voxel and region)."""
    total, count = 0.0, 0
    for sample in samples:
        mean = tempered(sample.parts, weights, temperature, regions=regions)
        right = np.where(sample.drawn, mean, 1 - mean) if regions else _of_drawn(mean, sample.drawn)
        total -= float(np.log(right).sum())
        count += right.size
    return total / count


def reliability(
    samples: Sequence[Sample], weights: np.ndarray, temperature: float, *, regions: bool
) -> tuple[ReliabilityBin, ...]:
    """Return confidence and accuracy of the likeliest class (of every region) in equal bins of confidence."""
    sums = np.zeros((3, BINS))  # voxels, confidence, hits
    for sample in samples:
        mean = tempered(sample.parts, weights, temperature, regions=regions)
        confidence = np.maximum(mean, 1 - mean).ravel() if regions else mean.max(axis=0)
        hits = ((mean > 0.5) == sample.drawn).ravel() if regions else mean.argmax(axis=0) == sample.drawn
        place = np.minimum((confidence * BINS).astype(int), BINS - 1)
        for row, values in enumerate((np.ones_like(confidence), confidence, hits)):
            sums[row] += np.bincount(place, weights=values, minlength=BINS)
    return tuple(
        ReliabilityBin(confidence=float(total / count), accuracy=float(hit / count), voxels=int(count))
        for count, total, hit in sums.T
        if count
    )


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Return the expected calibration error: the mean distance of confidence and accuracy, weighted by voxels."""
    away = sum(item.voxels * abs(item.confidence - item.accuracy) for item in bins)
    return float(away / sum(item.voxels for item in bins))


def _of_drawn(mean: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    return np.take_along_axis(mean, drawn[None], axis=0)[0]
