"""Windows: nothing is lost, nothing is seen that is not a neighbour, and shifting joins the windows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autoseg.networks import swin_unetr, windows

GRIDS = [((4, 6), (2, 3)), ((5, 7), (2, 3)), ((3, 4, 5), (2, 2, 2)), ((4, 4, 4), (7, 2, 7)), ((1, 1, 3), (2, 2, 2))]
every_grid = pytest.mark.parametrize(("grid", "window"), GRIDS)
either_cut = pytest.mark.parametrize("shifted", [False, True])


def seen(grid: tuple[int, ...], window: tuple[int, ...], *, shifted: bool) -> Tensor:
    """Which token (column) each token (row) sees: attention that mixes all it may see, evenly."""
    cut = windows.cut(grid, window, shifted=shifted)
    count = int(torch.tensor(grid).prod())
    tokens = torch.eye(count).reshape(1, *grid, count)
    inside = windows.partition(tokens, cut)
    hidden = windows.hidden_pairs(cut)
    allowed = torch.ones(len(inside), inside.shape[1], inside.shape[1]) if hidden is None else (~hidden).float()
    return windows.merge(allowed @ inside, cut).reshape(count, count)


def places(grid: tuple[int, ...]) -> Tensor:
    return torch.stack(torch.meshgrid(*(torch.arange(size) for size in grid), indexing="ij"), -1).reshape(-1, len(grid))


@every_grid
@either_cut
def test_identity_attention_gives_every_token_back(
    grid: tuple[int, ...], window: tuple[int, ...], shifted: bool
) -> None:
    x = torch.rand(2, *grid, 3)
    cut = windows.cut(grid, window, shifted=shifted)
    inside = windows.partition(x, cut)
    assert inside.shape[0] % 2 == 0
    assert torch.equal(windows.merge(inside, cut), x)


@every_grid
@either_cut
def test_a_token_sees_itself_and_only_tokens_closer_than_a_window(
    grid: tuple[int, ...], window: tuple[int, ...], shifted: bool
) -> None:
    mixed = seen(grid, window, shifted=shifted)
    assert set(mixed.unique().tolist()) <= {0.0, 1.0}
    assert bool(mixed.diagonal().all())
    assert torch.equal(mixed, mixed.T)
    distance = (places(grid)[:, None] - places(grid)[None]).abs()
    assert bool((distance < torch.tensor(window)).all(-1)[mixed > 0].all())


@every_grid
def test_without_a_shift_the_windows_are_blocks(grid: tuple[int, ...], window: tuple[int, ...]) -> None:
    block = places(grid) // torch.tensor(window)
    together = (block[:, None] == block[None]).all(-1)
    assert torch.equal(seen(grid, window, shifted=False) > 0, together)


@every_grid
def test_shifted_windows_join_all_blocks(grid: tuple[int, ...], window: tuple[int, ...]) -> None:
    both = (seen(grid, window, shifted=False) @ seen(grid, window, shifted=True)).bool().float()
    reached = torch.linalg.matrix_power(both, 16)
    assert bool((reached > 0).all())


def test_a_window_larger_than_the_grid_is_the_grid() -> None:
    cut = windows.cut((3, 2, 4), (7, 7, 7), shifted=True)
    assert (cut.size, cut.shift, cut.padded) == ((3, 2, 4), (0, 0, 0), (3, 2, 4))
    assert windows.hidden_pairs(cut) is None


def test_the_corner_of_a_shifted_row_is_two_regions() -> None:
    """Four tokens, windows of two, shifted by one: 1 2 | 3 0, and 3 and 0 are ends of the row."""
    hidden = windows.hidden_pairs(windows.cut((4,), (2,), shifted=True))
    assert hidden is not None
    assert hidden.tolist() == [[[False, False], [False, False]], [[False, True], [True, False]]]


def test_padding_is_not_seen() -> None:
    hidden = windows.hidden_pairs(windows.cut((3,), (2,), shifted=False))
    assert hidden is not None
    assert hidden[1].tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("size", [(3, 4), (2, 3)])
def test_equal_distances_share_a_row_and_others_do_not(size: tuple[int, int]) -> None:
    """The table is that of 3 x 4 windows, whatever part of it is in use."""
    rows = windows.relative_places(size, (3, 4))
    distance = places(size)[:, None] - places(size)[None]
    found: dict[int, tuple[int, ...]] = {}
    for row, apart in zip(rows.flatten().tolist(), distance.reshape(-1, 2).tolist()):
        assert found.setdefault(row, tuple(apart)) == tuple(apart)
    assert len(set(found.values())) == len(found) == (2 * size[0] - 1) * (2 * size[1] - 1)
    assert rows[0, 0] == 2 * 7 + 3
    assert max(found) < 5 * 7


def test_a_block_does_not_mix_windows() -> None:
    torch.manual_seed(0)
    block = swin_unetr.SwinBlock(4, 2, window=(2, 2), shifted=False)
    x = torch.rand(1, 4, 4, 4, requires_grad=True)
    block(x)[0, 0, 0].sum().backward()
    assert x.grad is not None
    touched = x.grad.abs().sum(-1)[0] > 0
    assert touched[:2, :2].all()
    assert not touched[2:].any()
    assert not touched[:, 2:].any()


def test_merging_joins_neighbours_along_its_axes_only() -> None:
    merging = swin_unetr.Merging(1, (1, 2))
    merging.norm = torch.nn.Identity()
    with torch.no_grad():
        merging.reduce.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    x = torch.arange(8.0).reshape(1, 2, 4, 1)
    assert merging(x)[0].tolist() == [[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]]]
