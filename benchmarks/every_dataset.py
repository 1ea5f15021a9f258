"""Every folder of data goes the whole way: import, check, plan, preprocess, train, choose, predict a scan.

    python benchmarks/every_dataset.py --data ../shared/data --root /tmp/every --minutes 1

Each command is typed as a user would, without an option that has to be looked up, one folder after the other. Run it
again to go on: every step that is done stays done. A Markdown table with the seconds of each step is printed at the end
(and kept as `table.md` below the root); the exit code is 1 when a data set did not go through, other than for a reason
named here. The scan comes back in the format that it came in.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.images import files
from autoseg.images.cases import read_grid
from autoseg.images.dicom import seg
from autoseg.records.dataset import Case, Dataset, DicomPart, DicomSegSource
from autoseg.records.errors import UserError
from autoseg.workspace import Workspace

# Folders that are refused, and rightly: the step that refuses, words that it must say, and why.
REFUSED = {
    "dicom_ct_series": ("import", "0 RTSTRUCT or SEG", "a series alone; its labels lie elsewhere"),
    "totalsegmentator": ("check", "shape", "its masks cover 30 of 112 slices and were cut without moving their origin"),
}
STEPS = ("import", "check", "plan_and_preprocess", "run", "predict")


@dataclass
class Row:
    """What became of one folder: step -> words and seconds, in order; `failed` names the step that went wrong."""

    name: str
    steps: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: str = ""

    def right(self) -> bool:
        """Return whether it went through, or was refused where and as it has to be."""
        if self.name not in REFUSED:
            return not self.failed
        step, words, _ = REFUSED[self.name]
        return self.failed == step and words in self.steps[step]


@dataclass(frozen=True)
class Way:
    """One folder, and how it is to go."""

    folder: Path
    root: Path
    budget: tuple[object, ...]
    limit_seconds: float


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", type=Path, default=Path("../shared/data"))
    words.add_argument("--root", type=Path, required=True, help="workspace; kept, so that a second run goes on")
    words.add_argument("--minutes", type=float, default=1.0)
    words.add_argument("--preset", help="another preset, such as smoke")
    words.add_argument("--only", nargs="*", help="names of folders")
    words.add_argument("--limit", type=float, default=420.0, help="seconds a command may take")
    said = words.parse_args()
    folders = [path for path in sorted(said.data.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    budget = ("--preset", said.preset) if said.preset else ("--minutes", said.minutes)
    said.root.mkdir(parents=True, exist_ok=True)
    rows = []
    for folder in folders:
        if not said.only or folder.name in said.only:
            rows.append(go(Way(folder.resolve(), said.root.resolve(), budget, said.limit)))
            print(f"{folder.name}: {rows[-1].failed or 'done'}", file=sys.stderr)
    (said.root / "table.md").write_text(table(rows) + "\n")
    print(table(rows))
    return int(not all(row.right() for row in rows))


def go(way: Way) -> Row:
    """Take one folder as far as it goes; what is done is kept beside its workspace after every step."""
    kept, row = way.root / f"{way.folder.name}.row.json", Row(way.folder.name)
    if kept.exists():
        row = Row(**json.loads(kept.read_text()))
        row.steps.pop(row.failed, None)
        row.failed = ""
    for step, action in ACTIONS.items():
        if step in row.steps:
            continue
        started = time.monotonic()
        try:
            row.steps[step] = action(way)
        except (Refused, UserError) as refusal:
            row.steps[step], row.failed = f"refused: {refusal}", step
        row.seconds[step] = round(time.monotonic() - started, 1)
        kept.write_text(json.dumps(vars(row), indent=1))
        if row.failed:
            break
    return row


class Refused(Exception):
    """A command ended with another exit code than 0; holds what it said."""


def typed(way: Way, *words: object) -> Any:
    """Run `autoseg WORDS --root ROOT` and return its document, where it prints one."""
    command = [sys.executable, "-m", "autoseg", *map(str, words), "--root", str(way.root)]
    try:
        end = subprocess.run(command, capture_output=True, text=True, timeout=way.limit_seconds)
    except subprocess.TimeoutExpired:
        raise Refused(f"stopped after {way.limit_seconds:.0f} s") from None
    try:
        content = json.loads(end.stdout) if "--json" in words and end.stdout.strip() else {}
    except ValueError:
        content = {}
    if end.returncode:
        raise Refused(f"exit code {end.returncode}, {_reason(content) or _last_line(end.stderr)}")
    return content


def _reason(content: dict[str, Any]) -> str:
    """Return what an error document, or the first error of a check, says."""
    errors = [item for item in content.get("problems", ()) if item["severity"] == "error"]
    return str(content.get("error", errors[0] if errors else {}).get("what", ""))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]


def do_import(way: Way) -> str:
    """Import, and say what was recognised."""
    dataset = typed(way, "import", way.folder, "--as", way.folder.name, "--json")
    folds = sum(fold["name"] != "all" for fold in dataset["folds"])
    patients = len({case["group"] for case in dataset["cases"]})
    return f"{dataset['layout']}, {len(dataset['cases'])} cases, {patients} patients, {folds} folds"


def do_check(way: Way) -> str:
    """Check, and count the warnings by their code."""
    problems = typed(way, "check", "-d", way.folder.name, "--json")["problems"]
    codes = Counter(item["code"] for item in problems)
    return ", ".join(f"{count} {code}" for code, count in codes.items()) or "clean"


def do_plan(way: Way) -> str:
    """Measure, plan and preprocess, and say what is planned."""
    typed(way, "plan_and_preprocess", "-d", way.folder.name, *way.budget)
    plan = Workspace.locate(way.folder.name, way.root).plan("default")
    return ", ".join(
        f"{item.name} patch {'x'.join(map(str, item.patch_shape))} batch {item.batch_size}"
        for item in plan.configurations
    )


def do_run(way: Way) -> str:
    """Train, choose and report: `run` finds the plan and the preprocessed cases there."""
    typed(way, "run", "-d", way.folder.name, *way.budget)
    choice = Workspace.locate(way.folder.name, way.root).choice()
    dice = "nothing held out" if choice.mean_dice != choice.mean_dice else f"Dice {choice.mean_dice:.3f} out of fold"
    return f"{', '.join(member.split('/')[1] for member in choice.members)}; {dice}"


def do_predict(way: Way) -> str:
    """Predict the first case anew, from nothing but its images under their own names."""
    name = way.folder.name
    dataset = Workspace.locate(name, way.root).dataset()
    case, place = dataset.cases[0], way.root / f"{name}.predict"
    shutil.rmtree(place, ignore_errors=True)
    scans, out = link(case, place / "scans"), place / "out"
    written = typed(way, "predict", "-d", name, "-i", scans, "-o", out, "--format", "auto", "--json")
    if len(written) != 1:
        raise Refused(f"{len(written)} scans were found where there is one")
    (result,) = (Path(path) for path in written.values())
    paths = sorted(path for path in result.iterdir()) if result.is_dir() else [result]
    if result.suffix == ".dcm":
        return segments_of(result, case, dataset)
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


def segments_of(file: Path, case: Case, dataset: Dataset) -> str:
    """Return how many structures a DICOM SEG holds; each frame must lie on the scan's voxels, none may get lost."""
    names = [item.name for item in dataset.labels.structures]
    there = {item.number: item.name for item in seg.read(file).segments}
    if not set(there.values()) <= set(names):
        raise Refused(f"the segments are called {', '.join(there.values())}, the structures {', '.join(names)}")
    parts = tuple(DicomPart(path=str(file), number=number, value=number) for number in there)
    painted = seg.paint(DicomSegSource(segments=parts), read_grid(case.images, dataset.channels), dtype=np.uint8)
    sizes = {number: int((painted == number).sum()) for number in there}
    if sizes != seg.sizes(file):
        raise Refused(f"{sizes} voxels of the segments lie on the scan, and the file holds {seg.sizes(file)}")
    return f"{file.name}, {sum(size > 0 for size in sizes.values())} of {len(names)} structures"


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
    """Return the rows as Markdown, each step with its seconds."""
    lines = ["| folder | " + " | ".join(STEPS) + " | seconds |", "|---|" + "---|" * (len(STEPS) + 1)]
    for row in rows:
        cells = [cell(row, step) for step in STEPS]
        why = f" (rightly: {REFUSED[row.name][2]})" if row.name in REFUSED and row.right() else ""
        lines.append(f"| `{row.name}`{why} | " + " | ".join(cells) + f" | {sum(row.seconds.values()):.0f} |")
    lines.append(f"\nAll of it: {sum(sum(row.seconds.values()) for row in rows) / 60:.1f} minutes.")
    return "\n".join(lines)


def cell(row: Row, step: str) -> str:
    """Return what one step came to, and its seconds."""
    if step not in row.steps:
        return ""
    return f"{row.steps[step].replace('|', '/')[:200]} ({row.seconds[step]:.0f} s)"


ACTIONS: dict[str, Callable[[Way], str]] = dict(
    zip(STEPS, (do_import, do_check, do_plan, do_run, do_predict), strict=True)
)

if __name__ == "__main__":
    sys.exit(main())
