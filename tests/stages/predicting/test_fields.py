"""From images to labels and back home, with networks whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from autoseg.images import store
from autoseg.networks import catalog, weights
from autoseg.records.choice import PostprocessingStep
from autoseg.records.configuration import Normalization, Previous
from autoseg.records.errors import DataError, UsageError
from autoseg.records.geometry import Box, Grid
from autoseg.records.labels import Labels, Structure
from autoseg.records.markers import StoredField
from autoseg.records.model import TrainedModel
from autoseg.records.preset import Augmentation, Recipe
from autoseg.records.volumes import Image, LabelMap, Passage
from autoseg.stages import predicting
from autoseg.stages.predicting.fields import Member, Options, follow, one_hot, predict_fields
from autoseg.stages.predicting.held_out import stored_field, to_probabilities
from autoseg.storage import read_record, write_record
from tests.images.by_hand import oblique
from tests.stages.training.records import LABELS, MODEL, make_configuration

GRID = Grid(
    shape=(9, 20, 18), spacing_mm=(2.0, 1.0, 1.0), direction=oblique(0, order=(1, 0, 2), flips=(True, False, False))
)


class Threshold(torch.nn.Module):
    """Structure 1 where the image is above 1, structure 2 where it is above 2, else background."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image[:, :1]
        return torch.cat([torch.ones_like(x), 3 * (x - 1) + 1, 6 * (x - 2) + 4], 1)


class Position(torch.nn.Module):
    """Structure 1 in the first half of the last axis: a network that flipping would confuse."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.zeros_like(image[:, :1])
        x[..., : x.shape[-1] // 2] = 1
        return torch.cat([1 - x, x, x - 2], 1)


def member(
    network: torch.nn.Module, *, weight: float = 1.0, name: str = "p/tiny/base_s0", mirror: float = 0.5
) -> Member:
    recipe = Recipe(augmentation=Augmentation(mirror_probability=mirror))
    configuration = make_configuration(recipe=recipe).model_copy(
        update={"normalizations": (Normalization(channel="mr", kind="none"),), "spacing_mm": (2.0, 1.0, 1.0)}
    )
    return Member(name, (f"{name}/fold_0",), configuration, (network.eval(),), weight, "digest")


def image() -> Image:
    array = np.zeros((1, *GRID.shape), np.float32) + 0.5
    array[0, 2:6, 5:9, 4:12] = 1.5
    array[0, 3:5, 12:16, 4:8] = 2.6
    return Image(array, GRID)


def drawn() -> np.ndarray:
    return np.where(image().array[0] > 2, 2, np.where(image().array[0] > 1, 1, 0)).astype(np.uint8)


def test_a_scan_in_any_orientation_comes_home_voxel_by_voxel() -> None:
    prediction = predicting.predict_scan(image(), [member(Threshold())], case="a", labels=LABELS)
    assert prediction.labels.grid == GRID
    np.testing.assert_array_equal(prediction.labels.array, drawn())


def test_members_are_averaged_by_their_weights() -> None:
    sure = member(Threshold(), weight=0.9, name="p/tiny/sure_s0")
    other = member(Position(), weight=0.1, name="p/tiny/other_s0", mirror=0.0)
    prediction = predicting.predict_scan(image(), [sure, other], case="a", labels=LABELS, probabilities=True)
    # 0.9 x softmax(Threshold) outweighs 0.1 x softmax(Position) wherever Threshold is sure of a structure.
    assert (prediction.labels.array[drawn() == 2] == 2).all()
    assert prediction.probabilities is not None
    np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-4)
    assert prediction.members == ("p/tiny/sure_s0", "p/tiny/other_s0")


def test_only_axes_that_training_flipped_are_averaged_over() -> None:
    options = Options(step_fraction=1.0)
    (flipped,) = predict_fields(image(), [member(Position(), mirror=0.5)], case="a", options=options)
    (straight,) = predict_fields(image(), [member(Position(), mirror=0.0)], case="a", options=options)
    assert np.unique(flipped.array[1].round(3)).tolist() == [0.5]
    assert straight.array[1].max() > 0.9


def test_cleaning_steps_are_applied() -> None:
    scan = image()
    scan.array[0, 8, 0, 0] = 1.5
    steps = (PostprocessingStep(structure="front", kind="keep_largest"),)
    prediction = predicting.predict_scan(scan, [member(Threshold())], case="a", labels=LABELS, postprocessing=steps)
    np.testing.assert_array_equal(prediction.labels.array, drawn())


def test_the_first_stage_runs_by_itself_and_is_followed_to_the_second_stage() -> None:
    first = member(Threshold(), name="p/low/base_s0")
    second = member(Second(), name="p/tiny/base_s0")
    architecture = second.configuration.architecture.model_copy(update={"input_channels": 3})
    changes = {"previous": Previous(configuration="low"), "architecture": architecture}
    second = Member(
        second.name, second.keys, second.configuration.model_copy(update=changes), second.networks, 1.0, "digest"
    )
    with pytest.raises(DataError, match="a: p/tiny/base_s0 needs the prediction of its first stage, low"):
        predicting.predict_scan(image(), [second], case="a", labels=LABELS)
    prediction = predicting.predict_scan(image(), [second], case="a", labels=LABELS, first_stages={"low": first})
    np.testing.assert_array_equal(prediction.labels.array == 1, drawn() == 2)


class Second(torch.nn.Module):
    """Answers structure 1 where the first stage said 2: reads the extra channels only."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        said = image[:, 2:3]
        return torch.cat([1 - said, 2 * said - 0.5, said - 3], 1)


