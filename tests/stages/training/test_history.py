import math

import pytest

from autoseg.stages.training import history
from autoseg.stages.training.history import Epoch


def line(step, loss=0.5):
    return Epoch(
        epoch=step // 10,
        step=step,
        loss=loss,
        rate=0.01,
        seconds=1.5,
        wait_fraction=0.1,
        samples=2 * step,
        dice=0.6,
        average_dice=0.7,
        measured_on="patients",
        by_class={"front": 0.5, "back": 0.75},
    )


def test_lines_come_back_as_written(tmp_path):
    for step in (10, 20):
        history.append(tmp_path, line(step))
    assert history.read(tmp_path) == (line(10), line(20))


def test_a_loss_that_was_never_finite_survives(tmp_path):
    history.append(tmp_path, line(10, loss=math.nan))
    assert math.isnan(history.read(tmp_path)[0].loss)


def test_rewinding_drops_what_will_be_done_again(tmp_path):
    for step in (10, 20, 30):
        history.append(tmp_path, line(step))
    history.rewind(tmp_path, 20)
    assert [item.step for item in history.read(tmp_path)] == [10, 20]


def test_half_a_line_of_a_killed_process_is_dropped(tmp_path):
    history.append(tmp_path, line(10))
    with open(tmp_path / "history.jsonl", "a") as stream:
        stream.write('{"epoch": 2, "st')
    assert [item.step for item in history.read(tmp_path)] == [10]
    history.rewind(tmp_path, 10)
    history.append(tmp_path, line(20))
    assert [item.step for item in history.read(tmp_path)] == [10, 20]


def test_the_csv_has_a_head_and_a_row_an_epoch(tmp_path):
    history.append(tmp_path, line(10))
    history.write_csv(tmp_path)
    head, row = (tmp_path / "history.csv").read_text().splitlines()
    assert head == (
        "epoch,step,loss,rate,seconds,wait_fraction,samples,skipped,dice,average_dice,measured_on,dice front,dice back"
    )
    assert row == "1,10,0.5,0.01,1.5,0.1,20,0,0.6,0.7,patients,0.5,0.75"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_picture_is_a_png_even_of_an_empty_history(tmp_path, count):
    for step in range(count):
        history.append(tmp_path, line(10 * (step + 1)))
    history.draw_curves(tmp_path, title="toy")
    assert (tmp_path / "curves.png").read_bytes()[1:4] == b"PNG"


def test_a_line_written_before_dice_was_measured_is_read(tmp_path):
    old = '{"epoch": 1, "step": 10, "loss": 0.5, "rate": 0.01, "seconds": 1, "wait_fraction": 0, "samples": 20}\n'
    (tmp_path / "history.jsonl").write_text(old)
    assert math.isnan(history.read(tmp_path)[0].dice)
