"""Further tiny data sets in exactly the published layouts: BIDS, MONAI datalists, UW-Madison GI tract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from autoseg.images.files import write_volume
from autoseg.images.slices import encode
from autoseg.records.geometry import Grid
from tests.stages.importing.writers import blob, voxels, write_json, write_nifti

CLASSES = ("large_bowel", "small_bowel", "stomach")
SIZE = (6, 8)  # (y, x) of a slice
SLICES = 3


def bids(folder: Path, subjects: Sequence[str], *, label: str = "{case}_T1w_seg-manual", session: str = "") -> Path:
    """Write T1w and FLAIR of each subject, and a label map named by the pattern `label`."""
    write_json(folder / "dataset_description.json", {"BIDSVersion": "1.8.0", "Name": "Tiny"})
    rows = ["participant_id\tsex\tage\tlast_name\tinstitution_id"]
    for seed, subject in enumerate(subjects):
        place = Path(f"sub-{subject}", f"ses-{session}") if session else Path(f"sub-{subject}")
        case = "_".join(place.parts)
        for number, suffix in enumerate(("T1w", "FLAIR")):
            write_nifti(folder / place / "anat" / f"{case}_{suffix}.nii.gz", voxels(10 * seed + number))
        name = label.format(case=case)
        write_nifti(folder / "derivatives" / "labels" / place / "anat" / f"{name}.nii.gz", blob(1, 2))
        rows.append(f"sub-{subject}\t{'FM'[seed % 2]}\tn/a\tDoe\tA")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return folder


def datalist(folder: Path, ids: Sequence[str], **more: object) -> Path:
    """Write two channels a case, folds 0 to 2 in turn, and one test image without labels."""
    entries = []
    for seed, id in enumerate(ids):
        for number, suffix in enumerate(("t1", "t2")):
            write_nifti(folder / "images" / f"{id}_{suffix}.nii.gz", voxels(10 * seed + number))
        write_nifti(folder / "labels" / f"{id}.nii.gz", blob(1, 4))
        images = [f"images/{id}_t1.nii.gz", f"./images/{id}_t2.nii.gz"]
        entries.append({"image": images, "label": f"labels/{id}.nii.gz", "fold": seed % 3})
    content = {"training": entries, "testing": [{"image": ["images/z_t1.nii.gz", "images/z_t2.nii.gz"]}]}
    write_json(folder / "datalist.json", content | more)
    return folder


def gi_tract(folder: Path, ids: Sequence[str], *, masks: Mapping[str, np.ndarray] | None = None) -> Path:
    """Write scans of `SLICES` slices; `masks`: class -> bool (Z, Y, X), the same in every scan."""
    rows = ["id,class,segmentation"]
    for seed, id in enumerate(ids):
        scan = 1000 + np.random.default_rng(seed).integers(0, 5000, (SLICES, *SIZE)).astype(np.uint16)
        scans = folder / "train" / id.partition("_")[0] / id / "scans"
        scans.mkdir(parents=True)
        for z, picture in enumerate(scan):
            path = scans / f"slice_{z + 1:04d}_{SIZE[1]}_{SIZE[0]}_1.50_1.63.png"
            write_volume(path, picture[None], Grid(shape=(1, *SIZE), spacing_mm=(1.0, 1.0, 1.0)))
            for name in CLASSES:
                text = encode(masks[name][z]) if masks and name in masks else ""
                rows.append(f"{id}_slice_{z + 1:04d},{name},{text}")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")
    return folder


def box(x: int, *, width: int = 2) -> np.ndarray:
    """A box in the two upper slices, rows 1 to 3, from column `x` on."""
    mask = np.zeros((SLICES, *SIZE), bool)
    mask[1:, 1:4, x : x + width] = True
    return mask
