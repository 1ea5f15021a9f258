"""Losses and transforms of installed packages."""

from __future__ import annotations

from importlib import metadata

import numpy as np
import pytest
import torch

from autoseg.networks import additions, augmentation
from autoseg.networks.losses import Target, make_loss
from autoseg.networks.memory import measure_step
from autoseg.records.errors import UsageError
from autoseg.records.labels import Labels, Structure
from autoseg.records.preset import Augmentation, Recipe
from autoseg.stages.planning import load_preset
from tests.networks.architectures import small

LABELS = Labels(structures=(Structure(name="a", value=1, original=1), Structure(name="b", value=2, original=2)))


def brier(recipe: Recipe, labels: Labels):
    """Squared error of probabilities."""

    def loss(logits, target):
        truth = torch.nn.functional.one_hot(target.labels.long(), labels.output_channels).movedim(-1, 1)
        return (torch.softmax(logits.float(), 1) - truth).square().mean()

    return loss


def shift(image, labels, *, generator):
    return image + torch.rand((), generator=generator), labels


def shorten(image, labels, *, generator):
    return image[:, :-1], labels[:-1]


A_WORD = "brier"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that adds a loss and transforms, and one that names a word for a loss."""
    names = {
        additions.LOSS_GROUP: {"brier": "brier", "word": "A_WORD", "ce": "brier"},
        additions.TRANSFORM_GROUP: {"shift": "shift", "shorten": "shorten"},
    }

    def found(*, group: str) -> list[metadata.EntryPoint]:
        return [metadata.EntryPoint(name, f"{__name__}:{value}", group) for name, value in names[group].items()]

    monkeypatch.setattr(additions, "entry_points", found)


def test_an_added_loss_is_computed_on_every_output_of_deep_supervision():
    labels = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    logits = torch.zeros(1, 3, 4, 4, 4)
    # Probabilities of a third: (2/3)^2 + 2 (1/3)^2 over three classes.
    each = (4 / 9 + 2 / 9) / 3
    value = make_loss(Recipe(loss="brier"), LABELS, batch_dice=False)(
        [logits, logits[..., ::2, ::2, ::2]], Target(labels)
    )
    assert float(value) == pytest.approx(each)


def test_planning_runs_an_added_loss_without_content():
    assert measure_step(small(), Recipe(loss="brier"), (8, 8, 8), 2).peak_bytes > 0


def test_a_loss_that_is_here_stays_what_it_is():
    labels = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    value = make_loss(Recipe(loss="ce"), LABELS, batch_dice=False)(torch.zeros(1, 3, 4, 4, 4), Target(labels))
    assert float(value) == pytest.approx(np.log(3))


def test_what_is_not_there_is_said_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match=r"there is no loss 'brie'. Did you mean 'brier'"):
        make_loss(Recipe(loss="brie"), LABELS, batch_dice=False)
    with pytest.raises(UsageError, match=r"'word' of group autoseg.losses is str, which cannot be called"):
        make_loss(Recipe(loss="word"), LABELS, batch_dice=False)
    with pytest.raises(UsageError, match=r"no installed package adds a transform 'shif'. Did you mean 'shift'"):
        additions.transform("shif")
    preset = tmp_path / "mine.toml"
    preset.write_text('about = "x"\n[network]\nkind = "unet"\n[recipe]\nloss = "dice_c"\n')
    with pytest.raises(UsageError, match=r"mine.toml.*no loss 'dice_c'. Did you mean 'dice_ce'"):
        load_preset(preset)
    preset.write_text('about = "x"\n[network]\nkind = "unet"\n[recipe.augmentation]\nadded = {shift = 2.0}\n')
    with pytest.raises(UsageError, match=r"the probability of the transform 'shift' is 2.0.*between 0 and 1"):
        load_preset(preset)


def test_a_recipe_without_additions_keeps_its_digest():
    assert "added" not in Recipe().model_dump_json()
    assert Recipe(augmentation=Augmentation(added={"shift": 0.5})).digest() != Recipe().digest()


def drawn(added: dict[str, float], number: int = 0) -> augmentation.Draw:
    still = {name: 0.0 for name in Augmentation.model_fields if name.endswith("_probability")}
    return augmentation.draw(
        np.random.default_rng(number),
        Augmentation(**still, added=added),
        patch_shape=(4, 4, 4),
        mirror_axes=(),
        channels=1,
    )


def test_an_added_transform_strikes_as_often_as_it_says_and_replays():
    draws = [drawn({"shift": 0.25}, number) for number in range(400)]
    assert sum(bool(item.added) for item in draws) / 400 == pytest.approx(0.25, abs=0.06)
    struck = next(item for item in draws if item.added)
    plain = next(item for item in draws if not item.added)
    image, labels = torch.zeros(2, 1, 4, 4, 4), torch.zeros(2, 4, 4, 4, dtype=torch.uint8)
    first, second = (augmentation.apply([struck, plain], image, labels, (4, 4, 4), classes=1)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert float(first[0].min()) == float(first[0].max()) > 0
    assert not first[1].any()


def test_a_transform_that_changes_the_shape_is_named():
    image, labels = torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    with pytest.raises(UsageError, match=r"'shorten' makes \(1, 3, 4, 4\).*keep shape and type"):
        augmentation.apply([drawn({"shorten": 1.0})], image, labels, (4, 4, 4), classes=1)
