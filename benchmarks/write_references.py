"""Writes `plans/reference`: fingerprints of known data sets, their plans, and the dry runs that the plans rest on.

    python benchmarks/write_references.py --preset unet --preset residual_unet_m

A plan that is there already is made again from its stored dry runs; only what is missing is measured. Hippocampus is
measured from the images (`--hippocampus FOLDER`); the other fingerprints are written from published facts, and where a
number is not published (shapes of single cases, intensities) it is typical and says nothing of a real case.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from autoseg.networks.memory import measure_step
from autoseg.records.dataset import Channel
from autoseg.records.fingerprint import CaseFacts, Fingerprint, Intensity
from autoseg.records.geometry import Shape, Triple
from autoseg.records.labels import Labels, Structure
from autoseg.records.machine import DeviceProfile
from autoseg.stages import fingerprinting, importing
from autoseg.stages.planning import load_preset, make_plan
from autoseg.stages.planning.stored import Points, recording

FOLDER = Path(__file__).resolve().parents[1] / "plans" / "reference"
MEMORIES_GB = (8, 24, 80)
SIDES = ("left", "right")
PAIRED = (
    "carotid_artery",
    "cochlea",
    "anterior_eye",
    "posterior_eye",
    "lacrimal_gland",
    "submandibular_gland",
    "optic_nerve",
    "parotid",
)
SINGLE = (
    "arytenoid",
    "mandible",
    "brainstem",
    "buccal_mucosa",
    "oral_cavity",
    "cricopharyngeus",
    "cervical_esophagus",
    "thyroid",
    "glottis",
    "supraglottic_larynx",
    "lips",
    "optic_chiasm",
    "pituitary",
    "spinal_cord",
)


def labels(names: Iterable[str]) -> Labels:
    """Return labels with a mirror pair for every `x_left` beside an `x_right`."""
    structures = tuple(Structure(name=name, value=n, original=n) for n, name in enumerate(names, start=1))
    values = {item.name: item.value for item in structures}
    pairs = tuple(
        (value, values[name.replace(*SIDES)])
        for name, value in values.items()
        if name.endswith(SIDES[0]) and name.replace(*SIDES) in values
    )
    return Labels(structures=structures, mirror_pairs=pairs)


def published(
    name: str, channels: dict[str, str], names: Iterable[str], facts: list[tuple[Shape, Triple]]
) -> Fingerprint:
    """Return the fingerprint of a data set known from its publication; `facts` are shape and spacing of each case."""
    typical = {"ct": (40.0, 100.0, -300.0, 1200.0), "mr": (400.0, 200.0, 20.0, 1100.0)}
    intensities = []
    for channel, kind in channels.items():
        mean, std, low, high = typical[kind]
        intensities.append(
            Intensity(
                channel=channel, mean=mean, median=mean, std=std, minimum=low, maximum=high, p00_5=low, p99_5=high
            )
        )
    return Fingerprint(
        dataset=name,
        dataset_digest="0" * 16,
        channels=tuple(Channel(name=channel, kind=kind) for channel, kind in channels.items()),
        labels=labels(names),
        groups=len(facts),
        cases=tuple(
            CaseFacts(id=f"{n:04}", shape=shape, spacing_mm=mm, crop_fraction=1.0, voxels=())
            for n, (shape, mm) in enumerate(facts)
        ),
        intensities=tuple(intensities),
        structures=(),
    )


def han_seg() -> Fingerprint:
    """42 cases, CT with MR beside it on the CT's grid, 30 organs. Podobnik et al. 2023, doi:10.1002/mp.16197."""
    facts = [((202, 1024, 1024), (2.0, 0.56, 0.56))] * 42
    return published(
        "han_seg",
        {"ct": "ct", "mr_t1": "mr"},
        [*(f"{name}_{side}" for name in PAIRED for side in SIDES), *SINGLE],
        facts,
    )


