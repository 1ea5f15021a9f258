import numpy as np
import pytest

from autoseg.images.fields import Field
from autoseg.images.signs import SIGNS, signs_of
from autoseg.records.geometry import Box, Grid
from autoseg.records.volumes import Passage


def field(*organs: np.ndarray, output: str = "softmax", spacing_mm=(1, 1, 1)) -> Field:
    """Probabilities of one scan, (Z, Y, X) a structure, as logits."""
    shape = organs[0].shape
    grid = Grid(shape=shape, spacing_mm=spacing_mm)
    passage = Passage(original=grid, oriented=grid, crop=Box(start=(0, 0, 0), stop=shape), network=grid)
    shares = np.clip(np.stack(organs), 1e-6, 1 - 1e-6)
    if output == "softmax":
        return Field(np.log(np.concatenate([1 - shares.sum(0, keepdims=True), shares])).astype(np.float32), passage)
    return Field(np.log(shares / (1 - shares)).astype(np.float32), passage)


def named(row: np.ndarray) -> dict[str, float]:
    return dict(zip(SIGNS, row.tolist(), strict=True))


def test_four_voxels_by_hand():
    (row,) = signs_of([field(np.array([[[0.9, 0.6, 0.4, 0.1]]]))], output="softmax")
    found = named(row)  # 0.9 and 0.6 were predicted
    assert found["expected_dice"] == pytest.approx(2 * 1.5 / (2.0 + 2))
    assert found["log_volume"] == pytest.approx(np.log(3))
    assert found["core"] == pytest.approx(0.75)
    assert found["threshold_dice"] == pytest.approx(0)  # none is 95 % sure, all four are 5 % sure
    assert found["shell"] == pytest.approx(np.log(4 * (0.09 + 0.24 + 0.24 + 0.09) / 10))  # two cubes show 10 faces
    assert found["compactness"] == pytest.approx(np.log(10 / 2 ** (2 / 3)))
    assert found["loose"] == 0
    assert found["whole"] == pytest.approx(found["expected_dice"]), "there is but one structure"


def test_surface_and_shell_are_in_mm_and_a_second_piece_is_loose():
    organ = np.zeros((3, 3, 7))
    organ[1, 1, 1:4] = 1
    organ[1, 1, 5] = 1
    found = named(signs_of([field(organ, spacing_mm=(2, 1, 1))], output="softmax")[0])
    assert found["loose"] == pytest.approx(0.25)
    area = 8 * 1 + 8 * 2 + 4 * 2  # faces of z, y and x: of 1, 2 and 2 mm2
    assert found["compactness"] == pytest.approx(np.log(area / 8 ** (2 / 3)))


def test_regions_are_looked_at_one_by_one_and_nothing_predicted_is_nothing_expected():
    shares = [np.array([[[0.9, 0.9, 0.1, 0.1]]]), np.full((1, 1, 4), 0.2)]
    found = signs_of([field(*shares, output="sigmoid")], output="sigmoid")
    np.testing.assert_allclose(found[0, :3], [2 * 1.8 / 4, np.log(3), 0.9], atol=1e-6)
    assert not found[1].any()


def test_a_sharper_prediction_shows_better_signs():
    z, y, x = np.ogrid[:21, :21, :21]
    radius = np.sqrt((z - 10.0) ** 2 + (y - 10) ** 2 + (x - 10) ** 2)
    sharp, blurred = (named(signs_of([field(1 / (1 + np.exp((radius - 6) / soft)))], output="softmax")[0])
                      for soft in (0.3, 1.2))  # fmt: skip
    assert sharp["log_volume"] == blurred["log_volume"]
    for sign in ("expected_dice", "core", "threshold_dice"):
        assert sharp[sign] > blurred[sign] + 0.02
    assert sharp["shell"] < blurred["shell"] - 0.5
