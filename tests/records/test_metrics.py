from pathlib import Path

import pytest

from autoseg import words
from autoseg.records.errors import UsageError
from autoseg.records.evaluation import LESION_FIGURES
from autoseg.records.metrics import DEFAULT_FAMILIES, FAMILIES, NAMES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def test_every_figure_is_defined_in_the_page():
    page = PAGE.read_text()
    assert [name for name in NAMES if f"`{name}`" not in page] == []


def test_names_are_unique_and_lesion_figures_among_them():
    assert len(set(NAMES)) == len(NAMES)
    assert set(LESION_FIGURES.values()) <= set(NAMES)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("usual", DEFAULT_FAMILIES),
        ("all", set(FAMILIES)),
        ("hd95_mm, slice_dice", {"surfaces", "slices"}),
        ("overlap", {"overlap"}),
        ("", set()),
    ],
)
def test_what_is_asked_for(text: str, found: set[str]):
    assert words.families(text) == found
    assert words.families(text, lesions=True) == found | {"lesions"}


def test_a_figure_that_there_is_not():
    with pytest.raises(UsageError, match="--metrics 'hd96' is no figure"):
        words.families("dice,hd96")
