"""The estimate of a step against torch's own profiler, which knows nothing of it, on a CPU."""

from __future__ import annotations

import pytest
import torch

from autoseg.networks import catalog, memory
from autoseg.records.configuration import Architecture
from autoseg.records.preset import Recipe
from tests.networks.architectures import of_tokens, small
from tests.networks.profiled import peak_bytes

RECIPE = Recipe(optimizer="adamw")
MIDDLING: dict[str, tuple[Architecture, tuple[int, int, int]]] = {
    "unet": (small("unet", features=16, stages=4), (32, 48, 48)),
    "residual_unet": (small("residual_unet", features=16, stages=4), (32, 48, 48)),
    "attention_unet": (small("attention_unet", features=16, stages=4), (32, 32, 32)),
    "segresnet": (small("segresnet", features=16, stages=4), (32, 32, 32)),
    "mednext": (small("mednext", features=16), (32, 32, 32)),
    "resunet_pp": (small("resunet_pp", features=16), (32, 32, 32)),
    "unetr": (
        of_tokens("unetr", 3, patch=[8, 8, 8], grid=[4, 4, 4], hidden=96, depth=3, heads=4, features=16),
        (32, 32, 32),
    ),
    "swin_unetr": (
        of_tokens(
            "swin_unetr",
            3,
            features=12,
            patch=[2, 2, 2],
            mergings=[[2, 2, 2]] * 2,
            depths=[2, 2],
            heads=[3, 6],
            window=[4, 4, 4],
        ),
        (32, 32, 32),
    ),
    "primus": (
        of_tokens("primus", 3, patch=[8, 8, 8], grid=[4, 4, 4], width=96, depth=3, heads=4, features=16),
        (32, 32, 32),
    ),
}


def profiled(architecture: Architecture, shape: tuple[int, int, int], precision: str) -> int:
    def whole() -> object:
        network = catalog.build(architecture)
        step = memory.training_step(network, architecture=architecture, recipe=RECIPE, precision=precision)
        step(torch.zeros(2, 1, *shape))
        return network, step

    return peak_bytes(whole)


SLOW = pytest.mark.slow
QUICK = ("unet", "unetr")
CASES = [
    pytest.param(kind, precision, marks=() if kind in QUICK and precision == "bfloat16" else SLOW)
    for kind in MIDDLING
    for precision in ("bfloat16", "float32")
]


@pytest.mark.parametrize(("kind", "precision"), CASES)
def test_the_estimate_is_within_a_tenth_of_what_the_profiler_saw(kind: str, precision: str) -> None:
    architecture, shape = MIDDLING[kind]
    estimate = memory.measure_step(architecture, RECIPE, shape, 2, precision=precision, device_kind="cpu").peak_bytes
    assert estimate / profiled(architecture, shape, precision) == pytest.approx(1, abs=0.1)


def test_scratch_of_one_operator_is_left_out_and_what_outlives_it_is_not() -> None:
    x = torch.zeros(1024, 1024)  # 4 MiB
    # A composite operator: its parts hand one another two tensors of 4 MiB.
    assert peak_bytes(lambda: torch.nn.functional.mse_loss(x, x + 1)) == pytest.approx(2 * 4 * 2**20, rel=0.01)
    # var computes on a contiguous copy of its own where the input is transposed, or on none: nothing is kept of it.
    assert peak_bytes(lambda: torch.mean(x.t(), 0)) < 2**16
