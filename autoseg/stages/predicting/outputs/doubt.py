"""What a prediction's doubt is written as: a record of its quality, and maps of entropy and disagreement."""

from __future__ import annotations

from pathlib import Path

from autoseg.images import files
from autoseg.records.quality import PredictedQuality
from autoseg.records.volumes import Prediction
from autoseg.storage import write_record


def quality_of(prediction: Prediction) -> PredictedQuality:
    """Return how good a prediction is thought to be, and how unlike the training its scan is."""
    return PredictedQuality(case=prediction.case, scores=prediction.quality, unlikeness=prediction.unlikeness)


def write_doubt(folder: Path, prediction: Prediction, *, description: str) -> list[Path]:
    """Write `<case>_quality.json`, `<case>_entropy.nii.gz` and `<case>_disagreement.nii.gz`, and return their paths.

    Nothing is written of a prediction whose doubt nobody asked for.

    Args:
        folder: Where they lie.
        prediction: Of one case.
        description: For the maps' headers.
    """
    if prediction.doubt is None:
        return []
    written = [folder / f"{prediction.case}_quality.json"]
    write_record(written[0], quality_of(prediction))
    maps = {"entropy": prediction.doubt.entropy, "disagreement": prediction.doubt.disagreement}
    for name, array in maps.items():
        file = folder / f"{prediction.case}_{name}.nii.gz"
        files.write_volume(file, array, prediction.labels.grid, description=description)
        written.append(file)
    return written
