import numpy as np
import pytest
import torch
from scipy import ndimage

from autoseg.networks.blobs import blob_loss, pieces


@pytest.mark.parametrize("shape", [(14, 18, 16), (40, 30)])
@pytest.mark.parametrize("density", [0.03, 0.1, 0.2])
def test_pieces_are_those_of_scipy(shape, density):
    rng = np.random.default_rng(0)
    masks = rng.random((3, *shape)) < density
    found = pieces(torch.from_numpy(masks)).view(masks.shape).numpy()
    for number, mask in zip(found, masks, strict=True):
        expected, count = ndimage.label(mask, np.ones([3] * mask.ndim))
        assert len(np.unique(number[mask])) == count
        pairs = set(zip(number[mask].tolist(), expected[mask].tolist(), strict=True))
        assert len(pairs) == count, "each piece has one number and each number one piece"
        assert (number[~mask] == 0).all()


def test_a_long_winding_piece_is_one():
    mask = torch.zeros(1, 30, 30, dtype=torch.bool)
    for row in range(0, 30, 4):  # a snake of 8 rows
        mask[0, row, 1:29] = True
        mask[0, row : row + 4, 28 if row % 8 == 0 else 1] = True
    assert len(pieces(mask).unique()) == 2


def test_a_missed_lesion_costs_the_same_however_small():
    """Two lesions of 1 and 16 voxels; what is found is found surely. By voxels the small one is a seventeenth."""
    truth = torch.zeros(1, 10, 10, dtype=torch.bool)
    truth[0, 1, 1] = True
    truth[0, 4:8, 4:8] = True
    everywhere = torch.ones(1, 10, 10)
    small_missed, large_missed = truth.float(), truth.float()
    small_missed[0, 1, 1] = 0
    large_missed[0, 4:8, 4:8] = 0
    assert blob_loss(small_missed, truth, everywhere).item() == pytest.approx(0.5, abs=1e-4)
    assert blob_loss(large_missed, truth, everywhere).item() == pytest.approx(0.5, abs=1e-4)
    assert blob_loss(truth.float(), truth, everywhere).item() == pytest.approx(0, abs=1e-6)


def test_a_false_alarm_costs_each_lesion():
    truth = torch.zeros(1, 10, 10, dtype=torch.bool)
    truth[0, 1, 1] = truth[0, 8, 8] = True
    alarmed = truth.float()
    alarmed[0, 1, 8] = 1
    # Each lesion: one voxel hit, one outside, one true: 2 / 3.
    assert blob_loss(alarmed, truth, torch.ones(1, 10, 10)).item() == pytest.approx(1 / 3, abs=1e-4)


def test_without_a_lesion_there_is_no_loss_and_a_gradient():
    inside = torch.full((1, 4, 4), 0.5, requires_grad=True)
    value = blob_loss(inside, torch.zeros(1, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4))
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(inside.grad).all()
