from dataclasses import replace

from autoseg.pipeline.training import progress_line
from autoseg.stages.training import Progress
from tests.stages.training.records import MODEL

NOW = Progress(
    model=MODEL, step=40, steps=100, loss=0.41, step_seconds=0.25, wait_fraction=0.034, seconds_left=15, memory_gb=2.04
)


def test_it_tells_loss_dice_time_waiting_and_memory():
    now = replace(NOW, dice={"front": 0.81, "back": 0.77, "gone": float("nan")})
    assert progress_line(now) == ("step 40/100 loss 0.410, Dice back 0.77 front 0.81, 0.25 s/step, waiting 3%, 2.0 GB")


def test_before_the_first_epoch_there_is_no_dice_and_no_waiting_worth_a_word():
    assert progress_line(replace(NOW, wait_fraction=0.004, memory_gb=0.0)) == "step 40/100 loss 0.410, 0.25 s/step"


def test_of_many_classes_the_lowest_four_are_shown():
    now = replace(NOW, dice={f"s{k}": k / 10 for k in range(9, 0, -1)}, wait_fraction=0, memory_gb=0)
    assert "Dice lowest s1 0.10 s2 0.20 s3 0.30 s4 0.40, 0.25" in progress_line(now)
