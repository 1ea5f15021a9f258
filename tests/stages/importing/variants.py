"""Further forms that the published layouts come in, each written small by one function."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from tests.stages.importing import published, simple, writers
from tests.stages.importing.writers import blob, voxels, write_json, write_nifti

REGIONS = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}


def nnunet_v1(folder: Path, ids: Sequence[str]) -> Path:
    """As nnU-Net 1 had it: `modality`, value -> name, pairs that name files without their channel number."""
    writers.nnunet(folder, ids)
    entries = [{"image": f"./imagesTr/{id}.nii.gz", "label": f"./labelsTr/{id}.nii.gz"} for id in ids]
    labels = {"0": "background", "1": "left", "2": "right"}
    about = {"name": "Tiny", "tensorImageSize": "4D", "modality": {"0": "CT"}, "labels": labels}
    more = {"numTraining": len(ids), "numTest": 0, "training": entries, "test": []}
    write_json(folder / "dataset.json", about | more)
    return folder


def nnunet_regions(folder: Path, ids: Sequence[str]) -> Path:
    """Regions with an ignore label, and a reader that nnU-Net would be told to use."""
    reader = {"overwrite_image_reader_writer": "NibabelIOWithReorient"}
    return writers.nnunet(folder, ids, labels=REGIONS, values=(1, 2, 3), regions_class_order=[1, 2], **reader)


def nnunet_listed(folder: Path, ids: Sequence[str]) -> Path:
    """Explicit paths in `dataset.json` instead of imagesTr and labelsTr."""
    entries = {}
    for seed, id in enumerate(ids):
        write_nifti(folder / "scans" / f"{id}.nii.gz", voxels(seed))
        write_nifti(folder / "truth" / f"{id}.nii.gz", blob(1))
        entries[id] = {"images": [f"scans/{id}.nii.gz"], "label": f"truth/{id}.nii.gz"}
    (folder / "imagesTr").mkdir()
    labels = {"background": 0, "organ": 1}
    about = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz", "numTraining": len(ids)}
    write_json(folder / "dataset.json", about | {"dataset": entries})
    return folder


def nnunet_pictures(folder: Path, ids: Sequence[str]) -> Path:
    """2D colour pictures as nnU-Net 2 has them: one png with three channel names."""
    for seed, id in enumerate(ids):
        simple.picture(folder / "imagesTr" / f"{id}_0000.png", simple.photo(seed, 3))
        simple.picture(folder / "labelsTr" / f"{id}.png", simple.mask(1))
    about = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "cell": 1}}
    write_json(folder / "dataset.json", about | {"numTraining": len(ids), "file_ending": ".png"})
    return folder


def totalsegmentator_splits(folder: Path, ids: Sequence[str]) -> Path:
    """With `meta.csv`, where all are trained on, and empty masks."""
    simple.totalsegmentator(folder, {id: ("liver", "spleen") for id in ids})
    for id in ids[1:3]:
        write_nifti(folder / id / "segmentations" / "spleen.nii.gz", blob(0))
    rows = [f"{id};30;m;{'val' if n % 2 else 'train'}" for n, id in enumerate(ids)]
    (folder / "meta.csv").write_text("\n".join(["image_id;age;gender;split", *rows]) + "\n")
    return folder


def stacks(folder: Path, ids: Sequence[str]) -> Path:
    """TIFF stacks with masks of 0 and 255, as microscopes give them."""
    for seed, id in enumerate(ids):
        for name, array in (("images", voxels(seed).astype(np.uint16)), ("masks", blob(255))):
            path = folder / name / f"{id}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, array, photometric="minisblack")
    return folder


def pictures_index(folder: Path, ids: Sequence[str]) -> Path:
    """jpg pictures beside bmp masks that hold one value a structure."""
    for seed, id in enumerate(ids):
        simple.picture(folder / f"{id}.jpg", simple.photo(seed))
        simple.picture(folder / f"{id}_mask.bmp", simple.mask(1, 2))
    return folder


def pictures_rgba(folder: Path, ids: Sequence[str]) -> Path:
    """Colour pictures with an alpha channel that hides nothing; masks of grey stored as equal colours."""
    for seed, id in enumerate(ids):
        rgba = np.dstack([simple.photo(seed, 3), np.full((8, 10), 255, np.uint8)])
        simple.picture(folder / "images" / f"{id}.png", rgba)
        simple.picture(folder / "labels" / f"{id}.png", np.repeat(simple.mask(255)[..., None], 3, axis=2))
    return folder


def volumes_beside(folder: Path, ids: Sequence[str]) -> Path:
    for seed, id in enumerate(ids):
        write_nifti(folder / f"{id}.nii.gz", voxels(seed))
        write_nifti(folder / f"{id}_seg.nii.gz", blob(1, 2))
    return folder


def volumes_folders(folder: Path, ids: Sequence[str]) -> Path:
    for seed, id in enumerate(ids):
        writers.write_nrrd(folder / "images" / f"{id}.nrrd", voxels(seed))
        writers.write_nrrd(folder / "labels" / f"{id}.nrrd", blob(1))
    return folder


def volumes_cases(folder: Path, ids: Sequence[str]) -> Path:
    """A folder a case, files called as the folder, as BraTS has it."""
    for seed, id in enumerate(ids):
        for number, name in enumerate(("t1c", "t2w")):
            write_nifti(folder / id / f"{id}-{name}.nii.gz", voxels(10 * seed + number))
        write_nifti(folder / id / f"{id}-seg.nii.gz", blob(1, 2, 3))
    return folder


def manifest_json(folder: Path, ids: Sequence[str]) -> Path:
    simple.manifest(folder, ids)
    (folder / "cases.csv").unlink()
    rows = [
        {"case": id, "patient": id, "image:CT": f"scans/{id}_ct.nii.gz", "label": f"truth/{id}.nii.gz"} for id in ids
    ]
    write_json(folder / "cases.json", {"cases": rows, "labels": {"background": 0, "liver": 1, "spleen": 2}})
    return folder / "cases.json"


def datalist_one_image(folder: Path, ids: Sequence[str]) -> Path:
    """One image a case, no folds, names for labels and channel, as brain metastases come."""
    entries = []
    for seed, id in enumerate(ids):
        write_nifti(folder / "imagesTr" / f"{id}.nii.gz", voxels(seed))
        write_nifti(folder / "labelsTr" / f"{id}.nii.gz", blob(1))
        entries.append({"image": f"imagesTr/{id}.nii.gz", "label": f"labelsTr/{id}.nii.gz"})
    named = {"labels": {"0": "background", "1": "metastasis"}, "modality": {"0": "T1gd"}}
    write_json(folder / "metastases.json", {**named, "training": entries, "validation": [], "test": []})
    return folder / "metastases.json"


def gi_tract_overlap(folder: Path, ids: Sequence[str]) -> Path:
    return published.gi_tract(folder, ids, masks={"stomach": published.box(1), "large_bowel": published.box(2)})


def pictures_painted(folder: Path, ids: Sequence[str]) -> Path:
    """Masks painted red and orange; one is black."""
    for seed, id in enumerate(ids):
        painted = np.zeros((8, 10, 3), np.uint8)
        if seed:
            painted[1:4, 1:4], painted[5:7, 6:9] = (255, 0, 0), (255, 128, 0)
        simple.picture(folder / "images" / f"{id}.png", simple.photo(seed))
        simple.picture(folder / "masks" / f"{id}.png", painted)
    return folder