def test_one_hot_has_a_channel_for_each_structure() -> None:
    np.testing.assert_array_equal(one_hot(np.array([[[0, 1, 2, 1]]]), 2)[:, 0, 0], [[0, 1, 0, 1], [0, 0, 1, 0]])


def test_a_label_map_follows_the_image_to_the_network_grid() -> None:
    (field,) = predict_fields(image(), [member(Threshold())], case="a", options=Options())
    followed = follow(LabelMap(drawn(), GRID), field.passage)
    np.testing.assert_array_equal(followed, field.array.argmax(0))


def test_what_is_kept_of_a_held_out_case_gives_back_the_same_labels(tmp_path: Path) -> None:
    (prediction,) = predicting.predict_held_out(
        member(Threshold()), [("a", image(), {})], labels=LABELS, folder=tmp_path, options=Options()
    )
    np.testing.assert_array_equal(prediction.labels.array, drawn())
    marker = read_record(tmp_path / "a.json", StoredField)
    assert marker.member == "p/tiny/base_s0/fold_0"
    kept = stored_field(tmp_path, "a", "softmax")
    assert kept.passage == marker.passage
    (fresh,) = predict_fields(image(), [member(Threshold())], case="a", options=Options())
    np.testing.assert_array_equal(kept.array.argmax(0), fresh.array.argmax(0))


def test_probabilities_of_large_logits_are_finite() -> None:
    logits = np.array([1000.0, -1000.0, 0.0], np.float32).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(to_probabilities(logits, "softmax").ravel(), [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(to_probabilities(logits, "sigmoid").ravel(), [1, 0, 0.5], atol=1e-6)


def test_the_users_own_values_are_written() -> None:
    labels = Labels(
        structures=(Structure(name="a", value=1, original=5), Structure(name="b", value=2, original=70000)), ignore=9
    )
    written = predicting.written_values(np.array([[[0, 1, 2]]], np.uint8), labels)
    assert written.ravel().tolist() == [0, 5, 70000]
    assert predicting.written_values(np.array([[[0, 1]]], np.uint8), LABELS).dtype == np.uint8


def trained(folder: Path) -> TrainedModel:
    configuration = make_configuration()
    network = catalog.build(configuration.architecture)
    weights.save(folder / "model.safetensors", dict(network.state_dict()), {})
    import hashlib

    record = TrainedModel(
        model=MODEL,
        plan_digest="p",
        weights_sha256=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        steps=1,
        seconds=1.0,
        configuration=configuration,
        version="0",
    )
    write_record(folder / "model.json", record)
    return record


def test_a_member_is_loaded_with_the_weights_that_its_record_speaks_of(tmp_path: Path) -> None:
    trained(tmp_path)
    loaded = predicting.load_member([tmp_path], weight=0.5)
    assert loaded.name == "default/tiny/base_s3"
    assert loaded.weight == 0.5
    assert not loaded.networks[0].training


def test_swapped_weights_are_refused_by_name(tmp_path: Path) -> None:
    trained(tmp_path)
    with open(tmp_path / "model.safetensors", "r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x01")
    with pytest.raises(DataError, match=r"model\.safetensors: the weights have the hash .* Restore both files"):
        predicting.load_member([tmp_path])


def test_an_unfinished_fold_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.json: there is no trained model yet. Train this fold first."):
        predicting.load_member([tmp_path])
    with pytest.raises(UsageError, match="there is no trained model"):
        predicting.load_member([])


def test_what_is_kept_of_many_classes_is_a_distribution(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (117, 2, 3, 4)).astype(np.float32)
    grid = Grid(shape=(2, 3, 4), spacing_mm=(1, 1, 1))
    passage = Passage(original=grid, oriented=grid, crop=Box(start=(0, 0, 0), stop=(2, 3, 4)), network=grid)
    store.write_probabilities(tmp_path / "a.b2nd", to_probabilities(logits, "softmax"))
    write_record(tmp_path / "a.json", StoredField(case="a", member="m", passage=passage, inputs_digest="", seconds=0.0))
    kept = np.exp(stored_field(tmp_path, "a", "softmax").array)
    np.testing.assert_allclose(kept.sum(axis=0), 1, atol=1e-5)
    assert (kept.argmax(axis=0) == logits.argmax(axis=0)).all()
    # Half a step of rounding, and what so many roundings add up to.
    np.testing.assert_allclose(kept, to_probabilities(logits, "softmax"), atol=0.02)