def brain_metastases() -> Fingerprint:
    """273 cases, T1 with contrast at 1 mm, on the grid of the BraTS atlas."""
    facts = [((155, 240, 240), (1.0, 1.0, 1.0))] * 273
    return published("brain_metastases", {"t1_contrast": "mr"}, ["metastasis"], facts)


def uw_madison() -> Fingerprint:
    """272 scans of 144 slices of 3 mm, most of 266 x 266 voxels at 1.5 mm, some of 310 x 360."""
    names = ["large_bowel", "small_bowel", "stomach"]
    small, large = ((144, 266, 266), (3.0, 1.5, 1.5)), ((144, 310, 360), (3.0, 1.5, 1.5))
    facts = [large if scan % 8 == 0 else small for scan in range(272)]
    return published("uw_madison", {"mr": "mr"}, names, facts)


def totalsegmentator() -> Fingerprint:
    """117 classes at 1.5 mm; 120 rows stand for 1228 scans from a head to a whole trunk. Wasserthal et al. 2023."""
    facts = []
    for row in range(120):
        z, edge = 100 + (row * 53) % 120 * 3, 200 + (row * 37) % 120
        facts.append(((z, edge, edge), (1.5, 1.5, 1.5)))
    return published("totalsegmentator", {"ct": "ct"}, [f"class_{n:03}" for n in range(1, 118)], facts)


def hippocampus(source: Path) -> Fingerprint:
    """Measured from Task 4 of the Medical Segmentation Decathlon; case names carry no meaning and are numbers here."""
    dataset = importing.import_dataset(source, "hippocampus", options=importing.ImportOptions())
    found = fingerprinting.measure(dataset, workers=1)
    cases = tuple(case.model_copy(update={"id": f"{n:04}"}) for n, case in enumerate(found.cases))
    return found.model_copy(update={"cases": cases, "dataset_digest": "0" * 16})


def device(memory_gb: int) -> DeviceProfile:
    """Return a card with this memory; its speed plays no part."""
    return DeviceProfile(kind="cuda", name="reference", memory_gb=memory_gb, fast_bfloat16=True)


def write_plans(folder: Path, preset: str) -> None:
    """Write the plans of one preset for one data set, and the dry runs behind them."""
    fingerprint = Fingerprint.parse((folder / "fingerprint.json").read_text(), file=str(folder))
    file = folder / "points.json"
    everything: dict[str, Points] = json.loads(file.read_text()) if file.exists() else {}
    known = everything.get(preset, {})
    used: Points = {}
    for memory_gb in MEMORIES_GB:
        cost = recording(recording(measure_step, known), used)
        plan = make_plan(fingerprint, [load_preset(preset)], device(memory_gb), cost=cost, version="reference")
        (folder / f"{preset}_{memory_gb}gb.json").write_text(plan.model_dump_json() + "\n")
        everything[preset] = used
        rows = json.dumps(everything, indent=0, sort_keys=True).replace("[\n", "[").replace("\n]", "]")
        file.write_text(rows.replace(",\n", ", ").replace("], ", "],\n") + "\n")
        print(folder.name, preset, memory_gb, "GB:", len(used), "dry runs")


def main() -> None:
    """Write fingerprints, then plans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", action="append", default=[])
    parser.add_argument("--dataset", action="append", default=[])
    parser.add_argument("--hippocampus", type=Path, help="Folder of the images, to measure them again.")
    given = parser.parse_args()
    found = [han_seg(), brain_metastases(), uw_madison(), totalsegmentator()]
    found += [hippocampus(given.hippocampus)] if given.hippocampus else []
    for fingerprint in found:
        folder = FOLDER / fingerprint.dataset
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "fingerprint.json").write_text(fingerprint.model_dump_json() + "\n")
    for preset in given.preset:
        for folder in sorted(path.parent for path in FOLDER.glob("*/fingerprint.json")):
            if not given.dataset or folder.name in given.dataset:
                write_plans(folder, preset)


if __name__ == "__main__":
    main()
