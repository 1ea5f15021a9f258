"""`--fast`: what is found at a glance is predicted in full, the rest is not computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.images import orientation, regrid
from autoseg.records.configuration import Normalization
from autoseg.records.geometry import Box, Grid
from autoseg.records.preset import Augmentation, Recipe
from autoseg.records.volumes import Image, LabelMap
from autoseg.stages import predicting
from autoseg.stages.predicting.fields import Member, Options
from autoseg.stages.predicting.new_scans import coarsest
from autoseg.stages.predicting.region import region_on
from tests.images.by_hand import configuration, oblique
from tests.stages.training.records import LABELS, make_configuration

GRID = Grid(
    shape=(30, 150, 70), spacing_mm=(2.0, 1.0, 1.0), direction=oblique(0, order=(1, 0, 2), flips=(True, False, False))
)
FAST = Options(fast=True)


class Counted(torch.nn.Module):
    """Structure 1 where the image is above 1; counts the patches that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.patches += len(image)
        return torch.cat([torch.ones_like(image), 3 * (image - 1) + 1, -torch.ones_like(image)], 1)


def member(network: torch.nn.Module, *, spacing_mm: tuple[float | None, ...] = (2.0, 1.0, 1.0)) -> Member:
    recipe = Recipe(augmentation=Augmentation(mirror_probability=0.5))
    plain = make_configuration(recipe=recipe).model_copy(
        update={"normalizations": (Normalization(channel="mr", kind="none"),), "spacing_mm": spacing_mm}
    )
    return Member("p/tiny/base_s0", ("fold_0",), plain, (network.eval(),), 1.0, "digest")


def scan(*bright: Box) -> Image:
    array = np.full((1, *GRID.shape), 0.5, np.float32)
    for box in bright:
        array[(0, *box.slices())] = 1.5
    return Image(array, GRID)


def predict(image: Image, members: list[Member], options: Options) -> np.ndarray:
    return predicting.predict_scan(image, members, case="a", labels=LABELS, options=options).labels.array


def test_the_same_labels_from_fewer_patches() -> None:
    image = scan(Box(start=(4, 20, 30), stop=(8, 30, 40)), Box(start=(6, 40, 32), stop=(9, 44, 50)))
    counts, labels = [], []
    for options in (Options(), FAST):
        network = Counted()
        labels.append(predict(image, [member(network)], options))
        counts.append(network.patches)
    np.testing.assert_array_equal(labels[0], (image.array[0] > 1).astype(np.uint8))
    np.testing.assert_array_equal(labels[1], labels[0])
    assert counts[1] < 0.7 * counts[0]


def test_several_members_each_cut_their_own_grid() -> None:
    image = scan(Box(start=(4, 20, 30), stop=(8, 30, 40)))
    members = [member(Counted()), member(Counted(), spacing_mm=(2.0, 2.0, 2.0))]
    members[1] = replace(members[1], configuration=members[1].configuration.model_copy(update={"data_key": "coarse"}))
    np.testing.assert_array_equal(predict(image, members, FAST), predict(image, members, Options()))


def test_where_nothing_is_found_the_whole_scan_is_predicted_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="autoseg")
    assert not predict(scan(), [member(Counted())], FAST).any()
    assert "a: the quick pass found nothing, so the whole scan is predicted" in caplog.text


def test_the_largest_voxels_look_first() -> None:
    members = [
        member(Counted(), spacing_mm=spacing) for spacing in ((1.0, 1.0, 1.0), (None, 3.0, 3.0), (5.0, 1.0, 1.0))
    ]
    assert coarsest(members, GRID) is members[1]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 29), st.integers(0, 149), st.integers(0, 69)), min_size=1, max_size=3),
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([(2.0, 1.0, 1.0), (3.0, 1.7, 1.3)]),
)
def test_a_region_holds_what_was_found_and_a_whole_patch(
    voxels: list[tuple[int, int, int]], patch: tuple[int, int, int], spacing_mm: tuple[float, ...]
) -> None:
    found = np.zeros(GRID.shape, np.uint8)
    for voxel in voxels:
        found[voxel] = 1
    everything = Box(start=(0, 0, 0), stop=orientation.orient_grid(GRID).shape)
    passage = regrid.plan_passage(GRID, everything, configuration(spacing_mm=spacing_mm))
    whole = Box(start=(0, 0, 0), stop=passage.network.shape)
    box = region_on(LabelMap(found, GRID), passage, patch) or whole
    assert all(0 <= a < b <= size for a, b, size in zip(box.start, box.stop, passage.network.shape))
    assert all(b - a >= min(size, p) for a, b, size, p in zip(box.start, box.stop, passage.network.shape, patch))
    seen = np.argwhere(orientation.reorient(found, passage.original, passage.oriented))
    place = (seen + 0.5) * np.divide(passage.network.shape, passage.crop.shape)
    assert (place > box.start).all()
    assert (place < box.stop).all()
