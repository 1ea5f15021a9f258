"""Killed (SIGKILL) at 20 random moments: what is done again, and does the result equal the unbroken run's?

    python benchmarks/killed.py --folder /tmp/killed
    python benchmarks/killed.py --folder /tmp/killed --command run --interval 0 --steps 40

Heads of the phantom, the preset `smoke`, one thread. The command (`train`: two configurations of one fold; `run`: all
of it) runs once unbroken; then, from the same start, it is killed at random moments and typed again, until it comes to
its end; where it ends before all kills were spent, another copy begins. Moments are drawn over the way to the first
step and twice the interval between two checkpoints (over the length of the unbroken run where that is shorter, or the
interval is 0). Every process is a real `autoseg`, but for three things: each step done is noted with its time, the
fastest way of a step is not looked for (it is measured, so it may differ from run to run), and `--interval` may change
the 90 s between two checkpoints.

Printed: how many kills fell into training, the most steps and seconds done again after one, and whether weights,
held-out predictions, scores and losses are equal byte for byte. The exit code is 1 where they are not. The folder is
emptied first.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.phantom import write_phantom
from autoseg.stages.training import history
from autoseg.stages.training.loop import CHECKPOINT_SECONDS

REPOSITORY = Path(__file__).resolve().parents[1]
NAME, PLAN = "Heads", "killed"
PROGRAM = Path(__file__).with_name("noted_autoseg.py")


@dataclass(frozen=True)
class Step:
    """A step that was done: when, of which configuration, its number from 1."""

    seconds: float
    configuration: str
    number: int


@dataclass(frozen=True)
class End:
    """How a process ended: of its own accord or killed, when, and what it had done."""

    killed: bool
    began: float
    ended: float
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Trial:
    """What is tried: the command's words, and the seconds between two checkpoints as typed ("" for those shipped)."""

    words: tuple[str, ...]
    interval: str


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--folder", type=Path, required=True)
    words.add_argument("--command", choices=("train", "run"), default="train")
    words.add_argument("--kills", type=int, default=20)
    words.add_argument("--steps", type=int, default=2000, help="of each configuration")
    words.add_argument("--interval", default="", help="seconds between two checkpoints, instead of those shipped")
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    shutil.rmtree(given.folder, ignore_errors=True)
    planning = ("-d", NAME, "--preset", "smoke", "--plan", PLAN, "--set", f"recipe.steps_per_epoch={given.steps}")
    command = ("train", "-d", NAME, "--plan", PLAN, "-f", "0") if given.command == "train" else ("run", *planning)
    start = prepared(given.folder / "start", planning if given.command == "train" else ())
    trial = Trial(command, given.interval)
    whole = copied(start, given.folder / "whole")
    unbroken = begin(whole, trial)
    length, starting = unbroken.ended - unbroken.began, unbroken.steps[0].seconds - unbroken.began
    interval = float(given.interval or CHECKPOINT_SECONDS)
    longest = min(length, starting + 2 * interval) if interval else length
    rng = np.random.default_rng(given.seed)
    ended: list[list[End]] = []
    wrong: list[str] = []
    for place, ends in rounds(start, given.folder, trial, (float(rng.uniform(0, longest)) for _ in range(given.kills))):
        ended.append(ends)
        wrong += [f"{place.name}: {name}" for name in different(whole, place)]
    found = judged(ended)
    print(json.dumps({**found, "unbroken_seconds": round(length, 2), "different": wrong}, indent=1))
    return int(bool(wrong))


def prepared(folder: Path, planning: Sequence[str]) -> Path:
    """Write heads and import them; plan and preprocess where words for that are given."""
    write_phantom(folder / "raw", cases=6, unseen=0)
    typed: list[tuple[str, ...]] = [("import", str(folder / "raw"), "--as", NAME, "--folds", "3")]
    typed += [("plan_and_preprocess", *planning, "--workers", "1")] if planning else []
    for words in typed:
        command = [sys.executable, "-m", "autoseg", *words, "--root", str(folder / "workspace")]
        subprocess.run(command, env=environment(), check=True, capture_output=True)
    return folder


