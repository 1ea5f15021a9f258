import math
from pathlib import Path

import pandas as pd
import pytest

from autoseg.records.evaluation import CaseScore, Evaluation, StructureScore
from autoseg.stages.evaluating import summarise, write_scores

NAN, INF = math.nan, math.inf
NOT_ASKED = 17 * ",nan"  # specificity to small_lesion_false_positives


def structure(name: str, dice: float, hd95_mm: float = 1.0) -> StructureScore:
    return StructureScore(
        structure=name,
        dice=dice,
        iou=dice,
        precision=dice,
        recall=dice,
        hd95_mm=hd95_mm,
        surface_dice=dice,
        surface_dice_tolerance_mm=2.0,
        truth_ml=1.0,
        predicted_ml=1.0,
    )


EVALUATION = Evaluation(
    members=("default/full/base_s0",),
    scores=(
        CaseScore(case="a", structures=(structure("organ", 0.8, 2.0), structure("tumour", NAN, NAN))),
        CaseScore(case="b", structures=(structure("organ", 0.6, 3.0), structure("tumour", 0.5, 4.0))),
        CaseScore(case="c", structures=(structure("organ", 0.0, INF), structure("tumour", NAN, NAN)), missing=True),
    ),
)


def test_a_row_a_case_and_structure(tmp_path: Path):
    path = tmp_path / "scores.csv"
    write_scores(path, EVALUATION)
    lines = path.read_text().splitlines()
    assert lines[0].startswith("case,missing,structure,dice,iou,precision,recall,surface_dice,hd95_mm")
    assert lines[1] == "a,False,organ,0.8,0.8,0.8,0.8,0.8,2,2,1,1,0,nan,nan" + NOT_ASKED
    assert lines[2].startswith("a,False,tumour,nan,")
    assert lines[5] == "c,True,organ,0,0,0,0,0,inf,2,1,1,0,nan,nan" + NOT_ASKED
    assert len(lines) == 7
    table = pd.read_csv(path)
    assert table["dice"].mean() == pytest.approx((0.8 + 0.6 + 0.0 + 0.5) / 4)
    assert [file.name for file in tmp_path.iterdir()] == ["scores.csv"]


def test_nothing_to_score_is_left_out_and_failures_are_counted():
    organ, tumour = summarise(EVALUATION)
    assert organ.structure == "organ"
    assert (organ.count, organ.failed) == (3, 1)
    assert organ.dice_mean == pytest.approx(1.4 / 3)
    assert organ.dice_median == pytest.approx(0.6)
    assert organ.dice_std == pytest.approx(0.416333, abs=1e-5)
    assert organ.hd95_mm_median == 3.0
    assert (tumour.count, tumour.failed, tumour.dice_mean) == (1, 0, 0.5)
    assert math.isnan(tumour.dice_std)


def test_distances_volumes_and_lesions_in_the_summary():
    more = [
        structure("organ", 0.8).model_copy(update={"assd_mm": mm, "lesion_f1": f1, "predicted_ml": ml})
        for mm, f1, ml in ((1.0, 1.0, 1.5), (2.0, 0.5, 0.5), (INF, 0.0, 0.0))
    ]
    scores = tuple(CaseScore(case=f"c{i}", structures=(item,)) for i, item in enumerate(more))
    (organ,) = summarise(Evaluation(members=("m",), scores=scores))
    assert organ.assd_mm_median == 2.0
    assert organ.volume_difference_ml_mean == pytest.approx((0.5 - 0.5 - 1.0) / 3)  # predicted minus true
    assert organ.lesion_f1_mean == 0.5
