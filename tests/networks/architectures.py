"""Small networks that several tests use."""

from __future__ import annotations

from autoseg.records.plan import Architecture


def small(
    kind: str = "unet", dimensions: int = 3, *, stages: int = 3, features: int = 4, **changes: object
) -> Architecture:
    """A U-Net that halves every axis between stages."""
    ones, twos, threes = ([number] * dimensions for number in (1, 2, 3))
    arguments = {
        "features": [features * 2**stage for stage in range(stages)],
        "strides": [ones] + [twos] * (stages - 1),
        "kernels": [threes] * stages,
        "blocks": [2] * stages,
        "decoder_blocks": [2] * (stages - 1),
    }
    fields = {"input_channels": 1, "output_channels": 3, "arguments": arguments} | changes
    return Architecture(kind=kind, dimensions=dimensions, **fields)  # type: ignore[arg-type]


def anisotropic(kind: str = "unet", **changes: object) -> Architecture:
    """A 3D U-Net whose z axis is halved once and x, y twice, with a flat first kernel."""
    arguments = {
        "features": [4, 8, 12],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "blocks": [1, 2, 3],
        "decoder_blocks": [1, 2],
    }
    return small(kind, 3, arguments=arguments, **changes)
