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


class Watch:
    """A clock that goes on only when it is told to."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(course, "time", watch)
    return watch


def steps(now, watch, seconds, *, group=1, wait=0.0):
    """Steps that take so long, read back after each `group`; where they are read is where they are waited for."""
    for number, taken in enumerate(seconds, start=1):
        if group == 1:
            watch.now += taken
        course.note(now, torch.tensor(1.0), ("one",), wait_seconds=wait)
        if number % group == 0:
            watch.now += 0.0 if group == 1 else sum(seconds[number - group : number])
            course.read(now)


def test_progress_says_what_is_left(watch):
    now = course.begin(Position())
    steps(now, watch, [5.0, 5.0], wait=1.0)
    told = course.progress(now, MODEL, 6)
    assert (told.step_seconds, told.wait_fraction, told.seconds_left, told.loss) == (5.0, 0.2, 20.0, 1.0)
    assert told.measured_steps == 2


def test_slow_first_steps_and_a_disturbance_do_not_spoil_the_pace(watch):
    now = course.begin(Position())
    steps(now, watch, [20.0, 4.0, *[1.0] * 16, 7.0, 1.0])
    told = course.progress(now, MODEL, 120)
    assert (told.step_seconds, told.seconds_left) == (1.0, 100.0)


def test_steps_that_wait_in_turn_count_with_their_waiting(watch):
    now = course.begin(Position())
    steps(now, watch, [1.0, 1.0, 1.0, 1.0, 6.0] * 4)
    assert course.progress(now, MODEL, 100).step_seconds == 2.0


def test_the_pace_follows_a_machine_that_becomes_slower(watch):
    now = course.begin(Position())
    steps(now, watch, [1.0] * 500 + [3.0] * 60)
    assert course.progress(now, MODEL, 600).step_seconds == 3.0


def test_measuring_and_checkpoints_are_no_part_of_a_step_but_of_what_is_left(watch):
    now = course.begin(Position(step=100))
    steps(now, watch, [1.0] * 20)
    watch.now += 10.0
    course.set_aside(now)
    told = course.progress(now, MODEL, 160)
    assert (told.step_seconds, told.seconds_left) == (1.0, 40 * 1.5)
    steps(now, watch, [1.0])
    told = course.progress(now, MODEL, 160)
    assert (told.step_seconds, told.seconds_left) == (1.0, 39 * 1.5)
    assert now.epoch_seconds == 31.0, "an epoch's line tells all that went by"


def test_a_device_that_runs_ahead_is_timed_when_it_is_waited_for(watch):
    now = course.begin(Position())
    steps(now, watch, [2.0] * 24, group=25)
    assert course.progress(now, MODEL, 100).measured_steps == 0
    now = course.begin(Position())
    steps(now, watch, [2.0] * 50, group=25)
    told = course.progress(now, MODEL, 150)
    assert (told.step_seconds, told.seconds_left, told.measured_steps) == (2.0, 200.0, 50)
