import math

import pytest
import torch

from autoseg.records.errors import ResourceError
from autoseg.records.model import RunRecord
from autoseg.records.preset import Recipe
from autoseg.stages.training import history, resolve
from autoseg.storage import read_record
from tests.stages.training.records import MODEL, fit, make_cases, make_configuration, make_plan, make_request


def test_a_budget_becomes_steps():
    configuration = make_configuration()
    steps = resolve.count_steps(configuration, step_seconds=0.5, budget_seconds=100, spent_seconds=5)
    assert steps == 180  # (97 - 2 - 5) / 0.5


def test_a_budget_that_is_too_short_still_trains_twenty_steps():
    configuration = make_configuration()
    assert resolve.count_steps(configuration, step_seconds=10, budget_seconds=1, spent_seconds=30) == 20


def test_without_a_budget_the_recipe_says_how_long():
    configuration = make_configuration(recipe=Recipe(epochs=3, steps_per_epoch=5))
    assert resolve.count_steps(configuration, step_seconds=10, budget_seconds=None, spent_seconds=30) == 15


@pytest.mark.parametrize(("steps", "length"), [(12, 1), (100, 5), (101, 6), (250_000, 250)])
def test_a_short_run_has_about_twenty_log_lines(steps, length):
    assert resolve.epoch_length(make_configuration(recipe=Recipe()), steps, 2) == length


def test_a_precision_that_the_recipe_names_is_obeyed():
    for name in ("float32", "bfloat16", "float16"):
        assert resolve.precisions(make_request(make_configuration(recipe=Recipe(precision=name)))) == (name,)


@pytest.mark.parametrize(("fast", "expected"), [(True, {"float32", "bfloat16"}), (False, {"float32"})])
def test_bfloat16_is_tried_where_the_machine_is_fast_in_it(monkeypatch, fast, expected):
    monkeypatch.setattr(resolve, "fast_bfloat16", lambda device: fast)
    assert set(resolve.precisions(make_request(make_configuration(recipe=Recipe())))) == expected


def test_the_fastest_way_wins_and_slow_ones_are_tried_once(monkeypatch):
    monkeypatch.setattr(resolve, "fast_bfloat16", lambda device: True)
    cost = {"bfloat16": 9.0, "float32": 1.0}
    tried = []

    def timed(pupil, batch, number):
        tried.append((pupil.precision, pupil.memory_format is torch.contiguous_format))
        return cost[pupil.precision] * (0.5 if pupil.memory_format is torch.contiguous_format else 1.0)

    monkeypatch.setattr(resolve, "_timed", timed)
    monkeypatch.setattr(resolve, "_pace", lambda *_: 0.7)
    monkeypatch.setattr(resolve, "precisions", lambda request: ("float32", "bfloat16"))
    record = resolve.resolve(make_request(make_configuration()))
    assert (record.precision, record.memory_format, record.step_seconds) == ("float32", "contiguous", 0.7)
    assert tried.count(("bfloat16", True)) == 1
    assert tried.count(("float32", True)) == 3


def test_out_of_memory_halves_the_batch_and_says_so(monkeypatch):
    measure = resolve._measure

    def short_of_memory(request, batch_size):
        if batch_size > 1:
            raise torch.OutOfMemoryError("no memory")
        return measure(request, batch_size)

    monkeypatch.setattr(resolve, "_measure", short_of_memory)
    record = resolve.resolve(make_request(make_configuration()))
    assert record.batch_size == 1
    assert record.batch_reason == "2 samples did not fit the memory of cpu"


def test_not_even_one_sample(monkeypatch):
    def never(request, batch_size):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(resolve, "_measure", never)
    with pytest.raises(ResourceError, match="not even one sample fits the memory"):
        resolve.resolve(make_request(make_configuration()))


def test_a_budget_holds_with_measuring_and_closing(tmp_path):
    fit(make_plan(), MODEL, tmp_path, make_cases(), budget_seconds=4.0)
    record = read_record(tmp_path / "run.json", RunRecord)
    assert record.budget_seconds == 4.0
    # Measuring and closing take their part of the budget: the steps alone do not fill it.
    assert record.steps * record.step_seconds < 4.0
    length = resolve.epoch_length(record.configuration, record.steps, record.batch_size)
    assert len(history.read(tmp_path)) == math.ceil(record.steps / length)
