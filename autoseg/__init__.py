"""autoseg: self-configuring segmentation of medical images.

`from autoseg import Predictor` loads a model file and predicts arrays; it is imported only when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoseg.stages.predicting.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `Predictor` when it is first used: torch takes a second, and `autoseg --help` has no use for it."""
    if name == "Predictor":
        from autoseg.stages.predicting.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'autoseg' has no attribute {name!r}")
