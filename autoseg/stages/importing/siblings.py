"""Siblings told from images: consecutive numbers whose data type and intensities are nearly the same.

In the Decathlon's hippocampus set the ids 2k-1 and 2k are two sides of one head. Of its pairs all agree in this
measure, of pairs drawn at random 18 %.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.records.dataset import Case, FileSource
from autoseg.records.errors import UserError
from autoseg.stages.importing.arithmetic import evaluate, number_in
from autoseg.stages.importing.draft import Grouping

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MOST_BYTES = 128_000_000
MOST_SCANS = 400
MOST_VOXELS = 20_000
LONGEST_RUN = 8
TOLERANCE_FRACTION = 0.1
FEWEST_PAIRS = 6
LOWEST_RATE = 0.6
RULES = {1: "(id+1)//2", 0: "id//2"}  # by the parity of a pair's first number


@dataclass(frozen=True)
class ScanFacts:
    """What siblings share: the data type of the file and the quantiles of the first channel."""

    dtype: str
    quantiles: tuple[float, ...]


def measure_scans(cases: Sequence[Case]) -> dict[str, ScanFacts]:
    """Return facts of the cases that have a neighbour in number, until a budget of bytes is spent.

    A scan that cannot be read is passed over: the check names it.
    """
    facts: dict[str, ScanFacts] = {}
    spent = 0
    for case in _spread(_with_neighbours(cases)):
        source = _first_file(case)
        if source is None:
            continue
        try:
            size = Path(source.path).stat().st_size
            if spent + size > MOST_BYTES:
                break
            spent += size
            facts[case.id] = _measure(source)
        except (OSError, UserError):
            continue
    return facts


def guess_from_images(ids: Sequence[str], facts: Mapping[str, ScanFacts]) -> Grouping | None:
    """Return pairs by number when most pairs (2k-1, 2k), or (2k, 2k+1), look alike and others do not."""
    numbers = _numbers(ids)
    if numbers is None:
        return None
    measured = {number: facts[id] for number, id in numbers.items() if id in facts}
    pairs = {parity: [(n, n + 1) for n in measured if n % 2 == parity and n + 1 in measured] for parity in (0, 1)}
    rates = {parity: _rate(measured, pairs[parity]) for parity in (0, 1)}
    chance = _rate(measured, _strangers(sorted(measured)))
    parity = max(rates, key=lambda p: (rates[p], p))
    clear = rates[parity] >= LOWEST_RATE and rates[parity] >= 2 * max(rates[1 - parity], chance)
    if len(pairs[parity]) < FEWEST_PAIRS or not clear:
        return None
    rule = RULES[parity]
    groups = {id: str(evaluate(rule, number)) for number, id in numbers.items()}
    count = len(set(groups.values()))
    how = (
        f"Guessed: {len(ids)} cases are {count} patients, group = {rule}: {rates[parity]:.0%} of {len(pairs[parity])} "
        f"such pairs of numbers have nearly the same intensities, and {chance:.0%} of pairs at random. "
        "Confirm, or say otherwise with --groups."
    )
    return Grouping({id: groups[id] for id in ids}, how, rates[parity])


def alike(one: ScanFacts, other: ScanFacts) -> bool:
    """Return whether two scans have one data type and, in the median quantile, intensities within 10 %."""
    if one.dtype != other.dtype:
        return False
    first, second = np.asarray(one.quantiles), np.asarray(other.quantiles)
    size = np.maximum(np.abs(first), np.abs(second))
    # Near zero a relative difference says nothing, so it is taken of at least 5 % of the largest quantile.
    floor = max(0.05 * float(size.max()), np.finfo(np.float64).tiny)
    return bool(np.median(np.abs(first - second) / np.maximum(size, floor)) < TOLERANCE_FRACTION)


def _numbers(ids: Sequence[str]) -> dict[int, str] | None:
    """Return number -> id when every id holds a number of its own."""
    try:
        numbers = {number_in(id): id for id in ids}
    except UserError:
        return None
    return numbers if len(numbers) == len(ids) else None


def _with_neighbours(cases: Sequence[Case]) -> list[list[Case]]:
    """Return the cases that have a neighbour in number, in runs of consecutive numbers."""
    numbers = _numbers([case.id for case in cases])
    if numbers is None:
        return []
    by_id = {case.id: case for case in cases}
    paired = [number for number in sorted(numbers) if {number - 1, number + 1} & numbers.keys()]
    runs: list[list[Case]] = []
    for place, number in enumerate(paired):
        if not place or number != paired[place - 1] + 1 or len(runs[-1]) >= LONGEST_RUN:
            runs.append([])
        runs[-1].append(by_id[numbers[number]])
    return runs


def _spread(runs: Sequence[Sequence[Case]]) -> list[Case]:
    """Return at most `MOST_SCANS` cases out of runs that lie evenly over the data set."""
    order = sorted(range(len(runs)), key=lambda index: (_bit_reversed(index), index))
    return [case for index in order for case in runs[index]][:MOST_SCANS]


def _bit_reversed(index: int) -> float:
    """Van der Corput's sequence: every beginning of it is spread evenly."""
    value, part = 0.0, 0.5
    while index:
        value, index, part = value + part * (index & 1), index >> 1, part / 2
    return value


def _first_file(case: Case) -> FileSource | None:
    return next((source for source in case.images.values() if isinstance(source, FileSource)), None)


def _measure(source: FileSource) -> ScanFacts:
    from autoseg.images.files import read_header, read_volume

    array, _ = read_volume(Path(source.path), volume=source.volume)
    return facts_of(np.asarray(array), dtype=read_header(Path(source.path)).dtype)


def facts_of(array: np.ndarray, *, dtype: str) -> ScanFacts:
    """Return the facts of one channel's voxels; `dtype` is that of the file."""
    voxels = array.ravel()
    sample = voxels[:: max(1, voxels.size // MOST_VOXELS)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        sample = np.zeros(1)
    return ScanFacts(dtype=dtype, quantiles=tuple(float(value) for value in np.quantile(sample, QUANTILES)))


def _strangers(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return pairs of numbers far from one another: each with those a third and a half of the list away."""
    count = len(numbers)
    return [
        (numbers[index], numbers[(index + step) % count])
        for index in range(count)
        for step in (count // 3, count // 2)
        if count > 3
    ]


def _rate(facts: Mapping[int, ScanFacts], pairs: Sequence[tuple[int, int]]) -> float:
    verdicts = Counter(alike(facts[one], facts[other]) for one, other in pairs)
    return verdicts[True] / len(pairs) if pairs else 0.0
