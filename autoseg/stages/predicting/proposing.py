"""What a first stage proposes to a second one: on new scans, and out of fold on those that the second trains on."""

from __future__ import annotations

import hashlib
import logging
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from autoseg.images import proposals
from autoseg.images.fields import Field
from autoseg.images.proposals import LEVELS, Counted, Foreground
from autoseg.images.store import read_array
from autoseg.networks.sweep import sweep_axis
from autoseg.records.configuration import Configuration, Regions
from autoseg.records.errors import UsageError, UserError
from autoseg.records.geometry import Box
from autoseg.records.markers import StoredField
from autoseg.records.model import ModelId
from autoseg.records.plan import Plan
from autoseg.records.proposals import ProposalChoice, ProposalPoint
from autoseg.records.volumes import CaseRegions
from autoseg.stages import preprocessing
from autoseg.stages.predicting.cascade import first_stage, fold_folder
from autoseg.storage import read_record, write_record, writing
from autoseg.workspace import Workspace

log = logging.getLogger(__name__)

ARRAYS = ("lesions", "held", "boxes", "level", "empty", "region_fraction")
FILE = "proposals.json"
ROWS_AT_ONCE = 8


def foreground_of(field: Field, output: str, *, memory_bytes: float = math.inf) -> Foreground:
    """Return the probability of any structure from a field's logits, read row by row.

    Args:
        field: Of a first stage, an array or a source.
        output: `softmax` or `sigmoid`.
        memory_bytes: Bound of what a source holds while it is read; it is read in tiles where that is not enough.

    Raises:
        UserError: The network gave values that are not finite.
    """
    array = field.array
    shape = array.shape[1:]
    levels = np.empty(shape, np.uint8)
    if isinstance(array, np.ndarray):
        levels[:] = _levels(torch.from_numpy(array), output)
        return Foreground(levels, field.passage, output)
    axis = sweep_axis(shape, [max(1, depth) for depth in array.depth])
    for tile in _tiles(shape, axis, array.bytes_held(axis, shape) / memory_bytes):
        rows, view = array.open(axis, tile), levels[tile.slices()]
        place: list[slice] = [slice(None)] * 3
        for start in range(0, shape[axis], ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, shape[axis])
            place[axis] = slice(start, stop)
            view[tuple(place)] = _levels(rows.read(start, stop), output)
    return Foreground(levels, field.passage, output)


def _tiles(shape: Sequence[int], axis: int, parts: float) -> Iterator[Box]:
    """Yield boxes that are whole along `axis` and cut another axis, the longest, into so many parts."""
    across = max((other for other in range(3) if other != axis), key=lambda other: shape[other])
    count = min(max(1, math.ceil(parts)), shape[across])
    for number in range(count):
        low, high = [0, 0, 0], list(shape)
        low[across], high[across] = (shape[across] * edge // count for edge in (number, number + 1))
        yield Box(start=(low[0], low[1], low[2]), stop=(high[0], high[1], high[2]))


def _levels(logits: torch.Tensor, output: str) -> np.ndarray:
    """Return uint8 (Z, Y, X): 1 less the probability of background, or the likeliest region's, as they are stored."""
    if output == "sigmoid":
        found = torch.sigmoid(logits.float()).amax(dim=0) * LEVELS
    else:
        found = LEVELS - torch.round(torch.softmax(logits.float(), dim=0)[0] * LEVELS)
    return torch.round(found).to(torch.uint8).cpu().numpy()


def stored_foreground(folder: Path, case: str, output: str) -> Foreground:
    """Return the same of a case that a first stage never saw, from its stored probabilities."""
    marker = read_record(folder / f"{case}.json", StoredField, missing="Predict the held-out cases again.")
    kept = read_array(folder / f"{case}.b2nd")
    levels = kept.max(axis=0) if output == "sigmoid" else LEVELS - kept[0]
    return Foreground(levels, marker.passage, output)


def chosen_regions(
    work: Workspace, plan: Plan, model: ModelId, cases: Sequence[str]
) -> tuple[Regions | None, dict[str, CaseRegions]]:
    """Return where a fold of a second stage works, and where its windows lie in its training cases.

    A first stage's predictions of these cases, by folds that had not trained on them, give proposals at several
    probabilities. The highest one whose regions hold enough of the lesions is taken, by these cases alone: the fold's
    held-out ones have no say. All of it is kept: `proposals/` beside the folds, `proposals.json` in the fold's folder.

    Args:
        work: Where the models lie.
        plan: Whose models.
        model: Fold of the second stage.
        cases: The fold's training cases.

    Returns:
        None and {} where the configuration does not work on regions.

    Raises:
        UsageError: The first stage has not predicted a case yet; the message says which command trains it.
    """
    configuration = plan.configuration(model.configuration)
    if configuration.regions is None:
        return None, {}
    counted, keys, weights = {}, {}, {}
    for case in cases:
        source, marker = _out_of_fold(work, configuration, model, case)
        keys[case] = _key(work, configuration, case, marker)
        weights[case] = marker.inputs_digest
        counted[case] = _counted(work, plan, model, case, source=source, key=keys[case])
    choice = _choose(configuration, model, counted, weights, digest=_joined(keys.values()))
    if not (work.model(model) / "run.json").exists():  # else it is that run's own, by which a stale one is known
        write_record(work.model(model) / FILE, choice)
        _tell(model, choice)
    index = choice.points.index(choice.chosen)
    found = {"threshold": choice.chosen.threshold, "proposals_digest": choice.digest()}
    return configuration.regions.model_copy(update=found), {case: item.at(index) for case, item in counted.items()}


def _tell(model: ModelId, choice: ProposalChoice) -> None:
    chosen = choice.chosen
    enough = chosen.sensitivity >= choice.wanted_sensitivity
    log.log(
        logging.INFO if enough else logging.WARNING,
        "%s: regions hold %.1f %% of %d lesions at a probability of %.3f%s; %.1f proposals a case, %.1f of them empty",
        model.key(),
        100 * chosen.sensitivity,
        choice.lesions,
        chosen.threshold,
        "" if enough else f", fewer than the {choice.wanted_sensitivity:.0%} wanted",
        chosen.proposals_per_case,
        chosen.empty_per_case,
    )


def proposals_changed(work: Workspace, plan: Plan, model: ModelId) -> bool:
    """Return whether a first stage speaks otherwise now than when a fold of its second stage was trained."""
    configuration = plan.configuration(model.configuration)
    if configuration.regions is None:
        return False
    try:
        known = read_record(work.model(model) / FILE, ProposalChoice)
        now = {case: _out_of_fold(work, configuration, model, case)[1].inputs_digest for case in known.weights}
    except UserError:
        return True
    return now != known.weights


def _out_of_fold(work: Workspace, configuration: Configuration, model: ModelId, case: str) -> tuple[Path, StoredField]:
    """Return the folder of the first stage's prediction of a case that it never saw, and what stands beside it."""
    stage = first_stage(model, configuration)
    assert stage is not None
    source = fold_folder(work, work.dataset(), stage, case) / "held_out"
    if not (source / f"{case}.json").exists():
        raise UsageError(
            f"{configuration.name} trains on what {stage.configuration} proposes out of fold, and {case} has none",
            fix=f"Train {stage.configuration} in every fold first: `{_command(work, stage)}`.",
            code="missing_stage",
        )
    return source, read_record(source / f"{case}.json", StoredField)


def _command(work: Workspace, stage: ModelId) -> str:
    words = ["autoseg", "train", "-d", work.name, "-c", stage.configuration]
    words += [] if stage.plan == "default" else ["--plan", stage.plan]
    words += [] if stage.variant == "base" else ["--variant", stage.variant]
    words += [] if stage.seed == 0 else ["--seed", str(stage.seed)]
    return shlex.join(words)


def _key(work: Workspace, configuration: Configuration, case: str, marker: StoredField) -> str:
    """Return a digest of all that the proposals of a case follow from."""
    assert configuration.regions is not None
    cases = preprocessing.cases_digest(work.preprocessed(configuration.data_key), [case])
    said = marker.model_copy(update={"seconds": 0.0}).digest()
    return _joined([cases, said, str(configuration.regions.margin_mm), str(proposals.CANDIDATES)])


def _joined(parts: object) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]  # type: ignore[arg-type]


