import re

import pytest

from autoseg.records.configuration import Configuration
from autoseg.records.errors import UsageError
from autoseg.records.plan import Plan
from autoseg.records.preset import Augmentation, NetworkPreset, PlanningPreset, Preset, Recipe, ShortBudget
from autoseg.stages.planning import change_preset, load_preset, preset_names
from autoseg.workspace import plans_folder

MINIMAL = 'about = "mine"\n[network]\nkind = "unet"\n'


def written(tmp_path, text):
    path = tmp_path / "my.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_under_its_own_name(name):
    assert load_preset(name).name == name


def test_the_presets_that_are_promised_are_there():
    promised = {"unet", "residual_unet_m", "residual_unet_l", "residual_unet_xl", "attention_unet", "smoke", "demo"}
    assert promised <= set(preset_names())


def test_the_plain_unet_has_the_published_recipe():
    recipe = load_preset("unet").recipe
    assert (recipe.optimizer, recipe.learning_rate, recipe.momentum, recipe.weight_decay) == ("sgd", 1e-2, 0.99, 3e-5)


def test_a_file_of_the_users_own_takes_its_name_from_the_file(tmp_path):
    assert load_preset(written(tmp_path, MINIMAL)).name == "my"


def test_an_unknown_key_is_answered_with_the_nearest_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, MINIMAL + "[recipe]\nepoch = 3\n")
    with pytest.raises(UsageError) as caught:
        load_preset(path)
    assert str(caught.value) == "my.toml: unknown key 'epoch' in [recipe]. Did you mean 'epochs'?"


def test_an_unknown_key_deep_inside_names_its_section(tmp_path):
    path = written(tmp_path, MINIMAL + "[short]\nfeatures = 8\n[short.recipe.augmentation]\nrotation_degree = 3\n")
    with pytest.raises(UsageError, match=r"in \[short.recipe.augmentation\]. Did you mean 'rotation_degrees'"):
        load_preset(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + '[recipe]\nepochs = "many"\n', r"'epochs' in \[recipe\] is 'many'"),
        ('[network]\nkind = "unet"\n', "key 'about' is missing at the top level"),
        (MINIMAL + '[recipe]\noptimizer = "adanw"\n', r"'optimizer' in \[recipe\] is 'adanw'.*Did you mean 'adamw'\?"),
        (MINIMAL.replace('"unet"', '"unter"'), r"no rule shapes a network of kind 'unter'. Did you mean 'une"),
        (MINIMAL + "[recipe\n", "is not valid TOML.*line 4"),
        (MINIMAL + "features = 0\n", "'network.features' is 0. It must be 1 or more"),
        (MINIMAL + "max_stages = 1\n", "two resolutions or more"),
        (MINIMAL + "[planning]\nspacing_mm = [1, 0, 1]\n", "not positive"),
        (MINIMAL.replace("mine", "x") + 'blocks = "2"\n', "'blocks' in"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path, text, message):
    with pytest.raises(UsageError, match=message) as caught:
        load_preset(written(tmp_path, text))
    assert "my.toml" in str(caught.value)


def test_an_unknown_name_lists_the_valid_ones():
    with pytest.raises(UsageError) as caught:
        load_preset("unett")
    assert "Did you mean 'unet'?" in str(caught.value)
    assert "residual_unet_m" in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(UsageError, match=r"nowhere/x\.toml"):
        load_preset("nowhere/x.toml")


def test_keys_are_changed_from_words():
    changed = change_preset(load_preset("unet"), {"network.features": "16", "planning.patch_shape": "[32, 64, 64]"})
    assert changed.network.features == 16
    assert changed.planning.patch_shape == (32, 64, 64)
    assert changed.recipe == load_preset("unet").recipe


@pytest.mark.parametrize("key", ["network.feature", "recipe.epochs.x"])
def test_a_changed_key_must_exist(key):
    with pytest.raises(UsageError, match="--set"):
        change_preset(load_preset("unet"), {key: "1"})


def test_every_key_of_presets_and_plans_is_explained():
    text = (plans_folder() / "README.md").read_text()
    named = set(re.findall(r"`([a-z_0-9]+)`", text))
    sections = {"network", "recipe", "planning", "short", "augmentation"}
    for record in (Preset, NetworkPreset, Recipe, Augmentation, PlanningPreset, ShortBudget, Plan, Configuration):
        missing = set(record.model_fields) - named - sections
        assert not missing, f"{record.__name__}: {missing}"
    for name in preset_names():
        assert set(load_preset(name).network.arguments) <= named, name
