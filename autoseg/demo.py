"""Phantom heads, from import to report, and two heads that took no part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoseg.phantom import write_phantom
from autoseg.pipeline import Tell, predicting, preparing, quiet, running, scoring
from autoseg.records.evaluation import Evaluation
from autoseg.records.requests import EvaluateRequest, PlanRequest, PredictRequest
from autoseg.stages import evaluating, importing
from autoseg.workspace import Workspace


@dataclass(frozen=True)
class DemoResult:
    """What a demo ends with: the scores of the unseen heads, and where the report lies."""

    evaluation: Evaluation
    summaries: tuple[evaluating.StructureSummary, ...]
    report: Path

    def as_json(self) -> dict[str, object]:
        """Return plain JSON."""
        return {"report": str(self.report), "evaluation": self.evaluation.model_dump(mode="json")}


def demo(folder: Path, minutes: float, *, tell: Tell = quiet) -> DemoResult:
    """Write phantom heads, do everything with them, and score two heads that took no part."""
    tell("write phantom heads", 0.0, None)
    data = folder / "phantom"
    if not (data / "unseen_truth").exists():
        write_phantom(data)
    work = Workspace.locate("HaNSeg", folder / "autoseg_data")
    preparing.import_dataset(data, work, importing.ImportOptions())
    running.run(work, PlanRequest(presets=("demo",), minutes=minutes), tell=tell)
    predicting.predict(work, data / "unseen", folder / "predictions", PredictRequest(), tell=tell)
    scores = scoring.evaluate(
        folder / "predictions",
        data / "unseen_truth",
        work.dataset(),
        EvaluateRequest(output=folder / "predictions" / "scores.csv"),
    )
    return DemoResult(scores.evaluation, scores.structures, work.report_file("default").resolve())
