"""The losses against dense formulas written down a second time, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from autoseg.networks.blobs import blob_loss
from autoseg.networks.losses import Target, make_loss, output_weights, region_targets, shrink_labels
from autoseg.records.labels import Labels, Region, Structure
from autoseg.records.preset import Recipe


def structures(count: int, **more: object) -> Labels:
    items = tuple(Structure(name=f"s{value}", value=value, original=value) for value in range(1, count + 1))
    return Labels(structures=items, **more)


def recipe(loss: str = "dice_ce") -> Recipe:
    return Recipe(loss=loss)


def sample(classes: int = 4, batch: int = 3, shape: tuple[int, ...] = (4, 5, 6)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(batch, classes, *shape, generator=generator, requires_grad=True)
    return logits, torch.randint(0, classes, (batch, *shape), generator=generator, dtype=torch.uint8)


def dense(logits: torch.Tensor, labels: torch.Tensor, *, batch: bool) -> torch.Tensor:
    p = torch.softmax(logits, 1)
    truth = functional.one_hot(labels.long(), logits.shape[1]).movedim(-1, 1).float()
    axes = tuple(range(2, logits.ndim))
    if batch:
        axes = (0, *axes)
    dice = (2 * (p * truth).sum(axes) + 1e-5) / (p.sum(axes) + truth.sum(axes) + 1e-5)
    return 1 - dice[..., 1:].mean() + functional.cross_entropy(logits, labels.long())


def gradient(value: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(value, logits, retain_graph=True)[0]


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("shape", [(4, 5, 6), (6, 7)])
def test_equals_the_dense_formula_and_its_gradient(batch: bool, shape: tuple[int, ...]) -> None:
    logits, labels = sample(shape=shape)
    mine = make_loss(recipe(), structures(3), batch_dice=batch)(logits, Target(labels))
    other = dense(logits, labels, batch=batch)
    torch.testing.assert_close(mine, other)
    torch.testing.assert_close(gradient(mine, logits), gradient(other, logits), rtol=1e-4, atol=1e-7)


def test_is_zero_when_right_and_sure() -> None:
    _, labels = sample()
    logits = 100 * functional.one_hot(labels.long(), 4).movedim(-1, 1).float()
    value = make_loss(recipe(), structures(3), batch_dice=False)(logits, Target(labels))
    assert value.item() == pytest.approx(0, abs=1e-6)


def test_bfloat16_logits_are_summed_in_float32() -> None:
    logits, labels = sample()
    rounded = logits.detach().bfloat16()
    loss = make_loss(recipe(), structures(3), batch_dice=False)
    value = loss(rounded, Target(labels))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(rounded.float(), Target(labels)))


@pytest.mark.parametrize("kind", ["dice_ce", "dice_focal", "ce"])
def test_ignored_voxels_count_as_if_they_were_cut_away(kind: str) -> None:
    logits, labels = sample()
    labels[:, 2:] = 4
    loss = make_loss(recipe(kind), structures(3, ignore=255), batch_dice=False)
    whole = loss(logits, Target(labels))
    cut = loss(logits[:, :, :2], Target(labels[:, :2]))
    torch.testing.assert_close(whole, cut)
    assert gradient(whole, logits)[:, :, 2:].abs().max() == 0
    torch.testing.assert_close(gradient(whole, logits), gradient(cut, logits))


def test_a_batch_of_ignored_voxels_only_teaches_nothing() -> None:
    logits, labels = sample()
    value = make_loss(recipe("ce"), structures(3, ignore=255), batch_dice=False)(logits, Target(labels * 0 + 4))
    assert value.item() == 0
    assert gradient(value, logits).abs().max() == 0


@pytest.mark.parametrize("kind", ["dice_ce", "dice_focal", "dice_topk", "ce"])
@pytest.mark.parametrize("batch", [False, True])
def test_everything_annotated_is_exactly_the_ordinary_loss(kind: str, batch: bool) -> None:
    logits, labels = sample()
    loss = make_loss(recipe(kind), structures(3), batch_dice=batch)
    plain = loss(logits, Target(labels))
    marginal = loss(logits, Target(labels, torch.ones(3, 4, dtype=torch.bool)))
    assert marginal.item() == plain.item()
    torch.testing.assert_close(gradient(marginal, logits), gradient(plain, logits), rtol=1e-6, atol=1e-9)


def test_background_swallows_what_was_not_annotated() -> None:
    logits = torch.tensor([1.0, 2.0, 0.5]).view(1, 3, 1, 1, 1).requires_grad_()
    labels = torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
    annotated = torch.tensor([[True, False, True]])
    value = make_loss(recipe("ce"), structures(2), batch_dice=False)(logits, Target(labels, annotated))
    e0, e1, e2 = math.exp(1), math.exp(2), math.exp(0.5)
    assert value.item() == pytest.approx(-math.log((e0 + e1) / (e0 + e1 + e2)), rel=1e-6)


def test_marginal_gradient_is_that_of_the_dense_formula() -> None:
    logits, labels = sample()
    annotated = torch.tensor([[True, True, False, True], [True, True, True, True], [True, False, False, True]])
    labels = (labels * annotated.gather(1, labels.flatten(1).long()).view_as(labels)).to(torch.uint8)
    mine = make_loss(recipe(), structures(3), batch_dice=False)(logits, Target(labels, annotated))

    p = torch.softmax(logits, 1)
    merged = (~annotated).float()
    merged[:, 0] = 1
    background = (p * merged[:, :, None, None, None]).sum(1)
    truth = torch.where(labels == 0, background, p.gather(1, labels.long()[:, None])[:, 0])
    onehot = functional.one_hot(labels.long(), 4).movedim(-1, 1).float()
    axes = (2, 3, 4)
    dice = (2 * (p * onehot).sum(axes) + 1e-5) / (p.sum(axes) + onehot.sum(axes) + 1e-5)
    counted = annotated[:, 1:].float()
    other = -truth.log().mean() + ((1 - dice[:, 1:]) * counted).sum() / counted.sum()

    torch.testing.assert_close(mine, other)
    torch.testing.assert_close(gradient(mine, logits), gradient(other, logits), rtol=1e-4, atol=1e-7)


def test_batch_dice_leaves_a_class_out_that_nobody_annotated() -> None:
    logits, labels = sample()
    labels[labels == 2] = 0
    annotated = torch.tensor([[True, True, False, True]]).repeat(3, 1)
    both = make_loss(recipe(), structures(3), batch_dice=True)(logits, Target(labels, annotated))
    ce = make_loss(recipe("ce"), structures(3), batch_dice=True)(logits, Target(labels, annotated))
    p = torch.softmax(logits, 1)
    dice = [(2 * p[:, k][labels == k].sum() + 1e-5) / (p[:, k].sum() + (labels == k).sum() + 1e-5) for k in (1, 3)]
    torch.testing.assert_close(both - ce, 1 - (dice[0] + dice[1]) / 2)


def test_reduce_makes_two_ranks_one_batch() -> None:
    logits, labels = sample(batch=2)
    whole = make_loss(recipe(), structures(3), batch_dice=True)(logits, Target(labels))
    ce = make_loss(recipe("ce"), structures(3), batch_dice=True)
    calls: list[torch.Tensor] = []
    make_loss(recipe(), structures(3), batch_dice=True, ranks=2, reduce=lambda x: calls.append(x) or x)(
        logits[1:], Target(labels[1:])
    )
    others = iter(calls)
    first = make_loss(recipe(), structures(3), batch_dice=True, ranks=2, reduce=lambda x: x + next(others))
    mine = first(logits[:1], Target(labels[:1])) - ce(logits[:1], Target(labels[:1]))
    torch.testing.assert_close(mine, whole - ce(logits, Target(labels)))


def test_focal_by_hand() -> None:
    logits = torch.zeros(1, 2, 1, 1, 1)
    labels = torch.ones(1, 1, 1, 1, dtype=torch.uint8)
    loss = make_loss(recipe("dice_focal"), structures(1), batch_dice=False)(logits, Target(labels))
    assert loss.item() == pytest.approx(math.log(2) / 4 + 1 - 2 * 0.5 / 1.5, rel=1e-4)


def test_topk_takes_the_hardest_tenth() -> None:
    logits = torch.zeros(1, 2, 1, 4, 5)
    logits[0, 0, 0, 0, :2] = torch.tensor([3.0, 5.0])
    labels = torch.ones(1, 1, 4, 5, dtype=torch.uint8)
    both = make_loss(recipe("dice_topk"), structures(1), batch_dice=False)(logits, Target(labels))
    p = torch.softmax(logits, 1)[:, 1]
    dice = (2 * p.sum() + 1e-5) / (p.sum() + 20 + 1e-5)
    hardest = (math.log1p(math.exp(3)) + math.log1p(math.exp(5))) / 2
    assert both.item() == pytest.approx(hardest + 1 - dice.item(), rel=1e-5)


def regions() -> Labels:
    pair = (
        Region(name="whole", values=(1, 2, 3), original=1),
        Region(name="core", values=(2, 3), original=2),
        Region(name="rim", values=(1,), original=3),
    )
    return structures(3, regions=pair)


def test_region_targets_overlap() -> None:
    labels = torch.tensor([[[[0, 1, 2, 3]]]], dtype=torch.uint8)
    expected = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 0, 0]]).float()
    assert torch.equal(region_targets(labels, regions())[0, :, 0, 0], expected)


def test_regions_learn_with_sigmoids() -> None:
    logits, labels = sample(classes=3)
    value = make_loss(recipe(), regions(), batch_dice=False)(logits, Target(labels))
    truth = region_targets(labels, regions())
    p = torch.sigmoid(logits)
    axes = (2, 3, 4)
    dice = (2 * (p * truth).sum(axes) + 1e-5) / (p.sum(axes) + truth.sum(axes) + 1e-5)
    expected = 1 - dice.mean() + functional.binary_cross_entropy(p, truth)
    torch.testing.assert_close(value, expected)


def test_a_region_with_an_unannotated_structure_is_left_out_of_that_sample() -> None:
    logits, labels = sample(classes=3, batch=2)
    annotated = torch.tensor([[True, True, False, True], [True, True, True, True]])
    value = make_loss(recipe(), regions(), batch_dice=False)(logits, Target(labels, annotated))
    slope = gradient(value, logits)
    assert slope[0, :2].abs().max() == 0
    assert slope[0, 2].abs().max() > 0
    assert slope[1].abs().amax(dim=(1, 2, 3)).min() > 0


def test_output_weights_halve_and_the_coarsest_is_left_out() -> None:
    assert output_weights(1) == (1.0,)
    assert output_weights(2) == (1.0, 0.0)
    assert output_weights(4) == pytest.approx((4 / 7, 2 / 7, 1 / 7, 0))


def test_deep_supervision_is_the_weighted_sum_of_its_levels() -> None:
    logits, labels = sample(shape=(4, 8, 8))
    half = torch.randn(3, 4, 4, 4, 4)
    coarse = torch.full((3, 4, 2, 2, 2), torch.nan)
    loss = make_loss(recipe(), structures(3), batch_dice=False)
    value = loss([logits, half, coarse], Target(labels))
    fine = loss(logits, Target(labels))
    small = loss(half, Target(shrink_labels(labels, (4, 4, 4))))
    torch.testing.assert_close(value, fine * 2 / 3 + small / 3)


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (5, 2), (8, 12)])
def test_label_pyramid_is_nearest_exact(shape: tuple[int, int]) -> None:
    labels = torch.randint(0, 9, (2, 8, 12))
    expected = functional.interpolate(labels[:, None].float(), shape, mode="nearest-exact")[:, 0]
    assert torch.equal(shrink_labels(labels, shape).float(), expected)


@pytest.mark.parametrize("labels", [structures(3), structures(3, ignore=9), regions()])
def test_runs_on_fake_tensors(labels: Labels) -> None:
    with FakeTensorMode():
        logits = torch.randn(2, labels.output_channels, 4, 4, 4, requires_grad=True)
        target = Target(torch.zeros(2, 4, 4, 4, dtype=torch.uint8), torch.ones(2, 4, dtype=torch.bool))
        for kind in ("dice_ce", "dice_topk"):
            make_loss(recipe(kind), labels, batch_dice=False)(logits, target).backward()
        assert logits.grad is not None


def test_batch_dice_counts_a_class_over_the_samples_where_it_was_annotated() -> None:
    logits, labels = sample(classes=2, batch=2)
    labels[1] = 0
    annotated = torch.tensor([[True, True], [True, False]])
    both = make_loss(recipe(), structures(1), batch_dice=True)(logits, Target(labels, annotated))
    ce = make_loss(recipe("ce"), structures(1), batch_dice=True)(logits, Target(labels, annotated))
    p = torch.softmax(logits, 1)[0, 1]
    dice = (2 * p[labels[0] == 1].sum() + 1e-5) / (p.sum() + (labels[0] == 1).sum() + 1e-5)
    torch.testing.assert_close(both - ce, 1 - dice)


@pytest.mark.parametrize("kind", ["dice_ce", "ce"])
def test_a_structure_drawn_where_it_does_not_count_is_background(kind: str) -> None:
    logits, labels = sample()
    annotated = torch.tensor([[True, True, False, True]]).repeat(3, 1)
    loss = make_loss(recipe(kind), structures(3), batch_dice=False)
    erased = torch.where(labels == 2, 0, labels)
    assert loss(logits, Target(labels, annotated)).item() == loss(logits, Target(erased, annotated)).item()


def test_a_batch_taken_in_parts_is_the_batch_taken_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = sample()
    loss = make_loss(recipe(), structures(3), batch_dice=True)
    whole = loss(logits, Target(labels))
    slope = gradient(whole, logits)
    monkeypatch.setattr("autoseg.networks.softmax_sums.CHUNK_NUMBERS", 1)
    parts = loss(logits, Target(labels))
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(gradient(parts, logits), slope)


def test_tversky_by_hand() -> None:
    logits, labels = sample(classes=2, batch=1)
    settings = Recipe(loss="tversky_ce", tversky_alpha=0.2, tversky_beta=0.8)
    both = make_loss(settings, structures(1), batch_dice=False)(logits, Target(labels))
    p, truth = torch.softmax(logits, 1)[0, 1], labels[0] == 1
    hit, false_positive, false_negative = p[truth].sum(), p[~truth].sum(), (1 - p[truth]).sum()
    index = (2 * hit + 1e-5) / (2 * (hit + 0.2 * false_positive + 0.8 * false_negative) + 1e-5)
    torch.testing.assert_close(both, 1 - index + functional.cross_entropy(logits, labels.long()))


def test_tversky_with_halves_is_dice_to_the_last_digit() -> None:
    logits, labels = sample()
    settings = Recipe(loss="tversky_ce", tversky_alpha=0.5, tversky_beta=0.5)
    values = [make_loss(item, structures(3), batch_dice=True)(logits, Target(labels)) for item in (settings, recipe())]
    assert values[0].item() == values[1].item()


def test_weighted_cross_entropy_is_that_of_torch() -> None:
    logits, labels = sample()
    weights = (0.2, 1.0, 2.0, 5.0)
    mine = make_loss(recipe("ce"), structures(3), batch_dice=False, weights=weights)(logits, Target(labels))
    other = functional.cross_entropy(logits, labels.long(), torch.tensor(weights))
    torch.testing.assert_close(mine, other)
    torch.testing.assert_close(gradient(mine, logits), gradient(other, logits), rtol=1e-4, atol=1e-7)


def test_weights_leave_dice_as_it_is() -> None:
    logits, labels = sample()
    weights = (0.2, 1.0, 2.0, 5.0)
    parts = [
        make_loss(recipe(kind), structures(3), batch_dice=False, weights=item)(logits, Target(labels))
        for item in (None, weights)
        for kind in ("dice_ce", "ce")
    ]
    torch.testing.assert_close(parts[0] - parts[1], parts[2] - parts[3])


def test_positive_weights_of_regions_are_those_of_torch() -> None:
    logits, labels = sample(classes=3)
    settings = Recipe(loss="ce", positive_weight=2.0)
    mine = make_loss(settings, regions(), batch_dice=False, weights=(1.0, 3.0, 5.0))(logits, Target(labels))
    truth = region_targets(labels, regions())
    weight = torch.tensor([2.0, 6.0, 10.0]).view(3, 1, 1, 1)
    bce = functional.binary_cross_entropy_with_logits(logits, truth, pos_weight=weight, reduction="sum")
    # torch divides by the number of voxels; here by what they weigh, so that the loss stays of one size.
    torch.testing.assert_close(mine, bce / (1 + truth * (weight - 1)).sum())


def test_the_blob_term_is_added_to_the_finest_output_only() -> None:
    logits, labels = sample(shape=(4, 8, 8))
    coarse = [torch.randn(3, 4, 4, 4, 4), torch.randn(3, 4, 2, 2, 2)]
    plain, more = (make_loss(Recipe(blob_weight=weight), structures(3), batch_dice=False) for weight in (0.0, 2.0))
    term = (more([logits, *coarse], Target(labels)) - plain([logits, *coarse], Target(labels))) / 2
    expected = blob_loss(1 - torch.softmax(logits, 1)[:, 0], labels > 0, torch.ones(labels.shape))
    torch.testing.assert_close(term, expected)


def test_the_blob_term_leaves_out_samples_that_were_annotated_in_part_and_ignored_voxels() -> None:
    logits, labels = sample(batch=2)
    labels[:, 2:] = 4
    annotated = torch.tensor([[True] * 4, [True, True, False, True]])
    plain, more = (
        make_loss(Recipe(blob_weight=weight), structures(3, ignore=255), batch_dice=False) for weight in (0.0, 1.0)
    )
    term = more(logits, Target(labels, annotated)) - plain(logits, Target(labels, annotated))
    inside = 1 - torch.softmax(logits[:1, :, :2], 1)[:, 0]
    torch.testing.assert_close(term, blob_loss(inside, labels[:1, :2] > 0, torch.ones(1, 2, 5, 6)))


def test_the_blob_term_of_regions_runs_on_fake_tensors() -> None:
    with FakeTensorMode():
        logits = torch.randn(2, 3, 4, 4, 4, requires_grad=True)
        target = Target(torch.zeros(2, 4, 4, 4, dtype=torch.uint8), torch.ones(2, 4, dtype=torch.bool))
        make_loss(Recipe(blob_weight=1.0), regions(), batch_dice=False)(logits, target).backward()
        assert logits.grad is not None
