from dataclasses import replace

import pytest
import torch

from autoseg.stages.training import feeding, learner, resolve
from tests.stages.training.records import RECIPE, make_configuration, make_request


def batch_of(request):
    rules = resolve.sampling_rules(request, 2)
    return next(feeding.batches(rules, request.cases, [0], device="cpu"))[0]


def test_initial_weights_follow_the_seed_not_the_state_of_torch():
    request = make_request(make_configuration())
    first = learner.build(request, precision="float32", memory_format="contiguous")
    torch.rand(3)
    second = learner.build(request, precision="float32", memory_format="channels_last")
    pairs = zip(first.network.parameters(), second.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_another_seed_gives_other_weights():
    request = make_request(make_configuration())
    other = replace(request, model=request.model.model_copy(update={"seed": 9}))
    first, second = (learner.build(item, precision="float32", memory_format="contiguous") for item in (request, other))
    assert any(not torch.equal(a, b) for a, b in zip(first.network.parameters(), second.network.parameters()))


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adam"])
def test_state_and_restore_lose_nothing(memory_format, optimizer):
    recipe = RECIPE.model_copy(update={"optimizer": optimizer, "ema_decay": 0.5})
    request = make_request(make_configuration(recipe=recipe))
    batch = batch_of(request)
    first, second = (learner.build(request, precision="float32", memory_format=memory_format) for _ in range(2))
    for number in range(2):
        learner.advance(first, batch, number=number, rate=0.01)
    tensors, plain = learner.state(first)
    learner.restore(second, {name: item.clone() for name, item in tensors.items()}, plain)
    losses = [learner.advance(item, batch, number=2, rate=0.01) for item in (first, second)]
    assert torch.equal(*losses)
    after = [learner.state(item)[0] for item in (first, second)]
    assert after[0].keys() == after[1].keys()
    assert all(torch.equal(after[0][name], after[1][name]) for name in after[0])


def test_the_first_averages_follow_the_weights_closely():
    recipe = RECIPE.model_copy(update={"ema_decay": 0.999})
    request = make_request(make_configuration(recipe=recipe))
    pupil = learner.build(request, precision="float32", memory_format="contiguous")
    before = [item.clone() for item in pupil.average.tensors]
    learner.advance(pupil, batch_of(request), number=0, rate=0.1)
    for old, now, weight in zip(before, pupil.average.tensors, pupil.network.parameters()):
        torch.testing.assert_close(now, 0.1 * old + 0.9 * weight)


def test_the_state_of_another_network_is_refused():
    pupil = learner.build(make_request(make_configuration()), precision="float32", memory_format="contiguous")
    with pytest.raises(RuntimeError):
        learner.restore(pupil, {"network.other": torch.zeros(1)}, {})
