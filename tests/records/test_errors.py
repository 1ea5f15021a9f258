import pytest

from autoseg.records.errors import reason_of


@pytest.mark.parametrize(
    ("error", "words"),
    [(ValueError("one\ntwo"), "one"), (ValueError(), "ValueError"), (ValueError("\n two"), "two")],
)
def test_a_reason_is_one_line_also_where_a_library_gives_none(error, words):
    assert reason_of(error) == words
