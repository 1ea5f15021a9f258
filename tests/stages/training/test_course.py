import math

import pytest
import torch

from autoseg.records.errors import UserError
from autoseg.stages.training import course
from autoseg.stages.training.checkpoint import Position
from tests.stages.training.records import MODEL


def run(losses, start=None):
    now = course.begin(start or Position())
    for value in losses:
        course.note(now, torch.tensor(value), ("one",), wait_seconds=0.0)
    course.read(now)
    return now


def test_an_epoch_is_the_mean_of_its_finite_losses():
    line = course.close_epoch(run([1.0, math.nan, 3.0]), epoch=1, rate=0.1, batch_size=2)
    assert (line.loss, line.skipped, line.step, line.samples) == (2.0, 1, 3, 6)


def test_a_closed_epoch_leaves_nothing_for_the_next():
    now = run([1.0, 2.0])
    course.close_epoch(now, epoch=1, rate=0.1, batch_size=2)
    assert now.losses == []
    assert course.position(now).step == 2


def test_losses_read_in_one_group_name_the_right_steps(caplog):
    run([1.0, math.inf, 1.0], start=Position(step=10))
    assert "step 12: loss or gradient is not finite" in caplog.text


def test_five_bad_steps_in_a_row_are_borne_and_six_are_not():
    now = run([math.nan] * 5 + [1.0] + [math.nan] * 5)
    assert now.bad_in_row == 5
    with pytest.raises(UserError, match="training stopped at step 6: the loss or its gradient was not finite 6 times"):
        run([math.nan] * 6)


def test_bad_steps_are_counted_across_an_interruption():
    with pytest.raises(UserError, match="not finite 6 times"):
        run([math.nan] * 2, start=Position(step=4, bad_in_row=4))


def test_a_position_survives_its_json_with_nan():
    position = course.position(run([1.0, math.nan]))
    again = Position.parse(position.to_json(), file="x")
    assert again.losses[0] == 1.0
    assert math.isnan(again.losses[1])


def test_progress_says_what_is_left():
    now = run([1.0, 2.0])
    now.began, now.noted, now.waited = 100.0, 110.0, 2.0
    told = course.progress(now, MODEL, 6)
    assert (told.step_seconds, told.wait_fraction, told.seconds_left, told.loss) == (5.0, 0.2, 20.0, 2.0)
