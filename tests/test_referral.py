from pathlib import Path

import pytest

from autoseg.pipeline.predicting import referred
from autoseg.records.errors import UserError
from autoseg.records.quality import PredictedQuality, PredictedScore
from autoseg.workspace import write_record


def keep(folder: Path, case: str, *lows: float) -> None:
    scores = tuple(PredictedScore(structure=f"s{i}", dice=low + 0.02, low=low, high=1) for i, low in enumerate(lows))
    write_record(folder / "uncertainty" / f"{case}_quality.json", PredictedQuality(case=case, scores=scores))


def test_a_scan_is_referred_for_its_worst_structure_or_when_nobody_can_vouch_for_it(tmp_path: Path) -> None:
    keep(tmp_path, "sure", 0.93, 0.9)
    keep(tmp_path, "unsure", 0.93, 0.89)
    keep(tmp_path, "unknown")
    found = referred(tmp_path, ["sure", "unsure", "unknown"], 0.9)
    assert {case: [score.structure for score in scores] for case, scores in found.items()} == {
        "unsure": ["s1"],
        "unknown": [],
    }


def test_a_scan_without_a_predicted_quality_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Predict it again without --resume"):
        referred(tmp_path, ["a"], 0.9)
