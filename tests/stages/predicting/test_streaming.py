"""Labels that are computed slab by slab and tile by tile are those of the whole volume at once."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.images import home
from autoseg.images.fields import Field
from autoseg.records.configuration import Normalization
from autoseg.records.errors import ResourceError, UserError
from autoseg.records.geometry import Box, Grid
from autoseg.records.volumes import Image
from autoseg.stages import predicting
from autoseg.stages.predicting import streaming
from autoseg.stages.predicting.fields import Member, Options, open_fields, predict_fields
from tests.images.by_hand import oblique
from tests.stages.training.records import LABELS, make_configuration

GRID = Grid(
    shape=(21, 34, 50), spacing_mm=(1.7, 0.8, 0.9), direction=oblique(4, order=(1, 0, 2), flips=(True, False, False))
)


class Filter(torch.nn.Module):
    """One convolution with weights drawn from a seed; exact whatever else is in the batch."""

    def __init__(self, seed: int, dimensions: int = 3):
        super().__init__()
        kind = torch.nn.Conv3d if dimensions == 3 else torch.nn.Conv2d
        self.convolution = kind(1, 3, 3, padding=1)
        drawn = torch.Generator().manual_seed(seed)
        for item in self.parameters():
            item.data = torch.randn(item.shape, generator=drawn)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # One patch at a time: a library may compute a batch by another kernel, with another last bit.
        return torch.cat([self.convolution(item[None]) for item in image])


def member(seed: int, *, dimensions: int = 3, folds: int = 1, axis_order: tuple[int, int, int] = (0, 1, 2)) -> Member:
    configuration = make_configuration(dimensions=dimensions).model_copy(
        update={
            "normalizations": (Normalization(channel="mr", kind="none"),),
            "spacing_mm": (2.0, 1.1, 1.0) if seed % 2 else (1.5, 1.5, 1.5),
            "axis_order": axis_order,
            "data_key": str((seed, axis_order)),
        }
    )
    networks = tuple(Filter(100 * seed + fold, dimensions).eval() for fold in range(folds))
    return Member(f"p/{seed}/base_s0", (f"{seed}",), configuration, networks, 1.0 + seed, "digest")


def scan() -> Image:
    array = np.random.default_rng(0).normal(size=(1, *GRID.shape)).astype(np.float32)
    return Image(array, GRID)


LINEUPS = {
    "one": [member(0)],
    "folds": [member(0, folds=2)],
    "slices": [member(2, dimensions=2, axis_order=(2, 0, 1))],
    "several": [member(0), member(1), member(3, dimensions=2, axis_order=(1, 0, 2))],
}


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", LINEUPS)
@settings(max_examples=2, deadline=None)
@given(st.floats(0, 200_000), st.integers(2_000, 200_000), st.integers(1, 20))
def test_slabs_tiles_and_batches_give_the_labels_of_the_whole_volume(
    name: str, output: str, memory_bytes: float, slab_bytes: int, window_batch: int
) -> None:
    keys = {"output": output, "region_values": (1, 2, 3)}
    fields = open_fields(scan(), LINEUPS[name], case="a", options=Options())
    whole = home.home(fields, **keys)
    assert len(np.unique(whole)) > 2
    batched = [
        replace(item, array=replace(item.array, setting=replace(item.array.setting, window_batch=window_batch)))
        for item in fields
    ]
    found = home.home(batched, **keys, memory_bytes=memory_bytes, slab_bytes=slab_bytes)
    np.testing.assert_array_equal(found, whole)


def test_streamed_labels_are_those_of_stored_logits() -> None:
    options = Options(step_fraction=0.6)
    stored = home.home(predict_fields(scan(), LINEUPS["folds"], case="a", options=options), output="softmax")
    prediction = predicting.predict_scan(scan(), LINEUPS["folds"], case="a", labels=LABELS, options=options)
    np.testing.assert_array_equal(prediction.labels.array, stored)


def test_labels_and_probabilities_come_from_one_pass() -> None:
    alone = predicting.predict_scan(scan(), LINEUPS["several"], case="a", labels=LABELS)
    both = predicting.predict_scan(scan(), LINEUPS["several"], case="a", labels=LABELS, probabilities=True)
    assert both.probabilities is not None
    np.testing.assert_array_equal(both.labels.array, alone.labels.array)
    np.testing.assert_array_equal(both.probabilities.argmax(0), alone.labels.array)


def test_tiles_shrink_to_the_memory_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="autoseg")
    options = Options(memory_gb=150_000 / 2**30)
    small = predicting.predict_scan(scan(), LINEUPS["one"], case="a", labels=LABELS, options=options)
    assert "a: computed in" in caplog.text
    large = predicting.predict_scan(scan(), LINEUPS["one"], case="a", labels=LABELS)
    np.testing.assert_array_equal(small.labels.array, large.labels.array)


def test_a_part_of_the_network_grid_gives_the_labels_there_and_background_elsewhere() -> None:
    (field,) = predict_fields(scan(), LINEUPS["one"], case="a", options=Options())
    inside = Box(start=(3, 4, 5), stop=(10, 15, 20))
    part = Field(field.array[(slice(None), *inside.slices())], field.passage, 1.0, inside)
    whole, found = (home.home([item], output="softmax") for item in (field, part))
    assert 0 < np.count_nonzero(found) < np.count_nonzero(whole)
    # Only voxels between the last rows inside and the first ones outside may differ.
    assert np.mean(found[found > 0] == whole[found > 0]) > 0.8


def test_memory_that_runs_out_is_tried_with_less_and_nothing_else_is() -> None:
    asked: list[float] = []

    def compute(device: str, memory_bytes: float) -> str:
        asked.append(memory_bytes)
        if memory_bytes > 30:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return device

    assert streaming.within_memory(compute, "cpu", 100.0, case="a") == "cpu"
    assert asked == [100.0, 50.0, 25.0]
    with pytest.raises(ResourceError, match="a: there is not enough memory for this scan"):
        streaming.within_memory(compute, "cpu", 1000.0, case="a")

    def broken(device: str, memory_bytes: float) -> str:
        asked.append(-1.0)
        raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    with pytest.raises(RuntimeError, match="CUDNN"):
        streaming.within_memory(broken, "cpu", 100.0, case="a")
    assert asked.count(-1.0) == 1


def test_values_that_are_not_finite_name_the_case() -> None:
    bad = member(0)
    bad.networks[0].convolution.bias.data[1] = torch.nan
    with pytest.raises(UserError, match="a: the network gave non-finite values"):
        predicting.predict_scan(scan(), [bad], case="a", labels=LABELS)
