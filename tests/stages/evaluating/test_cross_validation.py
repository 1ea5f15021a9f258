import logging
import math
from pathlib import Path

import numpy as np
import pytest

from autoseg.records.errors import DataError, UsageError
from autoseg.records.evaluation import CaseScore, Evaluation
from autoseg.records.labels import Labels, Structure
from autoseg.stages.evaluating import evaluate_folder, pool


def fold(name: str, *cases: str) -> Evaluation:
    return Evaluation(
        members=(f"p/full/base_s0/fold_{name}",), scores=tuple(CaseScore(case=c, structures=()) for c in cases)
    )


def test_folds_become_one_evaluation_in_the_order_of_the_cases():
    pooled = pool([fold("0", "c", "a"), fold("1", "b")])
    assert [score.case for score in pooled.scores] == ["a", "b", "c"]
    assert pooled.members == ("p/full/base_s0/fold_0", "p/full/base_s0/fold_1")


def test_a_case_in_two_folds_is_refused():
    with pytest.raises(DataError, match="a: was scored by p/full/base_s0/fold_0 and by p/full/base_s0/fold_1"):
        pool([fold("0", "a"), fold("1", "a")])


def save(folder: Path, name: str, values: list[int]) -> None:
    nibabel = pytest.importorskip("nibabel")
    folder.mkdir(exist_ok=True)
    array = np.array(values, np.uint8).reshape(len(values), 1, 1)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / name)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    pytest.importorskip("autoseg.images.files", reason="images/files.py is not in this checkout")
    return tmp_path / "predictions", tmp_path / "truths"


def test_a_folder_against_a_folder(folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture):
    predictions, truths = folders
    save(truths, "a.nii.gz", [7, 7, 9, 0])
    save(truths, "b.nii.gz", [7, 7, 0, 0])
    save(predictions, "a.nii.gz", [7, 0, 9, 0])
    save(predictions, "z.nii.gz", [7, 0, 9, 0])
    with caplog.at_level(logging.WARNING):
        evaluation = evaluate_folder(predictions, truths, None)
    a, b = evaluation.scores
    assert [item.structure for item in a.structures] == ["7", "9"]
    assert a.structures[0].dice == pytest.approx(2 / 3)
    assert a.structures[1].dice == 1
    assert b.missing
    assert b.structures[0].dice == 0
    assert math.isnan(b.structures[1].dice)
    assert "1 predictions without a truth left out: z" in caplog.text
    assert "no prediction for b; counted as failed" in caplog.text


def test_values_have_names_and_a_strange_one_is_refused(folders: tuple[Path, Path]):
    predictions, truths = folders
    labels = Labels(structures=(Structure(name="organ", value=1, original=7),))
    save(truths, "a.nii.gz", [7, 7, 0, 0])
    save(predictions, "a.nii.gz", [7, 7, 0, 0])
    assert evaluate_folder(predictions, truths, labels).scores[0].structures[0].structure == "organ"
    save(predictions, "a.nii.gz", [1, 1, 0, 0])
    with pytest.raises(DataError, match=r"a.nii.gz: has the value 1, which is none of \[0, 7\]"):
        evaluate_folder(predictions, truths, labels)


def test_an_empty_folder_is_named(folders: tuple[Path, Path]):
    predictions, truths = folders
    with pytest.raises(UsageError, match="there is no such folder"):
        evaluate_folder(predictions, truths, None)
    truths.mkdir()
    with pytest.raises(UsageError, match="holds no label file"):
        evaluate_folder(predictions, truths, None)
