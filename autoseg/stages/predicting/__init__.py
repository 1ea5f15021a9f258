"""Checkpoints + Image -> Prediction, one case at a time; held-out and new cases walk the same way."""

from autoseg.stages.predicting.cascade import stored_label_map, write_previous
from autoseg.stages.predicting.fields import Member, Options, predict_fields
from autoseg.stages.predicting.held_out import predict_held_out, read_stored, stored_field
from autoseg.stages.predicting.loading import load_member
from autoseg.stages.predicting.new_scans import predict_scan, written_values

__all__ = [
    "Member",
    "Options",
    "load_member",
    "predict_fields",
    "predict_held_out",
    "predict_scan",
    "read_stored",
    "stored_field",
    "stored_label_map",
    "write_previous",
    "written_values",
]
