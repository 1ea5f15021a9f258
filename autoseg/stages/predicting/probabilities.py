"""From logits to probabilities."""

from __future__ import annotations

import numpy as np


def to_probabilities(logits: np.ndarray, output: str) -> np.ndarray:
    """Return softmax over channels (or a sigmoid each) of float32 logits (K, Z, Y, X)."""
    if output == "sigmoid":
        return 1.0 / (1.0 + np.exp(-np.clip(logits, -60, 60)))
    shifted = np.exp(logits - logits.max(axis=0, keepdims=True))
    return shifted / shifted.sum(axis=0, keepdims=True)
