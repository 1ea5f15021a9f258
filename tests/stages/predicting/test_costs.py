"""What a scan will take is known from its header: patches are counted, memory is bounded, tiles cost patches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from autoseg.records.errors import UsageError
from autoseg.records.volumes import Image
from autoseg.stages import predicting
from autoseg.stages.predicting import pace
from autoseg.stages.predicting.costs import Cost, expected_cost
from autoseg.stages.predicting.fields import Member, Options
from autoseg.stages.predicting.pace import Pace, measure_pace
from autoseg.stages.predicting.predictor import options_for
from autoseg.stages.predicting.windows import slab_memory, window_batch, window_bytes
from tests.stages.predicting.test_region import GRID, Counted, member
from tests.stages.training.records import LABELS, make_configuration

FULL = np.ones((1, *GRID.shape), np.float32)
CONFIGURATION = make_configuration()
ASKED = {"precision": "float32", "device": "cuda"}


def lineup(network: Counted) -> list[Member]:
    coarse = member(network, spacing_mm=(4.0, 2.0, 2.0))
    coarse = replace(coarse, networks=(network, network), keys=("0", "1"))
    return [member(network), replace(coarse, configuration=coarse.configuration.model_copy(update={"data_key": "2"}))]


@pytest.mark.parametrize("options", [Options(), Options(mirror=False, step_fraction=0.8), Options(memory_gb=0.001)])
def test_every_patch_is_counted_before_one_is_computed(options: Options) -> None:
    network = Counted()
    cost = expected_cost(GRID, lineup(network), options)
    assert network.patches == 0
    predicting.predict_scan(Image(FULL, GRID), lineup(network), case="a", labels=LABELS, options=options)
    assert sum(cost.passes) == network.patches
    assert (cost.tiles > 1) == (options.memory_gb is not None)


@pytest.mark.parametrize("steady", [False, True])
def test_looks_at_the_scan_again_are_counted_where_they_are_taken(steady: bool) -> None:
    network, asked = Counted(), {"case": "a", "labels": LABELS, "options": Options()}
    cost = expected_cost(GRID, lineup(network), Options(), doubt=True, steady=steady)
    predicting.predict_scan(Image(1.5 * FULL, GRID), lineup(network), temperature=1.0, steady=steady, **asked)
    assert sum(cost.passes) == network.patches
    assert cost.memory_bytes > expected_cost(GRID, lineup(Counted()), Options()).memory_bytes


def test_less_memory_costs_tiles_and_patches_but_not_below_what_one_window_needs() -> None:
    costs = [expected_cost(GRID, lineup(Counted()), Options(memory_gb=gb)) for gb in (1.0, 0.002, 0.0005)]
    tiles, passes, memory = zip(*((cost.tiles, sum(cost.passes), cost.memory_bytes) for cost in costs))
    assert sorted(tiles) == list(tiles)
    assert sorted(passes) == list(passes)
    assert sorted(memory, reverse=True) == list(memory)
    assert memory[-1] > window_bytes(CONFIGURATION, 1, precision="float32", device="cpu")


def test_costs_of_stages_add_up() -> None:
    both = Cost((3,), (10,), 100.0, 1) + Cost((5, 2), (10,), 60.0, 4)
    assert both == Cost((3, 5, 2), (10, 10), 100.0, 4)
    found = Pace((1.0,), (0.1,)) + Pace((0.5, 2.0), (0.2,))
    assert both.seconds(found) == pytest.approx(3 + 2.5 + 4 + 1 + 2)


def test_a_kind_of_network_is_timed_once_and_what_is_no_network_on_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    network, ticks, told = Counted(), iter(range(1, 100)), []
    monkeypatch.setattr(pace.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(pace, "doubt_of", lambda folds, **_: told.append([len(fields) for fields in folds]))
    found = measure_pace(lineup(network), Options(), grid=GRID, output="softmax")
    assert network.patches == 2, "once, and once more as it was short"
    assert found == Pace((1, 1), (1 / (30 * 48 * 48),)), "one tick a trial"
    assert told == []
    measure_pace(lineup(network), Options(), grid=GRID, output="softmax", uncertainty=True)
    assert told == [[1, 2]] * 2, "the doubt of every fold"


def test_a_trial_stays_small_where_a_network_sees_finer_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = [member(Counted(), spacing_mm=(0.25, 0.25, 0.25))]
    small, (field,) = pace.block(GRID, fine, Options())
    assert small.shape == (24, 24, 24), "of 30 x 48 x 48 it would be 240 x 192 x 192 of three classes"
    assert field.array.shape[0] == 3
    monkeypatch.setattr(pace, "TRIAL_NUMBERS", 10**9)
    assert pace.block(GRID, fine, Options())[0].shape == (30, 48, 48)


def test_a_card_computes_as_many_windows_as_its_memory_holds() -> None:
    """The batch is the largest whose dry run fits half of the memory."""
    each = window_bytes(CONFIGURATION, 2, **ASKED) - window_bytes(CONFIGURATION, 1, **ASKED)
    for memory in (20 * each, 100 * each, 201 * each):
        batch = window_batch(CONFIGURATION, memory_bytes=memory, **ASKED)
        assert 1 < batch < 2**21 // 2048
        assert window_bytes(CONFIGURATION, batch, **ASKED) <= memory / 2
        assert window_bytes(CONFIGURATION, batch + 1, **ASKED) > memory / 2
    assert window_batch(CONFIGURATION, memory_bytes=1.0, **ASKED) == 1
    assert window_batch(CONFIGURATION, memory_bytes=float("inf"), **ASKED) == 2**21 // 2048


def test_the_slab_gets_what_the_windows_leave() -> None:
    one = window_bytes(CONFIGURATION, 1, precision="float32", device="cpu")
    huge = CONFIGURATION.model_copy(update={"patch_shape": (64, 64, 64)})
    large = window_bytes(huge, 1, precision="float32", device="cpu")
    asked = {"precision": "float32", "device": "cpu"}
    assert slab_memory([(huge, False)], memory_bytes=4 * large, wanted=2 * large, **asked) == 3 * large
    assert slab_memory([(huge, False)], memory_bytes=large, wanted=large, **asked) == large / 4
    assert slab_memory([(CONFIGURATION, False)], memory_bytes=100 * one, wanted=10, **asked) == 100 * one


def test_a_precision_that_the_device_lacks_is_refused() -> None:
    assert options_for("float16", device="cpu").precision == "float32"
    assert options_for("bfloat16", device="cpu", precision="float32").precision == "float32"
    with pytest.raises(UsageError, match=r"does not compute in float16.*There are: float32"):
        options_for("float32", device="cpu", precision="float16")


def test_probabilities_on_disk_are_those_in_memory(tmp_path) -> None:
    image = Image(np.random.default_rng(0).uniform(0, 2, (1, *GRID.shape)).astype(np.float32), GRID)
    keys = {"case": "a", "labels": LABELS, "probabilities": True, "options": Options(memory_gb=0.001)}
    held = predicting.predict_scan(image, [member(torch.nn.Sequential(Counted()))], **keys)
    kept = predicting.predict_scan(image, [member(torch.nn.Sequential(Counted()))], scratch=tmp_path, **keys)
    assert kept.probabilities.dtype == np.float16
    np.testing.assert_allclose(kept.probabilities, held.probabilities, atol=6e-4)
    np.testing.assert_array_equal(kept.labels.array, held.labels.array)
    assert list(tmp_path.iterdir()) == [], "the file has no name"
