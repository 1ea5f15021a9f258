"""Records -> one HTML file that opens anywhere."""

from autoseg.stages.reporting.page import write

__all__ = ["write"]
