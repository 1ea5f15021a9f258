"""The probability of every structure (or region) as a volume of its own, `<case>_liver.nii.gz`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autoseg.images import files
from autoseg.records.labels import Labels
from autoseg.records.volumes import Prediction
from autoseg.stages.predicting.outputs.segmentation import file_names


def write_probabilities(folder: Path, prediction: Prediction, labels: Labels, *, description: str) -> list[Path]:
    """Write a float32 volume a structure; the background is what the others leave. One at a time is in memory."""
    if prediction.probabilities is None:
        return []
    names = file_names(labels)
    first = 0 if labels.regions else 1
    written = []
    for channel, (name, _) in enumerate(labels.targets, start=first):
        path = folder / f"{prediction.case}_{names[name]}.nii.gz"
        volume = np.asarray(prediction.probabilities[channel], np.float32)
        files.write_volume(path, volume, prediction.labels.grid, description=description)
        written.append(path)
    return written
