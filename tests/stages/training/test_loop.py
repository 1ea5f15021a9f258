import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from autoseg.records.errors import DataError, ResourceError, UsageError, UserError
from autoseg.records.model import RunRecord, TrainedModel
from autoseg.records.preset import Recipe
from autoseg.stages.training import history, loop
from autoseg.stages.training.request import FoldFacts
from autoseg.storage import read_record
from tests.stages.training.records import MODEL, RECIPE, fit, make_case, make_cases, make_configuration, make_plan

STEPS = RECIPE.epochs * RECIPE.steps_per_epoch


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stop_after(steps):
    def tell(progress):
        if progress.step == steps:
            raise KeyboardInterrupt

    return tell


def begun_like(folder, other):
    """A folder whose run obeys what another run measured."""
    folder.mkdir()
    shutil.copy(other / "run.json", folder)
    return folder


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "fold_0"
    fit(make_plan(), MODEL, folder, make_cases(), cases_digest="c")
    return folder


def test_a_run_leaves_everything_that_the_workspace_promises(unbroken):
    trained = read_record(unbroken / "model.json", TrainedModel)
    assert trained.weights_sha256 == sha(unbroken / "model.safetensors")
    assert (trained.model, trained.steps) == (MODEL, STEPS)
    assert trained.plan_digest == make_plan().digest()
    for name in ("run.json", "checkpoint.a.safetensors", "history.jsonl", "history.csv", "curves.png"):
        assert (unbroken / name).exists(), name
    assert not (unbroken / "lock").exists()
    lines = history.read(unbroken)
    assert [item.step for item in lines] == list(range(1, STEPS + 1))  # a short run has a line a step
    assert lines[-1].samples == STEPS * 2


def test_the_run_record_says_what_was_measured(unbroken):
    record = read_record(unbroken / "run.json", RunRecord)
    assert (record.steps, record.batch_size, record.batch_reason) == (STEPS, 2, "")
    assert record.precision == "float32"
    assert record.compiled is False
    assert record.step_seconds > 0
    assert record.threads == torch.get_num_threads()


