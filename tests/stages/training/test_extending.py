import hashlib

import pytest

from autoseg.records.errors import UsageError
from autoseg.records.model import Extension, RunRecord, TrainedModel
from autoseg.stages.training import history
from autoseg.storage import read_record
from tests.stages.training.records import MODEL, fit, make_cases, make_plan
from tests.stages.training.test_loop import begun_like, sha, stop_after

PLAN, SHORT, LONG = make_plan(), {"learning_rate": "0.02"}, {"learning_rate": "0.02", "epochs": "4"}


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extended") / "fold_0"
    fit(PLAN, MODEL, folder, make_cases(), settings=SHORT)
    first = sha(folder / "model.safetensors")
    fit(PLAN, MODEL, folder, make_cases(), settings=LONG)
    return folder, first


def test_a_finished_run_goes_on_with_a_schedule_of_its_own(extended):
    folder, first = extended
    record = read_record(folder / "run.json", RunRecord)
    assert (record.steps, record.extensions) == (12, (Extension(from_step=12, to_step=24),))
    assert record.settings == SHORT
    assert read_record(folder / "model.json", TrainedModel).steps == 24
    assert sha(folder / "model.safetensors") != first
    rates = [item.rate for item in history.read(folder)]
    assert rates[:12] == rates[12:]
    assert rates[0] == 0.02


def test_asking_again_in_either_way_returns_at_once(extended):
    folder, _ = extended
    before, told = sha(folder / "model.safetensors"), []
    for settings in (SHORT, LONG):
        fit(PLAN, MODEL, folder, make_cases(), settings=settings, on_progress=told.append)
    assert (sha(folder / "model.safetensors"), told) == (before, [])


def test_fewer_steps_than_done_are_refused(extended):
    folder, _ = extended
    with pytest.raises(UsageError, match=r"epochs=3 means 18 steps, and the run has done 24\. Give more than 4 epochs"):
        fit(PLAN, MODEL, folder, make_cases(), settings={**SHORT, "epochs": "3"})


def test_a_broken_extension_equals_the_unbroken_one_and_the_old_model_predicts_meanwhile(tmp_path, extended):
    whole, first = extended
    folder = tmp_path / "broken"
    folder.mkdir()
    record = read_record(whole / "run.json", RunRecord).model_copy(update={"extensions": ()})
    (folder / "run.json").write_text(record.to_json())
    fit(PLAN, MODEL, folder, make_cases(), settings=SHORT)
    with pytest.raises(KeyboardInterrupt):
        fit(PLAN, MODEL, folder, make_cases(), settings=LONG, on_progress=stop_after(17))
    assert sha(folder / "model.safetensors") == first
    with pytest.raises(UsageError, match=r"the extension to 24 steps has not ended yet\. Run .* --set epochs=4 first"):
        fit(PLAN, MODEL, folder, make_cases(), settings={**SHORT, "epochs": "9"})
    fit(PLAN, MODEL, folder, make_cases(), settings=SHORT)
    assert sha(folder / "model.safetensors") == sha(whole / "model.safetensors")


def test_without_its_checkpoints_an_extended_run_is_done_again_the_same(tmp_path, extended):
    whole, _ = extended
    folder = begun_like(tmp_path / "again", whole)
    path = fit(PLAN, MODEL, folder, make_cases(), settings=SHORT)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha(whole / "model.safetensors")
