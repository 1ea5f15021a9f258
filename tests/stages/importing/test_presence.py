from __future__ import annotations

from pathlib import Path

from autoseg.records.dataset import Case, FileSource, Mask, MaskSource
from autoseg.stages.importing.presence import find_classes
from autoseg.stages.importing.structures import make_labels
from tests.stages.importing.writers import blob, write_nifti


def test_classes_are_read_by_their_original_value(tmp_path: Path) -> None:
    write_nifti(tmp_path / "l.nii.gz", blob(7))
    cases = [
        Case(id="a", group="a", images={}, labels=FileSource(path=str(tmp_path / "l.nii.gz"))),
        Case(id="b", group="b", images={}, labels=MaskSource(masks=(Mask(path="m", value=1),))),
        Case(id="c", group="c", images={}, labels=FileSource(path=str(tmp_path / "absent.nii.gz"))),
        Case(id="d", group="d", images={}),
    ]
    labels = make_labels({2: "liver", 7: "tumour"})
    nothing: frozenset[str] = frozenset()
    assert find_classes(cases, labels) == {"a": {"tumour"}, "b": {"liver"}, "c": nothing, "d": nothing}