def test_training_lowers_the_loss(tmp_path):
    recipe = Recipe(precision="float32", optimizer="adam", learning_rate=1e-2, epochs=1, steps_per_epoch=40)
    fit(make_plan(make_configuration(recipe=recipe)), MODEL, tmp_path, make_cases())
    losses = [item.loss for item in history.read(tmp_path)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_stopped_and_resumed_equals_the_unbroken_one_byte_for_byte(tmp_path, optimizer):
    recipe = RECIPE.model_copy(update={"optimizer": optimizer, "learning_rate": 1e-3, "ema_decay": 0.9})
    plan, cases = make_plan(make_configuration(recipe=recipe)), make_cases()
    whole = fit(plan, MODEL, tmp_path / "whole", cases)
    folder = begun_like(tmp_path / "broken", tmp_path / "whole")
    for stop in (3, 8):
        with pytest.raises(KeyboardInterrupt):
            fit(plan, MODEL, folder, cases, on_progress=stop_after(stop))
        assert not (folder / "model.json").exists()
    assert sha(fit(plan, MODEL, folder, cases)) == sha(whole)
    assert [item.loss for item in history.read(folder)] == [item.loss for item in history.read(tmp_path / "whole")]


def test_resuming_in_the_middle_of_an_epoch_keeps_its_mean_loss(tmp_path):
    recipe = RECIPE.model_copy(update={"epochs": 10, "steps_per_epoch": 6})  # 60 steps, a line every 3
    plan, cases = make_plan(make_configuration(recipe=recipe)), make_cases()
    fit(plan, MODEL, tmp_path / "whole", cases)
    folder = begun_like(tmp_path / "broken", tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(plan, MODEL, folder, cases, on_progress=stop_after(7))
    fit(plan, MODEL, folder, cases)
    whole = [(item.step, item.loss) for item in history.read(tmp_path / "whole")]
    assert [(item.step, item.loss) for item in history.read(folder)] == whole
    assert [step for step, _ in whole] == list(range(3, 61, 3))


def test_kill_9_loses_only_what_came_after_the_last_checkpoint(tmp_path, unbroken):
    folder = begun_like(tmp_path / "killed", unbroken)
    script = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from autoseg.stages.training import loop
        from tests.stages.training.records import MODEL, fit, make_cases, make_plan
        loop.CHECKPOINT_SECONDS = 0.0
        def tell(progress):
            if progress.step == 6:
                os.kill(os.getpid(), signal.SIGKILL)
        fit(make_plan(), MODEL, Path(sys.argv[1]), make_cases(), cases_digest="c", on_progress=tell)
    """)
    done = subprocess.run([sys.executable, "-c", script, str(folder)], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert (folder / "lock").exists()
    assert [item.step for item in history.read(folder)] == [1, 2, 3, 4, 5, 6]
    seen = []
    path = fit(make_plan(), MODEL, folder, make_cases(), cases_digest="c", on_progress=lambda p: seen.append(p.step))
    assert seen[0] == 6  # the checkpoint was of step 5
    assert sha(path) == sha(unbroken / "model.safetensors")


@pytest.mark.parametrize("damage", ["truncated", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, unbroken, caplog, monkeypatch, damage):
    monkeypatch.setattr("autoseg.stages.training.loop.CHECKPOINT_SECONDS", 0.0)
    folder = begun_like(tmp_path / "damaged", unbroken)
    with pytest.raises(KeyboardInterrupt):
        fit(make_plan(), MODEL, folder, make_cases(), cases_digest="c", on_progress=stop_after(5))
    newest = max(folder.glob("checkpoint.*"), key=lambda path: path.stat().st_mtime_ns)
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    seen = []
    path = fit(make_plan(), MODEL, folder, make_cases(), cases_digest="c", on_progress=lambda p: seen.append(p.step))
    assert seen[0] == 5
    assert newest.name in caplog.text
    assert "Falling back" in caplog.text
    assert sha(path) == sha(unbroken / "model.safetensors")


def test_a_finished_run_returns_at_once(unbroken):
    before = sha(unbroken / "model.safetensors")
    told = []
    path = fit(make_plan(), MODEL, unbroken, make_cases(), cases_digest="c", on_progress=told.append)
    assert (sha(path), told) == (before, [])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"settings": {"learning_rate": "0.1"}}, "started with no --set; now it is --set learning_rate=0.1"),
        ({"cases_digest": "other"}, "on other preprocessed cases"),
    ],
)
def test_a_folder_of_another_run_is_refused_in_words(unbroken, changes, sentence):
    with pytest.raises(UserError) as caught:
        fit(make_plan(), MODEL, unbroken, make_cases(), **{"cases_digest": "c", **changes})
    assert sentence in str(caught.value)
    assert "--variant" in str(caught.value)


def test_a_plan_that_was_edited_is_refused_with_the_difference(unbroken):
    recipe = RECIPE.model_copy(update={"learning_rate": 0.02})
    with pytest.raises(UserError, match=r"under another plan: recipe.learning_rate was 0.01 and is now 0.02"):
        fit(make_plan(make_configuration(recipe=recipe)), MODEL, unbroken, make_cases(), cases_digest="c")


def test_labels_that_were_renamed_are_refused(unbroken):
    plan = make_plan()
    first = plan.labels.structures[0].model_copy(update={"name": "liver"})
    labels = plan.labels.model_copy(update={"structures": (first, plan.labels.structures[1])})
    with pytest.raises(UserError, match=r"structures.0.name was front and is now liver"):
        fit(plan.model_copy(update={"labels": labels}), MODEL, unbroken, make_cases(), cases_digest="c")


def test_settings_reach_the_run(tmp_path):
    fit(make_plan(), MODEL, tmp_path, make_cases(), settings={"epochs": "1", "steps_per_epoch": "2"})
    assert read_record(tmp_path / "model.json", TrainedModel).steps == 2


def test_the_seed_changes_the_weights_and_nothing_else_does(tmp_path, unbroken):
    again = begun_like(tmp_path / "again", unbroken)
    fit(make_plan(), MODEL, again, make_cases(), cases_digest="c")
    assert sha(again / "model.safetensors") == sha(unbroken / "model.safetensors")
    other = MODEL.model_copy(update={"seed": 4})
    fit(make_plan(), other, tmp_path / "other", make_cases(), cases_digest="c")
    assert sha(tmp_path / "other" / "model.safetensors") != sha(unbroken / "model.safetensors")


def test_torch_is_left_as_it_was(tmp_path):
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    fit(make_plan(), MODEL, tmp_path, make_cases(), settings={"epochs": "1", "steps_per_epoch": "2"})
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_the_average_predicts_where_there_is_one(tmp_path):
    recipe = RECIPE.model_copy(update={"ema_decay": 0.99})
    fit(make_plan(make_configuration(recipe=recipe)), MODEL, tmp_path, make_cases())
    model = load_file(tmp_path / "model.safetensors")
    newest = max(tmp_path.glob("checkpoint.*"), key=lambda path: path.stat().st_mtime_ns)
    checkpoint = load_file(newest)
    raw = {name.removeprefix("network."): item for name, item in checkpoint.items() if name.startswith("network.")}
    assert raw.keys() == model.keys()
    assert any(not torch.equal(raw[name], model[name]) for name in raw)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_writes_a_checkpoint_and_passes_on(tmp_path, unbroken, number):
    folder = begun_like(tmp_path / "asked", unbroken)
    before = signal.getsignal(number)

    def tell(progress):
        if progress.step == 4:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        fit(make_plan(), MODEL, folder, make_cases(), cases_digest="c", on_progress=tell)
    assert signal.getsignal(number) == before
    assert not (folder / "lock").exists()
    seen = []
    path = fit(make_plan(), MODEL, folder, make_cases(), cases_digest="c", on_progress=lambda p: seen.append(p.step))
    assert seen[0] in {5, 6}
    assert sha(path) == sha(unbroken / "model.safetensors")


def test_it_trains_outside_of_the_main_thread(tmp_path):
    caught = []

    def train():
        try:
            fit(make_plan(), MODEL, tmp_path, make_cases(), settings={"epochs": "1", "steps_per_epoch": "2"})
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert caught == []
    assert (tmp_path / "model.json").exists()


def test_a_loss_that_stays_nan_stops_the_run_and_names_the_cases(tmp_path, caplog):
    sick = make_case("sick", image=np.full((1, 10, 20, 20), np.nan, np.float32))
    with pytest.raises(UserError, match=r"not finite 6 times in a row .last batch: sick, sick") as caught:
        fit(make_plan(), MODEL, tmp_path, [sick])
    assert "--set learning_rate" in str(caught.value)
    assert caplog.text.count("skipped (cases sick, sick)") == 6


def test_a_single_bad_batch_is_skipped_and_counted(tmp_path):
    cases = [*make_cases(), make_case("sick", image=np.full((1, 10, 20, 20), np.nan, np.float32))]
    path = fit(make_plan(), MODEL, tmp_path, cases)
    lines = history.read(tmp_path)
    assert 0 < sum(item.skipped for item in lines) < STEPS
    assert all(torch.isfinite(item).all() for item in load_file(path).values())


def test_the_order_in_which_cases_are_given_changes_nothing(tmp_path, unbroken):
    folder = begun_like(tmp_path / "turned", unbroken)
    path = fit(make_plan(), MODEL, folder, make_cases()[::-1], cases_digest="c")
    assert sha(path) == sha(unbroken / "model.safetensors")


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError) as caught:
        fit(make_plan(), MODEL, tmp_path / "new", make_cases(), device="quantum")
    assert "quantum" in str(caught.value)
    assert list((tmp_path / "new").iterdir()) == []


def test_another_run_in_the_folder_is_refused(tmp_path, unbroken):
    folder = begun_like(tmp_path / "held", unbroken)
    holder = {"host": os.uname().nodename, "process": os.getppid(), "since": 0}
    (folder / "lock").write_text(json.dumps(holder))
    with pytest.raises(ResourceError, match="another run has been working here"):
        fit(make_plan(), MODEL, folder, make_cases(), cases_digest="c")


def test_a_model_without_the_record_of_its_run_is_not_trusted(tmp_path, unbroken):
    shutil.copytree(unbroken, tmp_path / "copy")
    (tmp_path / "copy" / "run.json").unlink()
    with pytest.raises(DataError, match="the record of the run is missing"):
        fit(make_plan(), MODEL, tmp_path / "copy", make_cases(), cases_digest="c")


@pytest.mark.parametrize(("dimensions", "cascade"), [(2, False), (3, True)])
def test_2d_and_cascade_configurations_train(tmp_path, dimensions, cascade):
    cases = [make_case("one"), make_case("two", annotated=(1,))]
    if cascade:
        cases = [make_case(case.id, annotated=case.annotated, previous=case.labels) for case in cases]
    plan = make_plan(make_configuration(dimensions=dimensions, cascade=cascade))
    assert fit(plan, MODEL, tmp_path, cases).exists()


def test_class_weights_follow_from_voxels_and_are_obeyed_afterwards(tmp_path, unbroken):
    settings = {"class_weights": "inverse"}
    with pytest.raises(UsageError, match="class_weights=inverse needs voxel counts"):
        fit(make_plan(), MODEL, tmp_path / "none", make_cases(), settings=settings)
    facts = FoldFacts(voxels=(80.0, 20.0, 5.0))
    path = fit(make_plan(), MODEL, tmp_path / "run", make_cases(), settings=settings, facts=facts)
    record = read_record(tmp_path / "run" / "run.json", RunRecord)
    assert record.class_weights == pytest.approx((0.1429, 0.5714, 2.2857), abs=1e-4)
    assert sha(path) != sha(unbroken / "model.safetensors")


STOPPING = {
    "epochs": "10",
    "schedule": "warmup_stable_decay",
    "learning_rate": "0",
    "ema_decay": "0.9",
    "monitor_fraction": "0.3",
    "stop_epochs": "2",
}


def test_a_run_that_gains_nothing_is_annealed_and_ends_early_however_often_it_is_stopped(tmp_path):
    """60 steps, a line every 3; at a rate of 0 lines 2 and 3 bring nothing; annealing takes 3 steps of 9."""
    path = fit(make_plan(), MODEL, tmp_path / "whole", make_cases(), settings=STOPPING)
    record = read_record(tmp_path / "whole" / "run.json", RunRecord)
    assert (record.steps, len(record.monitored)) == (60, 1)
    assert read_record(tmp_path / "whole" / "model.json", TrainedModel).steps == 12
    lines = history.read(tmp_path / "whole")
    assert [item.step for item in lines] == [3, 6, 9, 12]
    assert {item.measured_on for item in lines} == {"patients"}
    assert all(item.average_dice == item.average_dice for item in lines)
    folder = begun_like(tmp_path / "broken", tmp_path / "whole")
    for stop in (4, 10):
        with pytest.raises(KeyboardInterrupt):
            fit(make_plan(), MODEL, folder, make_cases(), settings=STOPPING, on_progress=stop_after(stop))
    assert sha(fit(make_plan(), MODEL, folder, make_cases(), settings=STOPPING)) == sha(path)
    assert [item.dice for item in history.read(folder)] == [item.dice for item in lines]


def test_nobody_set_apart_is_trained_on(tmp_path):
    seen = set()
    original = loop.learners.advance

    def advance(learner, batch, **more):
        seen.update(batch.cases)
        return original(learner, batch, **more)

    groups = {"one": "a", "two": "a", "three": "b"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.learners, "advance", advance)
        settings = {"monitor_fraction": "0.5"}
        fit(make_plan(), MODEL, tmp_path, make_cases(), settings=settings, facts=FoldFacts(groups))
    monitored = set(read_record(tmp_path / "run.json", RunRecord).monitored)
    assert monitored in ({"one", "two"}, {"three"})
    assert seen == {"one", "two", "three"} - monitored


def test_progress_tells_dice_and_memory_once_an_epoch_has_ended(tmp_path):
    told = []
    fit(make_plan(), MODEL, tmp_path, make_cases(), on_progress=told.append)
    assert set(told[-1].dice) == {"front", "back"}
    assert told[-1].memory_gb > 0.05
