"""`autoseg` as `killed.py` runs it: each step done is noted with its time, and the fastest way of a step is not sought.

    python benchmarks/noted_autoseg.py NOTES INTERVAL WORDS...

NOTES gets a line a step; INTERVAL is that between two checkpoints in seconds, empty for the usual one.
"""

from __future__ import annotations

import os
import sys
import time

from autoseg import cli
from autoseg.pipeline import training
from autoseg.stages.training import Progress, loop, resolve


def main() -> None:
    notes = os.open(sys.argv.pop(1), os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    interval = sys.argv.pop(1)
    loop.CHECKPOINT_SECONDS = float(interval) if interval else loop.CHECKPOINT_SECONDS
    resolve.FORMATS, resolve.PACE_STEPS = ("contiguous",), (1, 1)
    line = training.progress_line

    def noted(now: Progress) -> str:
        os.write(notes, f"{time.monotonic()} {now.model.configuration} {now.step}\n".encode())
        return line(now)

    training.progress_line = noted
    cli.main()


if __name__ == "__main__":
    main()
