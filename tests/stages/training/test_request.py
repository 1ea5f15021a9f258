from autoseg.stages.training.request import differences, stable_seed


def test_stable_seed_is_the_same_on_every_machine():
    assert stable_seed(3, "abc") == stable_seed(3, "abc") != stable_seed(4, "abc")
    assert 0 <= stable_seed(0) < 2**63


def test_differences_name_the_path():
    old = {"recipe": {"epochs": 3, "ranges": (1, 2)}, "same": 1}
    new = {"recipe": {"epochs": 4, "ranges": (1, 5)}, "same": 1}
    assert differences(old, new) == ["recipe.epochs was 3 and is now 4", "recipe.ranges.1 was 2 and is now 5"]
