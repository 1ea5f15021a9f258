from autoseg.records.preset import Recipe
from autoseg.records.record import Record


def test_a_recipe_written_before_a_key_came_keeps_its_digest_and_is_read():
    before = Recipe().model_dump(mode="json")
    assert "blob_weight" not in before
    assert Recipe.model_validate(before) == Recipe()


def test_a_later_key_is_written_and_counts_once_it_is_set():
    changed = Recipe(blob_weight=1.0)
    assert changed.model_dump()["blob_weight"] == 1.0
    assert changed.digest() != Recipe().digest()
    assert Recipe.parse(changed.to_json(), file="") == changed


def test_it_is_left_out_inside_other_records_too():
    class Holder(Record):
        recipe: Recipe = Recipe()

    assert "tversky_beta" not in Holder().to_json()
    assert '"tversky_beta":0.9' in Holder(recipe=Recipe(tversky_beta=0.9)).model_dump_json()
