from __future__ import annotations

import pytest

from autoseg.stages.importing.sides import mirror_pairs, side_of


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("A_Carotid_L", "A_Carotid_R"),
        ("kidney_left", "kidney_right"),
        ("Left-Hippocampus", "Right-Hippocampus"),
        ("LeftKidney", "RightKidney"),
        ("rib_left_3", "rib_right_3"),
        ("Niere links", "Niere rechts"),
        ("linke Niere", "rechte Niere"),
        ("lt lung", "rt lung"),
        ("ctx-lh-cuneus", "ctx-rh-cuneus"),
        ("leftlung", "rightlung"),
        ("Parotid LT", "Parotid RT"),
    ],
)
def test_pairs_are_found(left: str, right: str) -> None:
    assert mirror_pairs(["heart", right, left]) == ((3, 2),)


@pytest.mark.parametrize(
    "names",
    [
        ("left", "right"),
        ("Larynx", "Liver"),
        ("rib_left_3", "rib_right_4"),
        ("left_right_bundle", "right_right_bundle"),
        ("kidney_left", "kidney_left_2"),
        ("anterior", "posterior"),
    ],
)
def test_others_are_not(names: tuple[str, ...]) -> None:
    assert mirror_pairs(names) == ()


def test_a_name_with_two_partners_has_none() -> None:
    assert mirror_pairs(["lung_L", "lung_R", "lung-right"]) == ()


def test_side_and_rest() -> None:
    assert side_of("Glnd_Lacrimal_L") == ("left", ("glnd", "lacrimal", "|"))
