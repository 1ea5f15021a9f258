"""Figures of `surface-distance` and `monai` for a folder of truths and predictions; runs where these are installed.

python peer_scoring.py FOLDER      FOLDER holds truth/ and predicted/; prints JSON
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np

VALUES, TOLERANCE_MM = (1, 2), 1.0


def pairs(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray, tuple[float, ...]]]:
    for file in sorted((folder / "truth").iterdir()):
        images = [nibabel.Nifti1Image.from_filename(folder / name / file.name) for name in ("truth", "predicted")]
        truth, predicted = (np.asarray(image.dataobj) for image in images)
        for value in VALUES:
            key = f"{file.name.removesuffix('.nii.gz')}/{value}"
            yield key, truth == value, predicted == value, images[0].header.get_zooms()[:3]


def by_surface_distance(folder: Path) -> dict[str, dict[str, float]]:
    import surface_distance as peer

    rows = {}
    for key, truth, predicted, spacing in pairs(folder):
        found = peer.compute_surface_distances(truth, predicted, spacing)
        areas = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
        forth, back = peer.compute_average_surface_distance(found)
        rows[key] = {
            "dice": float(peer.compute_dice_coefficient(truth, predicted)),
            "hd95_mm": float(peer.compute_robust_hausdorff(found, 95)),
            "surface_dice": float(peer.compute_surface_dice_at_tolerance(found, TOLERANCE_MM)),
            "assd_mm": float((forth * areas[0] + back * areas[1]) / sum(areas)),
        }
    return rows


def by_monai(folder: Path) -> dict[str, dict[str, float]]:
    import monai.metrics as peer
    import torch

    rows = {}
    for key, truth, predicted, spacing in pairs(folder):
        one, other = (torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (predicted, truth))
        counts = peer.get_confusion_matrix(one, other)
        distances = {"include_background": True, "spacing": [float(mm) for mm in spacing]}
        rows[key] = {
            "dice": float(peer.compute_dice(one, other)),
            "iou": float(peer.compute_iou(one, other)),
            "precision": float(peer.compute_confusion_matrix_metric("precision", counts)),
            "recall": float(peer.compute_confusion_matrix_metric("sensitivity", counts)),
            "specificity": float(peer.compute_confusion_matrix_metric("specificity", counts)),
            "hd95_mm": float(peer.compute_hausdorff_distance(one, other, percentile=95, **distances)),
            "surface_dice": float(peer.compute_surface_dice(one, other, [TOLERANCE_MM], **distances)),
            "assd_mm": float(peer.compute_average_surface_distance(one, other, symmetric=True, **distances)),
        }
    return rows


def main() -> None:
    warnings.simplefilter("ignore")
    folder, result = Path(sys.argv[1]), {}
    for name, function in (("surface_distance", by_surface_distance), ("monai", by_monai)):
        if name == "monai":
            pass
        else:
            import surface_distance  # noqa: F401
        start = time.perf_counter()
        rows = function(folder)
        result[name] = {"seconds": round(time.perf_counter() - start, 2), "figures": rows}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
