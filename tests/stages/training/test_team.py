"""Several ranks are one run: the same losses, and the same end when one of them dies on the way."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from autoseg.records.configuration import Regions
from autoseg.records.errors import DataError, ResourceError, UsageError
from autoseg.records.model import RunRecord
from autoseg.records.preset import Recipe
from autoseg.records.volumes import CaseRegions
from autoseg.stages.training import history, loop, team
from autoseg.storage import read_record
from tests.stages.training.records import MODEL, fit, make_case, make_cases, make_configuration, make_plan

EPOCHS, STEPS_PER_EPOCH = 2, 4
RECIPE = Recipe(precision="float32", epochs=EPOCHS, steps_per_epoch=STEPS_PER_EPOCH)


def plan_of(*, batch_dice: bool = False):
    return make_plan(make_configuration(recipe=RECIPE).model_copy(update={"batch_dice": batch_dice}))


def begun_like(folder: Path, other: Path) -> Path:
    folder.mkdir()
    shutil.copy(other / "run.json", folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair") / "fold_0"
    fit(plan_of(), MODEL, folder, make_cases(), ranks=2)
    return folder


def same_course(one: Path, other: Path) -> None:
    losses = [[item.loss for item in history.read(folder)] for folder in (one, other)]
    assert len(losses[0]) == EPOCHS * STEPS_PER_EPOCH // 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    mine, others = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, others[name], atol=1e-6, rtol=1e-4)


def test_work_is_counted_in_samples(pair):
    record = read_record(pair / "run.json", RunRecord)
    assert (record.batch_size, record.steps) == (4, EPOCHS * STEPS_PER_EPOCH // 2)
    assert history.read(pair)[-1].samples == 2 * EPOCHS * STEPS_PER_EPOCH


def test_two_ranks_have_the_losses_of_one_process_with_the_whole_batch(pair, tmp_path):
    alone = begun_like(tmp_path / "alone", pair)
    fit(plan_of(), MODEL, alone, make_cases(), ranks=1)
    same_course(pair, alone)


def test_also_where_dice_is_of_the_batch_and_structures_are_not_annotated_everywhere(tmp_path):
    cases = [*make_cases(), make_case("half", annotated=(1,))]
    together, alone = tmp_path / "together", tmp_path / "alone"
    fit(plan_of(batch_dice=True), MODEL, together, cases, ranks=2)
    fit(plan_of(batch_dice=True), MODEL, begun_like(alone, together), cases, ranks=1)
    same_course(together, alone)


@pytest.mark.slow
def test_also_where_windows_lie_on_the_regions_that_a_first_stage_proposes(tmp_path):
    lesion, vessel = [[2, 4, 4], [5, 9, 9]], [[6, 2, 12], [8, 5, 15]]
    boxes = (np.array(box, np.int32) for box in ([lesion], [lesion, vessel], [vessel]))
    found = CaseRegions(*boxes)
    cases = [make_case("one", regions=found), make_case("two", regions=found)]
    regions = Regions(configuration="first", sensitivity=0.98, margin_mm=2.0, threshold=0.1)
    together, alone, anywhere = (tmp_path / name for name in ("together", "alone", "anywhere"))
    fit(plan_of(), MODEL, together, cases, ranks=2, regions=regions)
    fit(plan_of(), MODEL, begun_like(alone, together), cases, ranks=1, regions=regions)
    same_course(together, alone)
    whole_batch = make_configuration(recipe=RECIPE).model_copy(update={"batch_size": 4})
    fit(make_plan(whole_batch), MODEL, anywhere, cases)
    assert history.read(anywhere)[0].loss != pytest.approx(history.read(alone)[0].loss, rel=1e-3)


def test_a_rank_that_dies_stops_the_run_and_the_run_goes_on_from_its_checkpoint(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    folder = begun_like(tmp_path / "fold_0", pair)

    def kill(progress):
        if progress.step == 2:
            (other,) = (item for item in multiprocessing.active_children() if item.name == "autoseg-rank-1")
            os.kill(other.pid, signal.SIGKILL)

    with pytest.raises(ResourceError, match=r"rank 1 of the run has died \(SIGKILL\)"):
        fit(plan_of(), MODEL, folder, make_cases(), ranks=2, on_progress=kill)
    assert not multiprocessing.active_children()
    assert not (folder / "lock").exists()
    seen = []
    fit(plan_of(), MODEL, folder, make_cases(), ranks=2, on_progress=lambda now: seen.append(now.step))
    assert seen[0] > 1
    assert (folder / "model.safetensors").read_bytes() == (pair / "model.safetensors").read_bytes()


def test_a_case_that_another_rank_cannot_read_is_named(pair, tmp_path, monkeypatch):
    folder = begun_like(tmp_path / "fold_0", pair)
    portable = team._portable

    def gone(case):
        return portable(case) if case.id != make_cases()[0].id else team.replace(case, image=tmp_path / "gone.b2nd")

    monkeypatch.setattr(team, "_portable", gone)
    with pytest.raises(DataError, match=r"gone\.b2nd"):
        fit(plan_of(), MODEL, folder, make_cases(), ranks=2)
    assert not multiprocessing.active_children()


def test_a_begun_run_keeps_its_batch_which_its_ranks_must_share(pair, tmp_path):
    folder = begun_like(tmp_path / "fold_0", pair)
    with pytest.raises(UsageError, match="a batch of 4 samples cannot be shared by 3 ranks"):
        fit(plan_of(), MODEL, folder, make_cases(), ranks=3)


def test_more_gpus_than_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="4 GPUs are asked for and there are 2"):
        team.check(4, 4, device="cuda", folder=tmp_path)


class Dying:
    """A process whose files are closed already and whose exit code comes with the join."""

    exitcode = None

    def __init__(self, sentinel):
        self.sentinel = sentinel

    def join(self):
        self.exitcode = -signal.SIGKILL


def test_a_rank_on_the_point_of_dying_counts_as_dead():
    here, there = multiprocessing.Pipe()
    sentinel, other_end = multiprocessing.Pipe()
    there.close()
    other_end.close()
    crew = team.Team(team.Ranks(0, 2), [Dying(sentinel)], [here])
    reason = team._reason(crew, RuntimeError("Connection reset by peer"))
    assert "rank 1 of the run has died (SIGKILL)" in str(reason)
