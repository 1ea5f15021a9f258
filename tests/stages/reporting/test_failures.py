"""What failed is named, and nothing else is; tables sort in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from autoseg.records.evaluation import CaseScore, Evaluation, StructureScore
from autoseg.stages.reporting.failures import failures

NAN = float("nan")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def case(name: str, dice: float, truth_ml: float = 2.0, predicted_ml: float = 2.0) -> CaseScore:
    item = StructureScore(
        structure="core",
        dice=dice,
        iou=dice,
        precision=dice,
        recall=dice,
        hd95_mm=1.0,
        surface_dice=dice,
        surface_dice_tolerance_mm=2.0,
        truth_ml=truth_ml,
        predicted_ml=predicted_ml,
    )
    return CaseScore(case=name, structures=(item,))


def test_each_kind_of_failure_is_named_once() -> None:
    scores = (
        *(case(f"good_{n}", 0.9) for n in range(9)),
        case("missed", 0.0, predicted_ml=0.0),
        case("invented", 0.0, truth_ml=0.0),
        case("poor", 0.4),
        case("fair", 0.5),
        case("nothing to score", NAN, 0.0, 0.0),
        CaseScore(case="gone", structures=case("gone", 0.0).structures, missing=True),
    )
    found = {item.case: item.what for item in failures(Evaluation(members=("m",), scores=scores))}
    assert list(found) == ["missed", "invented", "poor", "gone"]
    assert found["missed"] == "missed: 2 ml are there, nothing was predicted"
    assert found["invented"] == "invented: 2 ml where there is none"
    assert found["poor"] == "Dice below half of the median 0.900"
    assert found["gone"] == "there was no prediction"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_click_sorts_a_table(tmp_path: Path) -> None:
    script = resources.files("autoseg.stages.reporting").joinpath("tables.js.j2").read_text(encoding="utf-8")
    rows = "".join(f"<tr><td>{value}</td></tr>" for value in ("–", "10.5", "∞", "9.1"))
    page = tmp_path / "page.html"
    page.write_text(
        f"<meta charset=utf-8><table class=sortable><thead><tr><th class=n>x</th></tr></thead><tbody>{rows}</tbody>"
        f"</table><script>{script}</script><script>const head = document.querySelector('th'), seen = () => "
        "[...document.querySelectorAll('td')].map(cell => cell.textContent).join(' ');"
        "head.click(); const up = seen(); head.click(); document.title = up + ' | ' + seen();</script>"
    )
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    end = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60)
    title = re.search("<title>(.*?)</title>", end.stdout)
    assert title is not None, end.stderr
    assert title[1] == "9.1 10.5 ∞ – | ∞ 10.5 9.1 –"
