import shutil

import pytest
import torch
from safetensors.torch import load_file

from autoseg.networks import catalog, nnunet_weights
from autoseg.records.errors import DataError, UsageError, UserError
from autoseg.records.model import RunRecord
from autoseg.stages.training import learner, pretrained
from autoseg.storage import read_record
from tests.stages.training.records import MODEL, RECIPE, fit, make_cases, make_configuration, make_plan, make_request
from tests.stages.training.test_learner import batch_of
from tests.stages.training.test_loop import begun_like, sha, stop_after

STILL = {"learning_rate": "0"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A trained model of fold 0 in a workspace of its own."""
    folder = tmp_path_factory.mktemp("root") / "toy" / "models" / "default" / "tiny" / "base_s3" / "fold_0"
    fit(make_plan(), MODEL, folder, make_cases())
    return folder


def test_a_run_starts_from_the_weights_and_says_so(tmp_path, source):
    path = fit(make_plan(), MODEL, tmp_path, make_cases(), settings=STILL, weights_file=source / "model.safetensors")
    record = read_record(tmp_path / "run.json", RunRecord).pretrained
    assert (record.adapted, record.new, record.unused) == ((), (), ())
    assert record.line == f"{record.loaded} of {record.loaded} tensors loaded"
    ours, theirs = load_file(path), load_file(source / "model.safetensors")
    assert all((ours[name] == theirs[name]).all() for name in ours)


def published(file, *, labels=("front", "back"), **tensors):
    """A checkpoint as nnU-Net v2 saves it, of our network's shapes, with every encoder tensor under two names."""
    torch.manual_seed(7)
    own = catalog.build(make_configuration().architecture).state_dict()
    names = dict(nnunet_weights._pairs(own, residual=False))
    found = {theirs: torch.randn_like(own[ours]) for ours, theirs in names.items()} | tensors
    twice = {f"decoder.{name}": tensor for name, tensor in found.items() if name.startswith("encoder.")}
    values = {"background": 0} | {name: value for value, name in enumerate(labels, start=1)}
    content = {"network_weights": found | twice, "init_args": {"dataset_json": {"labels": values}}}
    torch.save(content, file)
    return {ours: found[theirs] for ours, theirs in names.items()}


def test_weights_of_nnunet_find_their_places(tmp_path):
    found = published(tmp_path / "checkpoint_final.pth", **{"encoder.stages.9.0.convs.0.conv.weight": torch.ones(2)})
    path = fit(
        make_plan(),
        MODEL,
        tmp_path / "run",
        make_cases(),
        settings=STILL,
        weights_file=tmp_path / "checkpoint_final.pth",
    )
    record = read_record(tmp_path / "run" / "run.json", RunRecord).pretrained
    assert (record.adapted, record.new) == ((), ())
    assert record.unused == ("encoder.stages.9.0.convs.0.conv.weight",)
    ours = load_file(path)
    assert set(ours) == set(found)
    assert all(torch.equal(ours[name], found[name]) for name in ours)


def test_heads_of_nnunet_for_other_labels_are_not_taken(tmp_path):
    published(tmp_path / "w.pth", labels=("back", "front"))
    fit(make_plan(), MODEL, tmp_path / "run", make_cases(), settings=STILL, weights_file=tmp_path / "w.pth")
    assert read_record(tmp_path / "run" / "run.json", RunRecord).pretrained.new == ("heads.0.weight", "heads.0.bias")


def test_weights_of_nnunet_for_another_kind_of_network(tmp_path):
    published(tmp_path / "w.pth")
    architecture = make_configuration().architecture.model_copy(update={"kind": "segresnet"})
    configuration = make_configuration().model_copy(update={"architecture": architecture})
    given = pretrained.load(tmp_path / "w.pth")
    with pytest.raises(DataError, match="weights of nnU-Net fit its U-Nets, and this network is a segresnet"):
        pretrained.put(given, torch.nn.Identity(), configuration, make_plan().labels)


def test_a_checkpoint_that_could_act_is_not_opened(tmp_path):
    torch.save({"network_weights": {}, "x": shutil.copy}, tmp_path / "w.pth")
    with pytest.raises(DataError, match="holds more than tensors and numbers"):
        pretrained.load(tmp_path / "w.pth")


def test_other_labels_get_new_heads(tmp_path, source):
    plan = make_plan()
    front, back = plan.labels.structures
    labels = plan.labels.model_copy(update={"structures": (front.model_copy(update={"name": "liver"}), back)})
    plan = plan.model_copy(update={"labels": labels})
    fit(plan, MODEL, tmp_path, make_cases(), settings=STILL, weights_file=source / "model.safetensors")
    assert read_record(tmp_path / "run.json", RunRecord).pretrained.new == ("heads.0.weight", "heads.0.bias")


def test_of_a_bare_file_nobody_knows_the_labels(tmp_path, source):
    file = shutil.copy(source / "model.safetensors", tmp_path / "foreign.safetensors")
    fit(make_plan(), MODEL, tmp_path / "run", make_cases(), settings=STILL, weights_file=file)
    assert read_record(tmp_path / "run" / "run.json", RunRecord).pretrained.new == ("heads.0.weight", "heads.0.bias")


@pytest.mark.parametrize("settings", [{}, {"layer_decay": "0.1", "freeze_fraction": "0.5", "optimizer": "adamw"}])
def test_stopped_and_resumed_it_equals_the_unbroken_run(tmp_path, source, settings):
    more = {"settings": settings, "weights_file": source / "model.safetensors"}
    whole = fit(make_plan(), MODEL, tmp_path / "whole", make_cases(), **more)
    folder = begun_like(tmp_path / "broken", tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(make_plan(), MODEL, folder, make_cases(), on_progress=stop_after(4), settings=settings)
    # The weights need not be named again: the record does.
    assert sha(fit(make_plan(), MODEL, folder, make_cases(), settings=settings)) == sha(whole)


def test_a_run_from_other_weights_is_refused(tmp_path, source):
    fit(make_plan(), MODEL, tmp_path / "new", make_cases())
    with pytest.raises(UserError, match=r"was started from new weights; now .*model\.safetensors"):
        fit(make_plan(), MODEL, tmp_path / "new", make_cases(), weights_file=source / "model.safetensors")


def test_weights_that_changed_since_are_not_gone_on_with(tmp_path, source):
    file = shutil.copy(source / "model.safetensors", tmp_path / "w.safetensors")
    with pytest.raises(KeyboardInterrupt):
        fit(make_plan(), MODEL, tmp_path / "run", make_cases(), weights_file=file, on_progress=stop_after(2))
    shutil.copy(fit(make_plan(), MODEL, tmp_path / "other", make_cases(), settings=STILL), file)
    with pytest.raises(UserError, match="not the weights that the run was started from"):
        fit(make_plan(), MODEL, tmp_path / "run", make_cases())


def test_frozen_weights_stay_while_new_ones_learn(tmp_path, source):
    file = shutil.copy(source / "model.safetensors", tmp_path / "w.safetensors")
    recipe = RECIPE.model_copy(update={"freeze_fraction": 0.5})
    request = make_request(make_configuration(recipe=recipe), given=pretrained.load(file))
    pupil = learner.build(request, precision="float32", memory_format="contiguous")
    for frozen, moved in (
        (True, {"heads.0.weight", "heads.0.bias"}),
        (False, set(dict(pupil.network.named_parameters()))),
    ):
        before = {name: item.detach().clone() for name, item in pupil.network.named_parameters()}
        for number in range(2):  # biases before a normalisation have no gradient but their decay
            learner.advance(pupil, batch_of(request), number=number, rate=0.1, frozen=frozen)
        changed = {name for name, item in pupil.network.named_parameters() if not (item == before[name]).all()}
        assert changed <= moved
        assert {"heads.0.weight"} <= changed
        assert ("encoder.0.0.conv.weight" in changed) is not frozen


def test_early_layers_learn_more_slowly():
    request = make_request(make_configuration(recipe=RECIPE.model_copy(update={"layer_decay": 0.1})))
    pupil = learner.build(request, precision="float32", memory_format="contiguous")
    scales = {id(item): group["scale"] for group in pupil.optimizer.param_groups for item in group["params"]}
    named = {name: scales[id(item)] for name, item in pupil.network.named_parameters()}
    assert named["encoder.0.0.conv.weight"] == pytest.approx(0.1)
    assert named["heads.0.weight"] == pytest.approx(1.0)
    assert 0.1 < named["decoder.0.0.conv.weight"] < 1


def test_models_are_found_by_folder_name_and_file(source):
    workspace = source.parents[4]
    expected = source.resolve() / "model.safetensors"
    for text in (
        str(source),
        str(source.parent),
        str(source / "model.safetensors"),
        "default/tiny/base_s3/fold_0",
        "default/tiny/base_s3",
        "toy/default/tiny/base_s3",
    ):
        assert pretrained.find(text, workspace, MODEL) == expected, text
    assert pretrained.find("toy/default/tiny/base_s3", workspace.parent / "liver", MODEL) == expected


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match="--pretrained nothing: there is no such file and no trained model"):
        pretrained.find("nothing", tmp_path, MODEL)


def test_a_model_that_has_learnt_the_held_out_cases_is_refused(source):
    other = MODEL.model_copy(update={"fold": "1"})
    with pytest.raises(UsageError, match="fold 0 of toy was trained on cases that fold 1 holds out"):
        pretrained.find("default/tiny/base_s3/fold_0", source.parents[4], other)
    elsewhere = other.model_copy(update={"dataset": "liver"})
    assert pretrained.find(str(source), source.parents[4], elsewhere).name == "model.safetensors"
