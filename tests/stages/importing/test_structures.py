from __future__ import annotations

import pytest

from autoseg.records.errors import DataError
from autoseg.stages.importing.structures import needs_remap, read_structures


def test_values_with_gaps_become_consecutive() -> None:
    labels, _ = read_structures({"background": 0, "b": 5, "a": 1}, file="d.json")
    assert [(s.name, s.value, s.original) for s in labels.structures] == [("a", 1, 1), ("b", 2, 5)]
    assert needs_remap(labels)


def test_inverse_form_is_turned_around_and_said() -> None:
    labels, notes = read_structures({"0": "background", "1": "liver"}, file="d.json")
    assert labels.structures[0].name == "liver"
    assert not needs_remap(labels)
    assert len(notes) == 1


@pytest.mark.parametrize("value", [1, 2, 255])
def test_ignore_may_be_any_value(value: int) -> None:
    entry = {"background": 0, "ignore": value, "organ": 3}
    labels, _ = read_structures(entry, file="d.json")
    assert labels.ignore == value
    assert labels.remap() == {0: 0, 3: 1, value: 2}
    assert needs_remap(labels)


def test_regions_paint_in_their_order() -> None:
    entry = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    labels, _ = read_structures(entry, order=[1, 2, 3], file="d.json")
    assert [s.name for s in labels.structures] == ["label_1", "label_2", "enhancing"]
    assert [(r.name, r.values, r.original) for r in labels.regions] == [
        ("whole", (1, 2, 3), 1),
        ("core", (2, 3), 2),
        ("enhancing", (3,), 3),
    ]


@pytest.mark.parametrize(
    ("entry", "order", "sentence"),
    [
        ({"background": 0, "a": 1, "b": 1}, None, "'a' and 'b' share the value 1"),
        ({"0": "background", "1": "x", "2": "x"}, None, "the values 1 and 2 have one name, 'x'"),
        ({"background": 1, "a": 2}, None, "'background' has the value 1"),
        ({"background": 0, "a": 0, "b": 1}, None, "'background' and 'a' share the value 0"),
        ({"background": 0}, None, "declares no label besides the background"),
        ({"background": 0, "a": -3}, None, "'a' has the value -3"),
        ({"background": 0, "a": 70000}, None, "'a' has the value 70000"),
        ({"background": 0, "a": 1.5}, None, "'a' has the value 1.5"),
        ({"background": 0, "a": True}, None, "'a' has the value True"),
        ({"background": 0, "a": 1, "ignore": 1}, None, "the value 1 means both a structure and 'ignore'"),
        ({"background": 0, "a": [1, 2]}, None, "'regions_class_order' has none"),
        ({"background": 0, "a": [1, 2], "b": 2}, [1], "has 2 regions but 'regions_class_order' has 1 entries"),
        ({"background": 0, "a": [1, 2], "b": [2, 1]}, [1, 2], "'a' and 'b' are made of the same values 1, 2"),
        (None, None, "does not say what the label values mean"),
    ],
)
def test_mistakes_are_named(entry: object, order: object, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        read_structures(entry, order=order, file="d.json")
    assert sentence in caught.value.what
    assert caught.value.file == "d.json"
    assert caught.value.fix


def test_made_up_names_give_way_to_those_that_are_there() -> None:
    labels, _ = read_structures({"whole": [1, 2], "label_1": 2}, order=[1, 2], file="d.json")
    assert [s.name for s in labels.structures] == ["label__1", "label_1"]
