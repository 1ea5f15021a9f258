"""The plans that nnU-Net 2.8.1 makes, with its element counts in place of measured memory."""

import pytest

from autoseg.records.preset import NetworkPreset, Recipe
from autoseg.stages.planning import load_preset, make_plan
from autoseg.stages.planning.elements import elements
from autoseg.stages.planning.networks import architecture
from autoseg.stages.planning.topology import Topology
from tests.stages.planning.examples import device, hanseg_like, hippocampus_like, labels, linear_cost, preset

PLAIN = (560e6, 85e6)


def test_hippocampus():
    plan = make_plan(hippocampus_like(), [preset(conformance=PLAIN)], device(), cost=linear_cost)
    full, flat = plan.configuration("unet_3d"), plan.configuration("unet_2d")
    assert (full.patch_shape, full.batch_size) == ((40, 56, 40), 9)
    assert full.architecture.arguments["features"] == [32, 64, 128, 256]
    assert (flat.patch_shape, flat.batch_size) == ((1, 56, 40), 366)
    assert "unet_3d_lowres" not in [item.name for item in plan.configurations]


@pytest.mark.parametrize(
    ("name", "memory_gb", "limits", "batches"),
    [
        ("residual_unet_m", 8, (680e6, 135e6), (58, 1618)),
        ("residual_unet_l", 24, (700e6, 380e6 / 3), (178, 4554)),
    ],
)
def test_hippocampus_with_the_residual_presets(name, memory_gb, limits, batches):
    plain = preset(conformance=limits, voxel_fraction=1.0, max_batch=10**6)
    residual = plain.model_copy(update={"network": load_preset(name).network})
    plan = make_plan(hippocampus_like(), [residual], device(memory_gb), cost=linear_cost)
    full, flat = plan.configuration("unet_3d"), plan.configuration("unet_2d")
    assert (full.batch_size, flat.batch_size) == batches
    assert full.architecture.arguments["blocks"] == [1, 3, 4, 6]


def test_head_and_neck():
    plan = make_plan(hanseg_like(), [preset(conformance=PLAIN)], device(), cost=linear_cost)
    full, coarse = plan.configuration("unet_3d"), plan.configuration("unet_3d_lowres")
    assert (full.patch_shape, full.batch_size) == ((96, 128, 128), 2)
    assert coarse.patch_shape == (96, 160, 128)
    assert [round(mm, 2) for mm in coarse.spacing_mm] == [2.53, 1.28, 1.28]
    assert plan.configuration("unet_3d_cascade").previous.configuration == "unet_3d_lowres"


CUBE = (((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 4)
FLAT = (((1, 1), (2, 2), (2, 2), (2, 2)), ((3, 3),) * 4)
HEAD = (((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)), ((1, 3, 3), *((3, 3, 3),) * 5))


# From dynamic-network-architectures, compute_conv_feature_map_size of PlainConvUNet and ResidualEncoderUNet.
@pytest.mark.parametrize(
    ("patch", "shape", "classes", "plain", "residual"),
    [
        ((40, 56, 40), CUBE, 2, 19_174_400, 23_609_600),
        ((56, 40), FLAT, 2, 651_840, 1_001_280),
        ((96, 128, 128), HEAD, 30, 466_919_424, 624_193_536),
    ],
)
def test_elements_are_those_of_the_published_networks(patch, shape, classes, plain, residual):
    topology = Topology(patch, *shape)
    counts = []
    for network in (
        NetworkPreset(kind="unet"),
        NetworkPreset(kind="residual_unet", blocks=(1, 3, 4, 6, 6, 6), decoder_blocks=1),
    ):
        counts.append(elements(architecture(network, Recipe(), topology, labels=labels(classes), channels=1), topology))
    assert counts == [plain, residual]
