"""What TensorBoard is given, read back by its own reader."""

from __future__ import annotations

import builtins

import pytest

from autoseg.records.errors import UsageError
from autoseg.stages.training import history, tensorboard
from tests.stages.training.records import MODEL, fit, make_cases, make_plan
from tests.stages.training.test_loop import stop_after


def read_back(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(item.step, item.value) for item in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_stopped_and_resumed_run_shows_every_epoch_once(tmp_path):
    pytest.importorskip("tensorboard")
    with pytest.raises(KeyboardInterrupt):
        fit(make_plan(), MODEL, tmp_path, make_cases(), tensorboard=True, on_progress=stop_after(5))
    fit(make_plan(), MODEL, tmp_path, make_cases(), tensorboard=True)
    epochs, shown = history.read(tmp_path), read_back(tmp_path)
    assert [step for step, _ in shown["loss"]] == [item.step for item in epochs]
    assert [value for _, value in shown["loss"]] == pytest.approx([item.loss for item in epochs])
    assert {"dice/batch", "dice_by_class/front", "learning_rate", "time/wait_fraction"} <= set(shown)


def test_what_was_not_measured_is_not_shown():
    epoch = history.Epoch(
        epoch=1, step=4, loss=0.5, rate=0.1, seconds=2.0, wait_fraction=0.0, samples=8, by_class={"liver": 0.7}
    )
    assert tensorboard.scalars(epoch) == {
        "loss": 0.5,
        "learning_rate": 0.1,
        "time/epoch_seconds": 2.0,
        "time/wait_fraction": 0.0,
        "dice_by_class/liver": 0.7,
    }


def test_without_the_package_the_run_does_not_begin(tmp_path, monkeypatch):
    load = builtins.__import__

    def absent(name, *rest, **more):
        if name == "torch.utils.tensorboard":
            raise ImportError(name)
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UsageError, match="--tensorboard needs a package that is not installed"):
        fit(make_plan(), MODEL, tmp_path / "run", make_cases(), tensorboard=True)
    assert not (tmp_path / "run").exists()
