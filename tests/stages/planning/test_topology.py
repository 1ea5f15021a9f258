import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.stages.planning.topology import design, first_patch, shrinking


def test_isotropic_patch_is_halved_while_every_axis_has_eight_voxels():
    topology = design((1, 1, 1), (36, 50, 35))
    assert topology.patch == (40, 56, 40)
    assert topology.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert topology.divisor == (8, 8, 8)


def test_coarse_axis_waits_until_the_others_have_caught_up():
    # 5 mm against 0.8: after one halving 1.6, after two 3.2 and less than twice finer, so z takes part from there.
    topology = design((5, 0.8, 0.8), (26, 164, 166))
    assert topology.strides[:4] == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert topology.kernels[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert topology.patch == (28, 192, 192)


# From nnunetv2 2.8.1, get_pool_and_conv_props.
@pytest.mark.parametrize(
    ("spacing", "size", "patch", "divisor"),
    [
        ((2, 0.98, 0.98), (180, 300, 300), (192, 320, 320), (32, 64, 64)),
        ((2, 0.98, 0.98), (104, 138, 140), (112, 160, 160), (16, 32, 32)),
        ((7.5, 0.5, 0.5), (11, 256, 256), (12, 256, 256), (2, 64, 64)),
        ((1, 1), (50, 35), (56, 40), (8, 8)),
        ((1, 1, 1), (7, 9, 30), (7, 10, 32), (1, 2, 4)),
    ],
)
def test_topologies_are_those_of_nnunet(spacing, size, patch, divisor):
    topology = design(spacing, size)
    assert (topology.patch, topology.divisor) == (patch, divisor)


def test_a_bound_on_the_stages_holds():
    assert len(design((1, 1, 1), (128, 128, 128), max_stages=3).strides) == 3


def test_a_tiny_image_is_padded_until_a_u_net_has_two_resolutions():
    topology = design((1, 1, 1), (3, 3, 3))
    assert len(topology.strides) == 2
    assert topology.patch == (12, 12, 12)


def test_the_first_patch_is_cubic_in_mm_and_no_longer_than_the_median():
    assert first_patch((1, 1, 1), (500, 500, 100)) == (256, 256, 100)
    assert first_patch((4, 1, 1), (500, 500, 500)) == (102, 406, 406)
    assert first_patch((1, 1), (5000, 35)) == (2048, 35)


sizes = st.integers(1, 400)
spacings = st.floats(0.3, 8)


@settings(max_examples=60, deadline=None)
@given(st.tuples(spacings, spacings, spacings), st.tuples(sizes, sizes, sizes))
def test_patches_shrink_strictly_and_stay_multiples_of_what_is_halved(spacing, median):
    before = math.inf
    for count, topology in enumerate(shrinking(spacing, median)):
        assert topology.voxels < before
        assert all(size % unit == 0 for size, unit in zip(topology.patch, topology.divisor, strict=True))
        assert len(topology.strides) >= 2
        before = topology.voxels
        if count > 200:
            break
    assert before < math.inf
