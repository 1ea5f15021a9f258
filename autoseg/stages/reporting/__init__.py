"""Records -> HTML files that open anywhere."""

from autoseg.stages.reporting.case_page import write_case
from autoseg.stages.reporting.explained import Explained, write_explained
from autoseg.stages.reporting.page import write, write_data

__all__ = ["Explained", "write", "write_case", "write_data", "write_explained"]