def _counted(work: Workspace, plan: Plan, model: ModelId, case: str, *, source: Path, key: str) -> Counted:
    """Return the proposals of a case, which are kept for the other folds."""
    file = work.model(model).parent / "proposals" / f"{case}.npz"
    known = _read(file, key)
    if known is not None:
        return known
    configuration = plan.configuration(model.configuration)
    assert configuration.regions is not None
    seen = preprocessing.open_case(work.preprocessed(configuration.data_key), case)
    structures = len(plan.labels.structures)
    lesions = np.zeros(seen.passage.network.shape, bool)
    if seen.labels is not None:
        values = np.asarray(seen.labels[:])
        lesions = (values > 0) & (values <= structures)
    foreground = stored_foreground(source, case, plan.labels.output)
    found = proposals.count(foreground, lesions, seen.passage, margin_mm=configuration.regions.margin_mm)
    with writing(file) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, key=np.array(key), **{name: getattr(found, name) for name in ARRAYS})
    return found


def _read(file: Path, key: str) -> Counted | None:
    """Return what was kept, unless it follows from something else or is damaged: then it is made again."""
    try:
        # Opened here: of a damaged archive `np.load` would leave the file open.
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            if str(stored["key"]) == key:
                return Counted(**{name: stored[name] for name in ARRAYS})
    except Exception:  # NumPy reports damage by many kinds of exception
        return None
    return None


def _choose(
    configuration: Configuration,
    model: ModelId,
    counted: Mapping[str, Counted],
    weights: Mapping[str, str],
    *,
    digest: str,
) -> ProposalChoice:
    assert configuration.regions is not None
    wanted = configuration.regions.sensitivity
    points = tuple(_point(index, list(counted.values())) for index in range(len(proposals.CANDIDATES)))
    enough = [point for point in points if point.sensitivity >= wanted]
    # Without a lesion every comparison fails, and the highest probability costs the least.
    best = max(enough or points, key=lambda point: (0.0 if enough else _known(point.sensitivity), point.threshold))
    return ProposalChoice(
        stage=model.model_copy(update={"configuration": configuration.regions.configuration}).candidate(),
        cases=len(counted),
        lesions=sum(len(item.lesions) for item in counted.values()),
        wanted_sensitivity=wanted,
        chosen=best,
        points=points,
        weights=dict(weights),
        inputs_digest=digest,
    )


def _known(sensitivity: float) -> float:
    return sensitivity if sensitivity == sensitivity else 0.0


def _point(index: int, counted: Sequence[Counted]) -> ProposalPoint:
    held = np.concatenate([item.held[index] for item in counted])
    here = [item.at(index) for item in counted]
    return ProposalPoint(
        threshold=proposals.CANDIDATES[index] / LEVELS,
        sensitivity=float(held.mean()) if held.size else float("nan"),
        proposals_per_case=float(np.mean([len(item.proposals) for item in here])),
        empty_per_case=float(np.mean([item.empty_at(index) for item in counted])),
        region_fraction=float(np.mean([item.region_fraction[index] for item in counted])),
    )
