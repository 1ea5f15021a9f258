import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from autoseg.records.configuration import Sides
from autoseg.records.errors import DataError
from autoseg.records.preset import Augmentation
from autoseg.stages.training import feeding, sampling
from tests.stages.training.records import make_case, make_cases
from tests.stages.training.test_sampling import RULES


def test_without_augmentation_the_batch_is_the_window():
    windows = sampling.read(RULES, make_cases(), 4)
    batch = feeding.augmented(RULES, windows, device="cpu")
    assert torch.equal(batch.image, torch.from_numpy(windows.image))
    assert torch.equal(batch.labels, torch.from_numpy(windows.labels))
    assert batch.annotated is None


def test_a_cascade_gets_one_channel_a_structure():
    case = make_case("one")
    case = replace(case, previous=case.labels)
    rules = replace(RULES, previous=True)
    windows = sampling.read(rules, [case], 0)
    batch = feeding.augmented(rules, windows, device="cpu")
    assert batch.image.shape == (3, 1 + 2, 4, 6, 6)
    for value in (1, 2):
        assert torch.equal(batch.image[:, value], (batch.labels == value).float())


def test_the_next_batches_come_in_order_and_equal_those_made_alone():
    cases, rules = make_cases(), replace(RULES, augmentation=Augmentation())
    ahead = [batch for batch, _ in feeding.batches(rules, cases, range(3, 8), device="cpu")]
    for step, batch in zip(range(3, 8), ahead, strict=True):
        alone = feeding.augmented(rules, sampling.read(rules, cases, step), device="cpu")
        assert batch.cases == alone.cases
        assert torch.equal(batch.image, alone.image)


def test_an_error_while_reading_ahead_names_the_case():
    class Broken:
        shape, dtype = (1, 10, 20, 20), np.dtype("float32")

        def __getitem__(self, key):
            raise RuntimeError("error while decompressing")

    case = replace(make_case("sick"), image=Broken())
    with pytest.raises(DataError, match="sick: the preprocessed arrays cannot be read"):
        list(feeding.batches(RULES, [case], range(3), device="cpu"))


def test_a_channel_that_a_case_lacks_is_zero_in_its_batches_whatever_is_drawn():
    image = np.concatenate([make_case("one").image, np.zeros((1, 10, 20, 20), np.float32)])
    case = make_case("one", image=image)
    noisy = Augmentation(noise_probability=1.0, noise_variance=(1.0, 1.0), brightness_probability=1.0)
    rules = replace(RULES, augmentation=noisy)
    plain = feeding.augmented(rules, sampling.read(rules, [case], 0), device="cpu")
    assert plain.image[:, 1].abs().max() > 0.5
    rules = replace(rules, optional=(1,), channels=2)
    batch = feeding.augmented(rules, sampling.read(rules, [case], 0), device="cpu")
    assert batch.image[:, 1].abs().max() == 0
    assert torch.equal(batch.image[:, 0], plain.image[:, 0])


def test_leaving_early_ends_the_thread():
    batches = feeding.batches(RULES, make_cases(), range(100), device="cpu")
    next(batches)
    batches.close()
    assert not [item for item in threading.enumerate() if item.name.startswith("autoseg-feeding")]


def test_batches_are_made_by_one_thread_and_the_network_keeps_its_own(monkeypatch):
    there = []
    read = sampling.read

    def noting(*arguments):
        there.append(torch.get_num_threads())
        return read(*arguments)

    monkeypatch.setattr(sampling, "read", noting)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for _ in feeding.batches(RULES, make_cases(), range(2), device="cpu"):
            assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)
    assert there == [1, 1]


SWAP = Sides(handling="swap", axis=2, pairs=((1, 2),))
MERGE = Sides(handling="merge_split", axis=2, pairs=((1, 2),), split_at=(0.5,), first_below=(True,))


def test_a_flip_exchanges_the_twins_and_nothing_else():
    labels = torch.tensor([[[[0, 1, 2, 3]]], [[[0, 1, 2, 3]]]], dtype=torch.uint8)
    annotated = torch.tensor([[True, True, False, True]] * 2)
    found, previous, seen = feeding.with_sides(SWAP, [True, False], labels, labels, annotated)
    assert found[:, 0, 0].tolist() == [[0, 2, 1, 3], [0, 1, 2, 3]]
    assert torch.equal(previous, found)
    assert seen.tolist() == [[True, False, True, True], [True, True, False, True]]


def test_merged_twins_are_learned_as_the_first_whether_flipped_or_not():
    labels = torch.tensor([[[[0, 1, 2, 3]]], [[[0, 1, 2, 3]]]], dtype=torch.uint8)
    found, _, _ = feeding.with_sides(MERGE, [True, False], labels, None, None)
    assert found[:, 0, 0].tolist() == [[0, 1, 1, 3], [0, 1, 1, 3]]


def test_swapped_batches_show_each_twin_on_its_own_side():
    """The twins lie left and right of the middle: however often it is flipped, the first stays on its side."""
    case = make_case("one")
    labels = np.zeros((10, 20, 20), np.uint8)
    labels[..., 2:8], labels[..., 12:18] = 1, 2
    positions = {value: np.argwhere(labels == value).astype(np.int32) for value in (1, 2)}
    case = replace(case, labels=labels, positions=positions)
    mirrored = RULES.augmentation.model_copy(update={"mirror_probability": 0.5})
    rules = replace(RULES, patch_shape=(10, 20, 20), foreground_fraction=0.0, augmentation=mirrored, sides=SWAP)
    flips = 0
    for step in range(8):
        windows = sampling.read(rules, [case], step)
        flips += sum(draw.mirror[2] for draw in windows.draws)
        batch = feeding.augmented(rules, windows, device="cpu")
        assert not bool((batch.labels[..., :10] == 2).any())
        assert not bool((batch.labels[..., 10:] == 1).any())
    assert flips > 0
