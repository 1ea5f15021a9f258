"""Small networks that several tests use."""

from __future__ import annotations

from pydantic import JsonValue

from autoseg.records.configuration import Architecture


def small(
    kind: str = "unet",
    dimensions: int = 3,
    *,
    stages: int = 3,
    features: int = 4,
    more: dict[str, JsonValue] | None = None,
    **changes: object,
) -> Architecture:
    """A U-Net, or any network of stages, that halves every axis between them; `more` arguments are the kind's own."""
    ones, twos, threes = ([number] * dimensions for number in (1, 2, 3))
    arguments = {
        "features": [features * 2**stage for stage in range(stages)],
        "strides": [ones] + [twos] * (stages - 1),
        "kernels": [threes] * stages,
        "blocks": [2] * stages,
        "decoder_blocks": [2] * (stages - 1),
    }
    fields = {"input_channels": 1, "output_channels": 3, "arguments": arguments | (more or {})} | changes
    return Architecture(kind=kind, dimensions=dimensions, **fields)  # type: ignore[arg-type]


def anisotropic(kind: str = "unet", *, more: dict[str, JsonValue] | None = None, **changes: object) -> Architecture:
    """A 3D U-Net whose z axis is halved once and x, y twice, with a flat first kernel."""
    arguments = {
        "features": [4, 8, 12],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "blocks": [1, 2, 3],
        "decoder_blocks": [1, 2],
    }
    return small(kind, 3, arguments=arguments | (more or {}), **changes)


def of_tokens(kind: str, dimensions: int, **arguments: object) -> Architecture:
    """A network of tokens."""
    return Architecture(
        kind=kind,
        dimensions=dimensions,
        input_channels=1,
        output_channels=3,
        arguments=arguments,
    )


# Of every kind of the catalog the smallest member in 2D and in 3D, None where there is none.
SMALLEST: dict[str, tuple[Architecture | None, Architecture | None]] = {
    "unet": (small("unet", 2), anisotropic("unet")),
    "residual_unet": (small("residual_unet", 2), anisotropic("residual_unet")),
    "attention_unet": (small("attention_unet", 2), anisotropic("attention_unet")),
    "segresnet": (small("segresnet", 2), anisotropic("segresnet")),
    "mednext": (small("mednext", 2), anisotropic("mednext")),
    "resunet_pp": (
        small("resunet_pp", 2, more={"reduction": 2}),
        anisotropic("resunet_pp", more={"reduction": 2, "rates": [2]}),
    ),
    "deeplab_v3plus": (
        small("deeplab_v3plus", 2, more={"width": 8, "low_level_width": 4}),
        anisotropic("deeplab_v3plus", more={"width": 8, "low_level_width": 4}),
    ),
    "unetr": (
        of_tokens("unetr", 2, patch=[4, 4], grid=[2, 3], hidden=12, depth=3, heads=2, features=4),
        of_tokens("unetr", 3, patch=[2, 4, 4], grid=[2, 2, 3], hidden=12, depth=3, heads=2, features=4),
    ),
    "swin_unetr": (
        of_tokens("swin_unetr", 2, features=4, patch=[2, 2], mergings=[[2, 2]], depths=[2], heads=[2], window=[3, 3]),
        of_tokens(
            "swin_unetr",
            3,
            features=4,
            patch=[1, 2, 2],
            mergings=[[1, 2, 2], [2, 2, 2]],
            depths=[2, 2],
            heads=[1, 2],
            window=[2, 3, 3],
        ),
    ),
    "primus": (
        of_tokens("primus", 2, patch=[4, 4], grid=[2, 3], width=16, depth=2, heads=2, features=4),
        of_tokens("primus", 3, patch=[2, 4, 4], grid=[2, 2, 3], width=28, depth=2, heads=2, features=4),
    ),
    "vit_2d": (of_tokens("vit_2d", 2, resize_shape=[16, 24], patch=[4, 4], width=16, depth=2, heads=2), None),
    "text_guided_unet": (
        small("text_guided_unet", 2, more={"head": "cosine", "vectors": [[1, 0, 0.5], [0, 2, 1]]}),
        anisotropic("text_guided_unet", more={"head": "controller", "vector_width": 3}),
    ),
}
