import json

import numpy as np
import pytest

from autoseg.records.errors import DataError, UsageError
from autoseg.records.preset import NetworkPreset, Preset
from autoseg.stages.planning import load_preset, with_class_vectors
from tests.stages.planning.examples import labels


def guided(file) -> Preset:
    network = NetworkPreset(kind="text_guided_unet", arguments={"head": "cosine", "vectors_file": str(file)})
    return Preset(name="guided", about="An example.", network=network)


@pytest.mark.parametrize("ending", [".json", ".npz"])
def test_vectors_come_in_the_order_of_the_classes(tmp_path, ending):
    file = tmp_path / f"classes{ending}"
    rows = {"s2": [3.0, 4.0], "s1": [1.0, 2.0]}
    if ending == ".json":
        file.write_text(json.dumps(rows))
    else:
        np.savez(file, **{name: np.array(row) for name, row in rows.items()})
    found = with_class_vectors(guided(file), labels()).network.arguments
    assert found == {"head": "cosine", "vectors": [[1.0, 2.0], [3.0, 4.0]]}


def test_background_comes_first_where_the_file_has_it(tmp_path):
    file = tmp_path / "classes.json"
    file.write_text(json.dumps({"s1": [1], "s2": [2], "background": [0]}))
    assert with_class_vectors(guided(file), labels()).network.arguments["vectors"] == [[0.0], [1.0], [2.0]]


def test_other_classes_are_named_with_the_nearest(tmp_path):
    file = tmp_path / "classes.json"
    file.write_text(json.dumps({"s1": [1], "S2": [2]}))
    with pytest.raises(UsageError, match=r"lacks 's2' and has 'S2', which .* Is 'S2' meant to be 's2'"):
        with_class_vectors(guided(file), labels())


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"s1": [1], "s2": [1, 2]}', '{"s1": ["a"], "s2": [1]}', '{"s1": [NaN], "s2": [1]}']
)
def test_what_is_no_vectors_is_refused(tmp_path, text):
    file = tmp_path / "classes.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"classes\.json"):
        with_class_vectors(guided(file), labels())


def test_an_archive_that_is_none_or_holds_objects_is_refused(tmp_path):
    file = tmp_path / "classes.npz"
    file.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="cannot be read"):
        with_class_vectors(guided(file), labels())
    np.savez(file, s1=np.array([{}], dtype=object), s2=np.zeros(1))
    with pytest.raises(DataError, match="cannot be read"):
        with_class_vectors(guided(file), labels())


def test_a_preset_file_finds_the_vectors_beside_it(tmp_path):
    (tmp_path / "mine.toml").write_text(
        'about = "Mine."\n[network]\nkind = "text_guided_unet"\n[network.arguments]\nvectors_file = "classes.json"\n'
    )
    (tmp_path / "classes.json").write_text(json.dumps({"s1": [1], "s2": [2]}))
    preset = with_class_vectors(load_preset(tmp_path / "mine.toml"), labels())
    assert preset.network.arguments["vectors"] == [[1.0], [2.0]]
    with pytest.raises(UsageError, match="no such file of class vectors"):
        with_class_vectors(guided(tmp_path / "none.json"), labels())
