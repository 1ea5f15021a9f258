import itertools
import math

import pytest

from autoseg.records.preset import NetworkPreset, PlanningPreset, Preset, Recipe
from autoseg.stages.planning import make_plan
from autoseg.stages.planning.networks import FAMILIES, architecture, rule_of_shape
from tests.stages.planning.examples import Step, device, fingerprint, hanseg_like, hippocampus_like, labels

CONVOLUTIONAL = [kind for kind, family in FAMILIES.items() if not family.halvings]


def shaped(kind, spacing, size):
    network = NetworkPreset(kind=kind, features=24)
    topology = rule_of_shape(network, spacing)(size)
    return topology, architecture(network, Recipe(), topology, labels=labels(), channels=1)


# Base 16 (Primus 8) over the spacing ratio, to the nearest power of two.
@pytest.mark.parametrize(
    ("kind", "spacing", "token"),
    [
        ("unetr", (1, 1, 1), [16, 16, 16]),
        ("unetr", (2, 0.98, 0.98), [8, 16, 16]),
        ("unetr", (10, 1.56, 1.56), [2, 16, 16]),
        ("unetr", (1.3, 1, 1), [16, 16, 16]),
        ("primus", (3, 1.5, 1.5), [4, 8, 8]),
        ("vit_2d", (1, 1), [16, 16]),
    ],
)
def test_a_token_covers_about_equal_mm_along_each_axis(kind, spacing, token):
    topology, built = shaped(kind, spacing, (100,) * len(spacing))
    assert built.arguments["patch"] == token
    assert all(size % unit == 0 and size >= 100 for size, unit in zip(topology.patch, token, strict=True))


def test_the_tokens_of_a_patch_are_counted():
    topology, built = shaped("unetr", (2, 0.98, 0.98), (90, 120, 120))
    assert topology.patch == (96, 128, 128)
    assert built.arguments["grid"] == [12, 8, 8]


def test_a_coarse_axis_is_merged_late():
    topology, built = shaped("swin_unetr", (4, 1, 1), (40, 200, 200))
    assert built.arguments["patch"] == [1, 2, 2]
    assert built.arguments["mergings"] == [[1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    assert topology.patch == (40, 224, 224)


def test_a_short_axis_keeps_two_voxels_where_it_is_coarsest():
    topology, _ = shaped("swin_unetr", (1, 1, 1), (12, 64, 64))
    assert topology.patch == (12, 64, 64)
    assert topology.divisor == (4, 32, 32)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
@pytest.mark.parametrize("spacing", [(1, 1, 1), (5, 1, 1), (1, 1)])
def test_the_catalog_builds_on_what_the_rules_say(kind, spacing):
    catalog = pytest.importorskip("autoseg.networks.catalog")
    if kind == "vit_2d" and len(spacing) == 3:
        pytest.skip("slices only")
    topology, built = shaped(kind, spacing, (40, 70, 70)[-len(spacing) :])
    if kind not in catalog.KINDS:
        pytest.skip(f"{kind} is not in the catalog")
    axes = len(spacing)
    assert all(size % unit == 0 for size, unit in zip(topology.patch, catalog.divisor(built)[-axes:], strict=True))
    assert all(size >= least for size, least in zip(topology.patch, catalog.min_shape(built)[-axes:], strict=True))


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_relatives_of_the_u_net_share_its_arguments(kind):
    _, built = shaped(kind, (1, 1, 1), (64, 64, 64))
    assert {"features", "strides", "kernels", "blocks", "decoder_blocks"} <= set(built.arguments)


def quadratic_cost(architecture, recipe, patch_shape, batch_size, *, precision, device_kind):
    """A vision transformer, nearly: 1.4 GiB, 800 B a voxel, and every token with every other."""
    voxels = math.prod(patch_shape)
    tokens = voxels / math.prod(architecture.arguments["patch"])
    saved = 0.5 if architecture.checkpointing else 1.0
    sample = saved * 800 * voxels + 300 * tokens**2
    return Step(int(1.4 * 2**30 + batch_size * sample), 10**8, batch_size * (1e5 * voxels + 1e6 * tokens**2))


def unetr(**planning) -> Preset:
    network = NetworkPreset(kind="unetr", features=16)
    return Preset(name="unetr", about="x", network=network, planning=PlanningPreset(**planning))


@pytest.mark.parametrize("found", [hippocampus_like(), hanseg_like(), fingerprint(40, (20, 320, 320), (3.6, 0.6, 0.6))])
def test_more_memory_never_plans_less_for_attention(found):
    plans = [
        make_plan(found, [unetr()], device(memory), cost=quadratic_cost) for memory in (5, 6, 8, 11, 16, 24, 32, 48, 80)
    ]
    for less, more in itertools.pairwise(plans):
        for name in ("unetr_2d", "unetr_3d"):
            little, much = less.configuration(name), more.configuration(name)
            assert math.prod(much.patch_shape) >= math.prod(little.patch_shape)
            if much.patch_shape == little.patch_shape:
                assert much.batch_size >= little.batch_size
            assert much.memory.peak_bytes <= more.device.budget_bytes()


def test_four_dry_runs_find_the_square_of_the_tokens():
    item = make_plan(hanseg_like(), [unetr()], device(24), cost=quadratic_cost).configuration("unetr_3d")
    assert len(item.memory.points) == 5, "four dry runs and the one that verifies"
    shapes = {point[:3] for point in item.memory.points[:4]}
    assert len(shapes) == 2
    budget = device(24).budget_bytes()
    assert item.memory.peak_bytes <= budget
    voxels, tokens = math.prod(item.patch_shape), math.prod(item.architecture.arguments["grid"])
    one_more = item.memory.peak_bytes + 800 * voxels + 300 * tokens**2
    share = 0.05 * 42 * math.prod(item.median_shape) / voxels
    assert one_more > budget or item.batch_size >= round(share)
