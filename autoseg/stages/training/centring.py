"""Where the windows of a second stage lie: on lesions, and on what a first stage took for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.records.geometry import Shape
from autoseg.records.volumes import CaseRegions


@dataclass(frozen=True)
class Centres:
    """On what windows are centred, as shares of all; the rest is centred on any proposal.

    Attributes:
        lesion_fraction: On a lesion, each as likely however small.
        rejection_fraction: On a proposal, of whatever probability, that holds no lesion.
        jitter_fraction: Centres are moved by up to this share of the window along each axis.
    """

    lesion_fraction: float
    rejection_fraction: float
    jitter_fraction: float


def centred(rng: np.random.Generator, regions: CaseRegions, centres: Centres, patch: Shape) -> Shape | None:
    """Return the first voxel of a window that is drawn by the shares; it may lie outside of the image.

    Where a case has none of what was drawn, another kind of centre is taken; None where it has nothing at all.
    """
    luck = float(rng.random())
    lesions, rejections, every = regions.lesions, regions.rejections, regions.proposals
    order: Sequence[np.ndarray] = (every, lesions)
    if luck < centres.lesion_fraction:
        order = (lesions, every)
    elif luck < centres.lesion_fraction + centres.rejection_fraction:
        order = (rejections, every, lesions)
    boxes = next((item for item in order if len(item)), None)
    if boxes is None:
        return None
    low, high = boxes[int(rng.integers(len(boxes)))]
    # What is larger than a window is seen in all of its parts, as in prediction.
    reach = np.maximum(centres.jitter_fraction * np.array(patch), (high - low - np.array(patch)) / 2)
    middle = (low + high) / 2 + rng.uniform(-1, 1, 3) * reach
    z, y, x = (int(np.floor(m)) - p // 2 for m, p in zip(middle, patch, strict=True))
    return (z, y, x)
