import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from autoseg.records.labels import Labels, Region
from autoseg.stages.training import learner, measuring, resolve
from autoseg.stages.training.feeding import Batch
from tests.stages.training.records import LABELS, RECIPE, make_configuration, make_request

TRUTH = torch.tensor([[[[0, 1, 1, 2]]]], dtype=torch.uint8)


class Says(nn.Module):
    """A network that is sure of what it was told."""

    def __init__(self, labels):
        super().__init__()
        self.logits = 9.0 * nn.functional.one_hot(labels.long(), 3).movedim(-1, 1).float()

    def forward(self, image):
        return self.logits


def pupil(**changes):
    made = learner.build(make_request(make_configuration(), **changes), precision="float32", memory_format="contiguous")
    return made


def batch(labels, annotated=None):
    return Batch(("one",), torch.zeros(1, 1, *labels.shape[1:]), labels, annotated)


def test_dice_by_hand():
    """Of the two voxels of `front` one is found: 2 / (1 + 2); `back` has its own and one too many: 2 / (2 + 1)."""
    says = replace(pupil(), network=Says(torch.tensor([[[[0, 1, 2, 2]]]])))
    assert measuring.dice(says, [batch(TRUTH)], LABELS) == pytest.approx({"front": 2 / 3, "back": 2 / 3})


def test_what_is_ignored_or_was_not_annotated_does_not_count():
    says = replace(pupil(), network=Says(torch.tensor([[[[0, 1, 2, 2]]]])))
    ignoring = LABELS.model_copy(update={"ignore": 255})
    assert measuring.dice(says, [batch(torch.tensor([[[[0, 1, 3, 2]]]], dtype=torch.uint8))], ignoring) == {
        "front": 1.0,
        "back": 1.0,
    }
    found = measuring.dice(says, [batch(TRUTH, torch.tensor([[True, True, False]]))], LABELS)
    assert found["front"] == pytest.approx(2 / 3)
    assert math.isnan(found["back"])
    assert measuring.mean(found) == pytest.approx(2 / 3)


def test_regions_are_scored_as_such():
    regions = (Region(name="whole", values=(1, 2), original=1), Region(name="core", values=(2,), original=2))
    labels = Labels(structures=LABELS.structures, regions=regions)
    network = Says(TRUTH)
    network.logits = torch.tensor([[-1.0, 1, 1, 1], [-1, -1, -1, -1]]).view(1, 2, 1, 1, 4)
    assert measuring.dice(replace(pupil(), network=network), [batch(TRUTH)], labels) == {"whole": 1.0, "core": 0.0}


def test_measuring_leaves_the_network_as_it_was():
    request = make_request(make_configuration(recipe=RECIPE.model_copy(update={"ema_decay": 0.9})))
    made = learner.build(request, precision="float32", memory_format="contiguous")
    rules = resolve.sampling_rules(request, 2)
    for average in made.average.tensors:
        average.add_(1.0)
    before, _ = learner.state(made)
    before = {name: item.clone() for name, item in before.items()}
    with measuring.averaged(made):
        inside = next(made.network.parameters()).clone()
        batches = tuple(measuring.monitored(rules, request.cases, epoch_length=10, device="cpu"))
        measuring.dice(made, batches, LABELS)
    assert torch.equal(inside, made.average.tensors[0])
    after, _ = learner.state(made)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert made.network.training


def test_the_same_patches_are_measured_every_time():
    request = make_request(make_configuration())
    rules = resolve.sampling_rules(request, 2)
    first, second = (tuple(measuring.monitored(rules, request.cases, epoch_length=20, device="cpu")) for _ in range(2))
    assert len(first) == 4
    assert all(torch.equal(a.image, b.image) for a, b in zip(first, second, strict=True))
