"""Checkpoints + Image -> Prediction, one case at a time; held-out and new cases walk the same way."""

from autoseg.stages.predicting.cascade import first_stage, fold_folder, write_out_of_fold
from autoseg.stages.predicting.earlier import held_out_scan, held_out_scans
from autoseg.stages.predicting.explaining import Explanation, Method, explain, method_for, targets_of
from autoseg.stages.predicting.fields import Member, Options, predict_fields
from autoseg.stages.predicting.held_out import predict_held_out, stored_field
from autoseg.stages.predicting.loading import load_ensemble, load_member
from autoseg.stages.predicting.new_scans import predict_scan, written_values
from autoseg.stages.predicting.packages import is_package
from autoseg.stages.predicting.predictor import Predictor, Segmentation, describe, options_for
from autoseg.stages.predicting.proposing import chosen_regions, proposals_changed
from autoseg.stages.predicting.quality import against_usual
from autoseg.stages.predicting.unlikeness import told_by

__all__ = [
    "Explanation",
    "Member",
    "Method",
    "Options",
    "Predictor",
    "Segmentation",
    "against_usual",
    "chosen_regions",
    "describe",
    "explain",
    "first_stage",
    "fold_folder",
    "held_out_scan",
    "held_out_scans",
    "is_package",
    "load_ensemble",
    "load_member",
    "method_for",
    "options_for",
    "predict_fields",
    "predict_held_out",
    "predict_scan",
    "proposals_changed",
    "stored_field",
    "targets_of",
    "told_by",
    "write_out_of_fold",
    "written_values",
]
