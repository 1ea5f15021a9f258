"""Scores as tables: a row a case and structure, a row a lesion, a row a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from autoseg.records.evaluation import Evaluation
from autoseg.records.metrics import NAMES
from autoseg.stages.evaluating.comparing import CandidateRow, CandidateStructure, CandidateTable
from autoseg.stages.evaluating.ranking import RankedModel, Ranking
from autoseg.storage import writing

COLUMNS = ("case", "missing", "structure", *NAMES)
LESION_COLUMNS = ("case", "structure", "kind", "place", "x_mm", "y_mm", "z_mm", "volume_ml", "diameter_mm", "dice")


def frame(evaluation: Evaluation) -> pd.DataFrame:
    """Return one row a case and structure, in the order of the scores."""
    rows = [
        {"case": score.case, "missing": score.missing, "structure": item.structure} | item.figures()
        for score in evaluation.scores
        for item in score.structures
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def lesion_frame(evaluation: Evaluation) -> pd.DataFrame:
    """Return one row a lesion of the truth and a false positive; none where lesions were not counted."""
    rows = []
    for score in evaluation.scores:
        for item in score.structures:
            for lesion in item.lesions.details if item.lesions else ():
                at = dict(zip(("x_mm", "y_mm", "z_mm"), lesion.centre_mm, strict=True))
                rows.append({"case": score.case, "structure": item.structure} | lesion.model_dump() | at)
    return pd.DataFrame(rows, columns=list(LESION_COLUMNS))


def write_scores(path: Path, evaluation: Evaluation) -> None:
    """Write one row a case and structure as CSV; the file is there whole or not at all. nan and inf are written so.

    Raises:
        ResourceError: The file cannot be written.
    """
    write_table(path, frame(evaluation))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, whole or not at all; nan and inf are written so.

    Raises:
        ResourceError: The file cannot be written.
    """
    with writing(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", na_rep="nan", lineterminator="\n")


def comparison_frames(found: CandidateTable) -> dict[str, pd.DataFrame]:
    """Return a comparison as tables: "" the candidates, "_structures" the same by structure, "_ranks" the rankings.

    An interval becomes two columns, `<figure>_low` and `<figure>_high`; columns do not depend on what was found.
    """
    ranks = [
        {"metric": ranking.metric, "scheme": ranking.scheme, "model": model.name, "rank": model.rank}
        | {"value": model.value, "agreement": ranking.agreement}
        | {f"rank_{place}_share": share for place, share in enumerate(_shares(model, ranking), start=1)}
        for ranking in found.rankings
        for model in ranking.models
    ]
    everywhere = ("dice", "hd95_mm", "surface_dice", "gain")
    return {
        "": pd.DataFrame([_flat(row, (*everywhere, "precision", "recall")) for row in found.rows]),
        "_structures": pd.DataFrame([_flat(row, everywhere) for row in found.structures]),
        "_ranks": pd.DataFrame(ranks),
    }


def _shares(model: RankedModel, ranking: Ranking) -> Sequence[float]:
    return model.shares or [float("nan")] * len(ranking.models)


def _flat(row: CandidateRow | CandidateStructure, bounded: Sequence[str]) -> dict[str, object]:
    content = row.model_dump(exclude={"intervals"})
    for figure in bounded:
        low, high = row.intervals.get(figure, (float("nan"), float("nan")))
        content |= {f"{figure}_low": low, f"{figure}_high": high}
    return content
