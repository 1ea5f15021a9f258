import pytest

from autoseg.records.errors import UsageError
from autoseg.records.preset import Recipe
from autoseg.stages.training.settings import apply, keys
from tests.stages.training.records import make_configuration


def test_nothing_set_leaves_the_very_configuration():
    configuration = make_configuration()
    assert apply(configuration, {}) is configuration


def test_values_are_typed_as_their_key_says():
    typed = {
        "learning_rate": "0.003",
        "schedule": "cosine",
        "epochs": "7",
        "augmentation.rotation_probability": "0",
        "augmentation.scaling_range": "0.8,1.2",
        "precision": "bfloat16",
    }
    recipe = apply(make_configuration(), typed).recipe
    assert (recipe.learning_rate, recipe.schedule, recipe.epochs, recipe.precision) == (0.003, "cosine", 7, "bfloat16")
    assert recipe.augmentation.rotation_probability == 0
    assert recipe.augmentation.scaling_range == (0.8, 1.2)
    assert recipe.augmentation.noise_probability == Recipe().augmentation.noise_probability


def test_what_follows_from_a_key_changes_with_it():
    changed = apply(make_configuration(), {"deep_supervision": "false", "batch_dice": "true"})
    assert changed.architecture.deep_supervision is False
    assert changed.batch_dice is True
    assert apply(make_configuration(), {"batch_dice": "null"}).batch_dice is False


def test_every_listed_key_is_accepted_with_its_default():
    configuration = make_configuration()
    for key in keys():
        part = configuration.recipe.augmentation if key.startswith("augmentation.") else configuration.recipe
        value = getattr(part, key.removeprefix("augmentation."))
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert apply(configuration, {key: text}).recipe == configuration.recipe, key


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("learning_rat", "--set learning_rat: there is no such recipe key. Did you mean 'learning_rate'?"),
        ("recipe.epochs", "Did you mean 'epochs'?"),
        ("batch_size", "Spacing, patch, batch and network are set when planning"),
        ("augmentation", "there is no such recipe key"),
    ],
)
def test_an_unknown_key_names_the_nearest(key, sentence):
    with pytest.raises(UsageError) as caught:
        apply(make_configuration(), {key: "1"})
    assert sentence in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("epochs", "many", "epochs: input should be a valid integer"),
        ("schedule", "linear", "schedule: input should be 'polynomial', 'cosine', 'warmup_stable_decay' or 'plateau'"),
        ("learning_rate", "-1", "--set learning_rate=-1.0: out of range. Expected a number 0 or more."),
        ("augmentation.blur_probability", "1.5", "Expected a number between 0 and 1."),
        ("augmentation.scaling_range", "1.4,0.7", "Expected numbers 0 or more, the smaller first."),
        ("epochs", "0", "Expected a number 1 or more."),
        ("learning_rate", "nan", "out of range"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_words(key, value, sentence):
    with pytest.raises(UsageError) as caught:
        apply(make_configuration(), {key: value})
    assert sentence in str(caught.value)
