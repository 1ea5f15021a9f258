"""Scores as tables: a row a case and structure, and a row a lesion."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from autoseg.records.metrics import NAMES
from autoseg.records.results import Evaluation
from autoseg.workspace import writing

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
