from __future__ import annotations

import pytest

from autoseg.networks import catalog
from autoseg.records.errors import UsageError
from tests.networks.architectures import small


@pytest.mark.parametrize("function", [catalog.build, catalog.divisor, catalog.min_shape])
def test_an_unknown_network_is_answered_with_the_nearest(function: object) -> None:
    with pytest.raises(UsageError) as error:
        function(small("residual_unett"))  # type: ignore[operator]
    assert str(error.value) == "there is no network 'residual_unett'. Did you mean 'residual_unet'?"


def test_a_word_like_none_is_answered_with_all() -> None:
    with pytest.raises(UsageError, match=r"There are: attention_unet, .*residual_unet, .*unet"):
        catalog.build(small("os.system"))


def test_the_catalog_cannot_be_added_to() -> None:
    with pytest.raises(TypeError):
        catalog.KINDS["mine"] = catalog.KINDS["unet"]  # type: ignore[index]