def copied(start: Path, folder: Path) -> Path:
    """Return a folder with a workspace of its own; the images are those of the start."""
    shutil.copytree(start / "workspace", folder / "workspace")
    return folder


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def begin(folder: Path, trial: Trial, *, kill_after: float | None = None) -> End:
    """Run the command on a folder's workspace, to its end or for so many seconds."""
    notes, began = folder / "notes", time.monotonic()
    notes.unlink(missing_ok=True)
    root = ("--root", str(folder / "workspace"))
    command = [sys.executable, str(PROGRAM), str(notes), trial.interval, *trial.words, *root]
    with open(folder / "said", "w") as said:
        process = subprocess.Popen(command, env=environment(), stdout=said, stderr=said)
        try:
            process.wait(kill_after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    ended = time.monotonic()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"exit code {process.returncode}: {(folder / 'said').read_text()}")
    lines = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
    steps = tuple(Step(float(seconds), name, int(number)) for seconds, name, number in lines)
    return End(process.returncode != 0, began, ended, steps)


def rounds(start: Path, folder: Path, trial: Trial, moments: Iterator[float]) -> Iterator[tuple[Path, list[End]]]:
    """Yield folders in which the command came to its end, with all of its processes, until no moment is left."""
    moment = next(moments, None)
    for number in itertools.count(1):
        place = copied(start, folder / f"round_{number}")
        ends: list[End] = []
        while not ends or ends[-1].killed:
            ends.append(begin(place, trial, kill_after=moment))
            moment = next(moments, None) if ends[-1].killed else moment
        yield place, ends
        if moment is None:
            return


def judged(ended: Sequence[Sequence[End]]) -> dict[str, float]:
    """Return how often was killed, and what was done again: of each process that trained and the next that did."""
    trained = [[end for end in ends if end.steps] for ends in ended]
    lost = [done_again(one, other) for ends in trained for one, other in itertools.pairwise(ends)]
    return {
        "kills": sum(end.killed for ends in ended for end in ends),
        "kills_in_training": sum(end.killed for ends in trained for end in ends),
        "most_steps_again": max((steps for steps, _ in lost), default=0),
        "most_seconds_again": round(max((seconds for _, seconds in lost), default=0.0), 2),
        "seconds_again": round(sum(seconds for _, seconds in lost), 2),
    }


def done_again(one: End, other: End) -> tuple[int, float]:
    """Return how many steps of a killed process the next one did again, and the seconds from there to the kill."""
    first = {step.configuration: step.number for step in reversed(other.steps)}
    again = [step for step in one.steps if step.number >= first.get(step.configuration, step.number + 1)]
    if not again:
        return 0, 0.0
    before = [step.seconds for step in one.steps if step.seconds < again[0].seconds]
    return len(again), one.ended - (before[-1] if before else again[0].seconds)


def different(whole: Path, place: Path) -> list[str]:
    """Return what differs between two workspaces, or was left half done in the second."""
    one, other = contents(whole), contents(place)
    found = [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
    every = (place / "workspace").rglob("*")
    return found + [str(path) for path in every if path.name == "lock" or path.name.startswith(".tmp-")]


def contents(folder: Path) -> dict[str, object]:
    """Return what trained models are and say: everything but times."""
    models = folder / "workspace" / NAME / "models"
    kept = ("model.safetensors", "scores.csv", "evaluation.json")
    found: dict[str, object] = {
        str(path.relative_to(models)): path.read_bytes()
        for path in models.rglob("*")
        if path.name in kept or path.suffix == ".b2nd"
    }
    for path in models.rglob("history.jsonl"):
        lines = history.read(path.parent)
        # As text: a Dice of nothing is nan, which equals nothing.
        found[str(path.relative_to(models))] = str([(line.step, line.loss, line.rate, line.by_class) for line in lines])
    return found


if __name__ == "__main__":
    sys.exit(main())
