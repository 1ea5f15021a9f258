from pathlib import Path

import numpy as np
import pytest

from autoseg import views
from autoseg.pipeline.predicting import referred
from autoseg.records.errors import UserError
from autoseg.records.likeness import AspectFound, Unlikeness
from autoseg.records.quality import PredictedQuality, PredictedScore, QualityModel
from autoseg.stages.predicting.quality import predict_quality
from autoseg.storage import write_record


def keep(folder: Path, case: str, *lows: float, unlikeness: float = 0.0) -> None:
    noise = (AspectFound(name="noise", unlikeness=unlikeness),) if unlikeness > 1 else ()
    unlike = Unlikeness(unlikeness=unlikeness, limit=1.0, aspects=noise)
    scores = tuple(PredictedScore(structure=f"s{i}", dice=low + 0.02, low=low, high=1) for i, low in enumerate(lows))
    quality = PredictedQuality(case=case, scores=scores, unlikeness=unlike)
    write_record(folder / "uncertainty" / f"{case}_quality.json", quality)


def test_a_scan_is_referred_for_its_worst_structure_or_when_nobody_can_vouch_for_it(tmp_path: Path) -> None:
    keep(tmp_path, "sure", 0.93, 0.9)
    keep(tmp_path, "unsure", 0.93, 0.89)
    keep(tmp_path, "unknown")
    found = referred(tmp_path, ["sure", "unsure", "unknown"], 0.9)
    assert {case: [score.structure for score in quality.scores] for case, quality in found.items()} == {
        "unsure": ["s1"],
        "unknown": [],
    }


def test_a_scan_unlike_those_of_the_training_is_referred_whatever_its_prediction_promises(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path, "usual", 0.95, unlikeness=0.9)
    keep(tmp_path, "noisy", 0.95, unlikeness=2.5)
    found = referred(tmp_path, ["usual", "noisy"], 0.9)
    assert list(found) == ["noisy"]
    views.referred(found, 0.9)
    assert "unlike the training scans in noise (2.5 x the limit)" in " ".join(capsys.readouterr().out.split())


def test_a_quality_of_an_older_version_is_still_read(tmp_path: Path) -> None:
    old = PredictedQuality.parse('{"schema_version": 1, "case": "a", "scores": []}', file="")
    assert old.unlikeness is None
    model = QualityModel.parse(
        '{"structure": "x", "weights": [0.1, 0.8, 0.01], "half_width": 0.1, "coverage": 0.9, "spearman": 0.5,'
        ' "cases": 20}',
        file="",
    )
    (score,) = predict_quality([model], ["x"], np.array([[0.9, 5.0, *np.zeros(6)]]))
    assert score.dice == pytest.approx(0.1 + 0.72 + 0.05)


def test_a_scan_without_a_predicted_quality_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Predict it again without --resume"):
        referred(tmp_path, ["a"], 0.9)
