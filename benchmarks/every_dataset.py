"""Every folder of data goes the whole way: import, check, plan, train, choose, predict one scan as it came in.

    python benchmarks/every_dataset.py --data ../shared/data --root /tmp/every --minutes 1

Each command is typed as a user would, without an option that has to be looked up. Run it again to go on: what is done
stays done. A Markdown table is printed at the end; the exit code is 1 when a data set that should go through did not.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.images import files
from autoseg.images.cases import read_grid
from autoseg.records.dataset import Case
from autoseg.workspace import Workspace

# Folders that hold no data set to train on, and why; a refusal of these is right, and so is going through.
NO_DATASET = {
    "dicom_ct_series": "one series with empty UIDs, its labels elsewhere",
    "dicom_seg_liver": "three slices with a foreign DICOM SEG",
}


@dataclass
class Row:
    """What became of one folder: step -> words, in order; `failed` names the step that went wrong."""

    name: str
    steps: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    failed: str = ""


STEPS = ("import", "check", "train", "predict")


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", type=Path, default=Path("../shared/data"))
    words.add_argument("--root", type=Path, required=True, help="workspace; kept, so that a second run goes on")
    words.add_argument("--minutes", type=float, default=1.0)
    words.add_argument("--preset", help="another preset, such as smoke")
    words.add_argument("--only", nargs="*", help="names of folders")
    said = words.parse_args()
    folders = [path for path in sorted(said.data.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    rows = []
    for folder in folders:
        if not said.only or folder.name in said.only:
            rows.append(go(folder.resolve(), said.root.resolve(), said.minutes, said.preset))
            print(f"{folder.name}: {rows[-1].failed or 'done'}", file=sys.stderr)
    print(table(rows))
    return int(any(row.failed and row.name not in NO_DATASET for row in rows))


def go(folder: Path, root: Path, minutes: float, preset: str | None) -> Row:
    """Take one folder as far as it goes; the result is kept beside its workspace."""
    kept, row = root / f"{folder.name}.row.json", Row(folder.name)
    if kept.exists():
        row = Row(**json.loads(kept.read_text()))
        if not row.failed:
            return row
        row = Row(folder.name)
    started = time.monotonic()
    for step, action in (("import", do_import), ("check", do_check), ("train", do_train), ("predict", do_predict)):
        try:
            row.steps[step] = action(folder, root, minutes, preset)
        except Refused as refusal:
            row.steps[step], row.failed = f"refused: {refusal}", step
            break
    row.seconds = time.monotonic() - started
    root.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(vars(row), indent=1))
    return row


class Refused(Exception):
    """A command ended with another exit code than 0; holds what it said."""


def typed(*words: object) -> Any:
    """Run `autoseg WORDS --json` and return its document."""
    command = [sys.executable, "-m", "autoseg", *map(str, words), "--json"]
    end = subprocess.run(command, capture_output=True, text=True)
    try:
        content = json.loads(end.stdout) if end.stdout.strip() else {}
    except ValueError:
        content = {}
    if end.returncode:
        error = content.get("error", content)
        what = error.get("what") or (end.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Refused(f"exit code {end.returncode}, {what}")
    return content


def do_import(folder: Path, root: Path, minutes: float, preset: str | None) -> str:
    dataset = typed("import", folder, "--as", folder.name, "--root", root)
    folds = sum(fold["name"] != "all" for fold in dataset["folds"])
    patients = len({case["group"] for case in dataset["cases"]})
    return f"{dataset['layout']}, {len(dataset['cases'])} cases, {patients} patients, {folds} folds"


def do_check(folder: Path, root: Path, minutes: float, preset: str | None) -> str:
    problems = typed("check", "-d", folder.name, "--root", root)["problems"]
    return f"{len(problems)} warnings" if problems else "clean"


def do_train(folder: Path, root: Path, minutes: float, preset: str | None) -> str:
    words = ("--preset", preset) if preset else ("--minutes", minutes)
    typed("run", "-d", folder.name, "--root", root, *words)
    choice = Workspace.locate(folder.name, root).choice()
    dice = "nothing held out" if choice.mean_dice != choice.mean_dice else f"Dice {choice.mean_dice:.3f} out of fold"
    return f"{', '.join(member.split('/')[1] for member in choice.members)}; {dice}"


def do_predict(folder: Path, root: Path, minutes: float, preset: str | None) -> str:
    """Predict the first case anew, from nothing but its images under their own names."""
    dataset = Workspace.locate(folder.name, root).dataset()
    case, place = dataset.cases[0], root / f"{folder.name}.predict"
    shutil.rmtree(place, ignore_errors=True)
    scans = link(case, place / "scans")
    written = typed("predict", "-d", folder.name, "-i", scans, "-o", place / "out", "--format", "auto", "--root", root)
    if len(written) != 1:
        raise Refused(f"{len(written)} scans were found where there is one")
    (result,) = (Path(path) for path in written.values())
    paths = sorted(path for path in result.iterdir()) if result.is_dir() else [result]
    arrays = [files.read_volume(path)[0] for path in paths]
    shape = (sum(array.shape[0] for array in arrays), *arrays[0].shape[1:])
    wanted = read_grid(case.images, dataset.channels).shape
    if shape != wanted:
        raise Refused(f"the prediction has the shape {shape}, the scan {wanted}")
    known = {0, *(item.original for item in dataset.labels.structures)}
    found = {int(value) for array in arrays for value in np.unique(array)}
    if not found <= known:
        raise Refused(f"the prediction holds the values {sorted(found - known)}")
    return f"{paths[0].name}, {len(found - {0})} of {len(known) - 1} structures"


def link(case: Case, folder: Path) -> Path:
    """Return a folder with links to the images of a case, each in a folder of its own folder's name."""
    for source in case.images.values():
        for path in map(Path, source.files()):
            target = folder / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(path)
    return folder


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = ["| folder | " + " | ".join(STEPS) + " | seconds |", "|---|" + "---|" * (len(STEPS) + 1)]
    for row in rows:
        cells = [row.steps.get(step, "").replace("|", "/")[:160] for step in STEPS]
        lines.append(f"| `{row.name}` | " + " | ".join(cells) + f" | {row.seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
