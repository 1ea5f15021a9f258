import numpy as np
import pytest
import torch
from torch import nn

from autoseg.images.fields import Field
from autoseg.images.home import home
from autoseg.images.proposals import LEVELS, Foreground, covered
from autoseg.networks import sliding_window
from autoseg.networks.passes import Setting
from autoseg.records.configuration import Regions
from autoseg.records.errors import DataError
from autoseg.records.geometry import Box
from autoseg.stages.predicting.held_out import to_probabilities
from autoseg.stages.predicting.proposing import foreground_of
from autoseg.stages.predicting.regional import compute, regions_of, sure_background, widened
from autoseg.stages.predicting.streaming import Computed
from tests.images.test_proposals import passage

SHAPE = (20, 24, 22)
PATCH = (8, 8, 8)
SURE = sure_background(2, "softmax")


class Bright(nn.Module):
    """Foreground where the image is bright: the logits follow voxel by voxel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-x, x], dim=1)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 1, (1, *SHAPE)).astype(np.float32))


def setting(patch=PATCH) -> Setting:
    return Setting(networks=(Bright(),), patch=patch, dimensions=3)


def boxes(*items) -> np.ndarray:
    return np.array(items, np.int32).reshape(-1, 2, 3)


def test_a_region_that_holds_everything_is_the_whole_image(image):
    found = compute(setting(), image, boxes([[0, 0, 0], SHAPE]), background=SURE, case="a")
    assert np.array_equal(found.whole(), sliding_window.whole(setting(), image)[0].numpy())


def test_inside_the_network_speaks_and_outside_all_is_background(image):
    regions = boxes([[1, 1, 1], [5, 4, 6]], [[4, 3, 5], [7, 8, 9]], [[15, 18, 2], [20, 24, 4]])
    logits = compute(setting(), image, regions, background=SURE, case="a").whole()
    inside = covered(regions, SHAPE)
    assert np.allclose(logits[1][inside], image[0].numpy()[inside], atol=1e-6)
    assert (logits[0][~inside] == 12).all()
    assert (logits[1][~inside] == -12).all()


def test_without_a_proposal_nothing_is_computed(image):
    class Never(nn.Module):
        def forward(self, x):
            raise AssertionError("was asked")

    nobody = Setting(networks=(Never(),), patch=PATCH, dimensions=3)
    found = compute(nobody, image, boxes(), background=SURE, case="a")
    assert (found.whole()[0] == 12).all()


def test_rows_of_a_part_are_those_of_the_whole(image):
    regions = boxes([[1, 1, 1], [5, 14, 6]], [[12, 3, 5], [18, 8, 19]])
    found = compute(setting(), image, regions, background=SURE, case="a")
    part = Box(start=(2, 0, 4), stop=(16, 24, 20))
    rows = found.open(1, part)
    assert np.array_equal(rows.read(3, 9).numpy(), found.whole()[:, 2:16, 3:9, 4:20])


def test_regions_go_home_as_a_source_and_as_an_array(image):
    way = passage(SHAPE)
    found = compute(setting(), image, boxes([[1, 1, 1], [9, 14, 9]]), background=SURE, case="a")
    lazily, at_once = (home([Field(array, way)], output="softmax") for array in (found, found.whole()))
    assert np.array_equal(lazily, at_once)
    assert 0 < lazily.mean() < 0.2


def test_overlapping_classes_are_absent_outside():
    assert sure_background(3, "sigmoid").tolist() == [-12, -12, -12]
    assert to_probabilities(sure_background(3, "softmax").view(3, 1, 1, 1).numpy(), "softmax")[0] == 1


@pytest.mark.parametrize(
    ("box", "around"),
    [
        (Box(start=(9, 10, 10), stop=(11, 12, 12)), Box(start=(6, 7, 7), stop=(14, 15, 15))),
        (Box(start=(0, 22, 0), stop=(1, 24, 2)), Box(start=(0, 16, 0), stop=(8, 24, 8))),
        (Box(start=(2, 2, 2), stop=(18, 5, 5)), Box(start=(2, 0, 0), stop=(18, 8, 8))),
    ],
)
def test_a_small_box_is_seen_in_the_middle_of_a_window_inside_the_image(box, around):
    assert widened(box, PATCH, SHAPE) == around
    assert widened(Box(start=(0, 0, 0), stop=(2, 2, 2)), (64, 64, 64), SHAPE).stop == SHAPE


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_new_scans_and_stored_ones_propose_alike(output, image, tmp_path):
    from autoseg.images.store import write_probabilities
    from autoseg.records.markers import StoredField
    from autoseg.stages.predicting.proposing import stored_foreground
    from autoseg.storage import write_record

    logits = np.concatenate([-image.numpy(), image.numpy(), 2 * image.numpy()])
    way = passage(SHAPE)
    fresh = foreground_of(Field(logits, way), output)
    write_probabilities(tmp_path / "a.b2nd", to_probabilities(logits, output))
    write_record(tmp_path / "a.json", StoredField(case="a", member="m", passage=way, inputs_digest="d", seconds=1.0))
    kept = stored_foreground(tmp_path, "a", output)
    # Where two classes are nearly as likely, what is stored was lifted by one level.
    assert np.abs(fresh.levels.astype(int) - kept.levels).max() <= 1
    assert np.mean(fresh.levels == kept.levels) > 0.95


def test_a_source_and_an_array_propose_alike(image):
    found = compute(setting(), image, boxes([[1, 1, 1], [9, 14, 9]]), background=SURE, case="a")
    way = passage(SHAPE)
    lazily, at_once = (foreground_of(Field(array, way), "softmax") for array in (found, found.whole()))
    assert np.array_equal(lazily.levels, at_once.levels)


def test_a_first_stage_that_does_not_fit_the_memory_is_read_in_tiles(image):
    way, source = passage(SHAPE), Computed(image, setting(), 2, "a")
    held = source.bytes_held(0, SHAPE)
    assert foreground_of(Field(source, way), "softmax", memory_bytes=held / 4).levels.tolist() == (
        foreground_of(Field(source, way), "softmax").levels.tolist()
    )


class Configured:
    name = "unet_3d_regions"

    def __init__(self, threshold):
        self.regions = Regions(configuration="unet_3d", sensitivity=0.98, margin_mm=2.0, threshold=threshold)


def test_regions_are_what_the_threshold_proposes_and_a_margin():
    levels = np.zeros(SHAPE, np.uint8)
    levels[10, 10, 10], levels[3, 3, 3] = 51, 50
    foreground = Foreground(levels, passage(SHAPE), "softmax")
    found = regions_of(foreground, passage(SHAPE), Configured(51 / LEVELS), case="a")
    assert found.tolist() == [[[8, 8, 8], [13, 13, 13]]]


def test_a_model_without_a_threshold_says_so():
    foreground = Foreground(np.zeros(SHAPE, np.uint8), passage(SHAPE), "softmax")
    with pytest.raises(DataError, match="without a threshold"):
        regions_of(foreground, passage(SHAPE), Configured(None), case="a")
