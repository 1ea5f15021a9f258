"""Six pairs of masks in 10 x 10 x 10 voxels of 1 mm, small enough to work out every figure on paper.

Surfels. The surface is sampled at the corners where voxels meet. A cube of n voxels a side has, on its surface,
6 (n-1)^2 corners inside faces (area 1 each), 12 (n-1) on edges (1/sqrt 2) and 8 at its corners (sqrt 3 / 8).
"""

from __future__ import annotations

import math

import numpy as np

NAN, INF = math.nan, math.inf
EDGE, CORNER = math.sqrt(0.5), math.sqrt(3) / 8
CUBE_4 = 54 + 36 * EDGE + 8 * CORNER
CUBE_2 = 6 + 12 * EDGE + 8 * CORNER
# A bar of 2 x 2 x 5: 2 + 16 corners inside its faces, 16 + 8 on its edges, 8 at its corners.
BAR = 18 + 24 * EDGE + 8 * CORNER
DIAGONAL = math.sqrt(300)


def box(z: tuple[int, int], y: tuple[int, int], x: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((10, 10, 10), bool)
    mask[slice(*z), slice(*y), slice(*x)] = True
    return mask


CUBE = box((2, 6), (2, 6), (2, 6))
EMPTY = np.zeros_like(CUBE)
PAIRS = {
    "the same cube": (CUBE, CUBE),
    "moved by one voxel along x": (CUBE, box((2, 6), (2, 6), (3, 7))),
    "a hole of 2 x 2 x 2 inside": (CUBE, CUBE & ~box((3, 5), (3, 5), (3, 5))),
    "missed": (CUBE, EMPTY),
    "spurious": (EMPTY, CUBE),
    "two lesions in one piece": (
        box((1, 3), (1, 3), (1, 3)) | box((1, 3), (1, 3), (4, 6)),
        box((1, 3), (1, 3), (1, 6)),
    ),
}

# Moved: the whole side that was left behind (9 faces, 12 edges, 4 corners) is 1 mm off, and so are the 9 faces of the
# side that now lies inside; from the other mask it is the same.
MOVED = 18 + 12 * EDGE + 4 * CORNER
# A hole: its whole surface is 1 mm away from the outer one.
HOLE_SHARE = CUBE_2 / (2 * CUBE_4 + CUBE_2)
# Two lesions: the two faces in the gap have a middle that is 1 mm away from the bar's surface: 2 of 32.4 mm2, 6.2 %.
GAP_SHARE = 2 / (2 * CUBE_2 + BAR)

FAILED = {
    "dice": 0,
    "iou": 0,
    "precision": 0,
    "recall": 0,
    "specificity": 0,
    "surface_dice": 0,
    "hd95_mm": INF,
    "hd_mm": INF,
    "assd_mm": INF,
    "slice_dice": 0,
    "gi_tract_score": 0,
    "lesion_f1": 0,
    "lesion_sensitivity": 0,
    "lesion_precision": 0,
    "lesion_dice": 0,
    "panoptic_quality": 0,
    "segmentation_quality": 0,
    "recognition_quality": 0,
}
ONE_FOUND = {
    "lesion_f1": 1,
    "lesion_sensitivity": 1,
    "lesion_precision": 1,
    "recognition_quality": 1,
    "lesions": 1,
    "lesions_found": 1,
    "lesion_false_positives": 0,
    "small_lesions": 1,  # a ball of 64 mm3 is 5 mm wide
    "small_lesions_found": 1,
    "small_lesion_false_positives": 0,
}

# Surface Dice at 0.5 mm: what is 1 mm off does not agree.
BY_HAND: dict[str, dict[str, float]] = {
    "the same cube": ONE_FOUND
    | {
        "dice": 1,
        "iou": 1,
        "precision": 1,
        "recall": 1,
        "specificity": 1,
        "surface_dice": 1,
        "hd95_mm": 0,
        "hd_mm": 0,
        "assd_mm": 0,
        "slice_dice": 1,
        "added_path_mm": 0,
        "gi_tract_score": 1,
        "lesion_dice": 1,
        "panoptic_quality": 1,
        "segmentation_quality": 1,
        "truth_ml": 0.064,
        "predicted_ml": 0.064,
        "volume_difference_ml": 0,
    },
    "moved by one voxel along x": ONE_FOUND
    | {
        "dice": 0.75,  # 48 of 64 and 64
        "iou": 48 / 80,
        "precision": 0.75,
        "recall": 0.75,
        "specificity": 920 / 936,  # 16 of the 1000 - 64 voxels outside
        "surface_dice": 1 - MOVED / CUBE_4,
        "hd95_mm": 1,
        "hd_mm": 1,
        "assd_mm": MOVED / CUBE_4,
        "slice_dice": 0.75,
        "added_path_mm": 4 * 6,  # in each slice the 4 pixels left behind, and 2 that now lie inside
        "gi_tract_score": 0.4 * 0.75 + 0.6 * (1 - 1 / DIAGONAL),
        "lesion_dice": 0.75,
        "panoptic_quality": 0.6,
        "segmentation_quality": 0.6,
        "truth_ml": 0.064,
        "predicted_ml": 0.064,
        "volume_difference_ml": 0,
    },
    "a hole of 2 x 2 x 2 inside": ONE_FOUND
    | {
        "dice": 112 / 120,
        "iou": 56 / 64,
        "precision": 1,
        "recall": 56 / 64,
        "specificity": 1,
        "surface_dice": 1 - HOLE_SHARE,
        "hd95_mm": 1,  # the hole's surface is a sixth of the prediction's
        "hd_mm": 1,
        "assd_mm": HOLE_SHARE,
        "slice_dice": (1 + 24 / 28 + 24 / 28 + 1) / 4,
        "added_path_mm": 0,
        "gi_tract_score": 0.4 * (1 + 24 / 28) / 2 + 0.6 * (1 - 1 / DIAGONAL),
        "lesion_dice": 112 / 120,
        "panoptic_quality": 56 / 64,
        "segmentation_quality": 56 / 64,
        "truth_ml": 0.064,
        "predicted_ml": 0.056,
        "volume_difference_ml": -0.008,
    },
    "missed": FAILED
    | {
        "added_path_mm": 4 * 12,  # the whole contour
        "truth_ml": 0.064,
        "predicted_ml": 0,
        "volume_difference_ml": -0.064,
        "lesions": 1,
        "lesions_found": 0,
        "lesion_false_positives": 0,
        "small_lesions": 1,
        "small_lesions_found": 0,
        "small_lesion_false_positives": 0,
    },
    "spurious": FAILED
    | {
        "added_path_mm": 0,  # there is nothing to draw
        "truth_ml": 0,
        "predicted_ml": 0.064,
        "volume_difference_ml": 0.064,
        "lesions": 0,
        "lesions_found": 0,
        "lesion_false_positives": 1,
        "small_lesions": 0,
        "small_lesions_found": 0,
        "small_lesion_false_positives": 1,
    },
    "two lesions in one piece": {
        "dice": 32 / 36,
        "iou": 16 / 20,
        "precision": 16 / 20,
        "recall": 1,
        "specificity": 980 / 984,
        "surface_dice": 1 - GAP_SHARE,
        "hd95_mm": 1,
        "hd_mm": 1,
        "assd_mm": GAP_SHARE,
        "slice_dice": 16 / 18,
        "added_path_mm": 0,
        "gi_tract_score": 0.4 * 16 / 18 + 0.6 * (1 - 1 / DIAGONAL),
        "lesion_f1": 1,
        "lesion_sensitivity": 1,
        "lesion_precision": 1,
        "lesion_dice": 16 / 28,  # each lesion against the whole bar
        "panoptic_quality": 8 / 20 / 1.5,
        "segmentation_quality": 8 / 20,
        "recognition_quality": 1 / 1.5,
        "truth_ml": 0.016,
        "predicted_ml": 0.020,
        "volume_difference_ml": 0.004,
        "lesions": 2,
        "lesions_found": 2,
        "lesion_false_positives": 0,
        "small_lesions": 2,
        "small_lesions_found": 2,
        "small_lesion_false_positives": 0,
    },
}
