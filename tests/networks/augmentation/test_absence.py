from dataclasses import replace

import numpy as np
import torch

from autoseg.networks.augmentation import draw, identity
from autoseg.networks.augmentation.absence import kept_channels
from autoseg.records.preset import Augmentation

IMAGE = torch.ones(2, 3, 2, 2, 2)
IMAGE[1, 2] = 0  # the second sample lacks the last channel


def kept(dropped, optional=(1, 2), image=IMAGE, channels=3):
    draws = [replace(identity(channels), dropped=dropped)] * len(image)
    return kept_channels(draws, image, optional, channels)[:, :, 0, 0, 0].tolist()


def test_what_is_absent_stays_absent_and_nothing_else_goes():
    assert kept(()) == [[True, True, True], [True, True, False]]


def test_optional_channels_are_dropped_and_others_never():
    assert kept((True, True, False)) == [[True, False, True], [True, False, False]]


def test_nothing_is_dropped_from_a_sample_that_would_have_nothing_left():
    image = IMAGE.clone()
    image[1, 0] = 0  # only the middle one is there
    assert kept((False, True, False), optional=(0, 1, 2), image=image) == [[True, False, True], [False, True, False]]


def test_neighbouring_slices_of_a_channel_go_together():
    image = torch.ones(1, 6, 1, 2, 2)
    assert kept((False, True), optional=(1,), image=image, channels=2) == [[True, False] * 3]


def test_half_of_the_channels_of_a_struck_sample_go():
    settings = Augmentation(channel_dropout_probability=0.5)
    draws = [
        draw(np.random.default_rng([7, n]), settings, patch_shape=(4, 8, 8), mirror_axes=(), channels=2).dropped
        for n in range(2000)
    ]
    assert abs(np.mean([any(item) for item in draws]) - 0.375) < 0.04
    assert abs(np.mean([item[0] for item in draws]) - 0.25) < 0.04


def test_without_dropout_the_other_draws_are_the_same():
    plain, dropping = (
        draw(
            np.random.default_rng(3),
            Augmentation(channel_dropout_probability=value),
            patch_shape=(4, 8, 8),
            mirror_axes=(0, 1, 2),
            channels=2,
        )
        for value in (0.0, 1.0)
    )
    assert plain.dropped == ()
    assert replace(dropping, dropped=()) == plain
