"""Batches of images: the check that baselines and measures share, and their luma."""

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.errors import ArgumentError, ShapeError

_LUMA = (0.299, 0.587, 0.114)


def widened(where: str, images: Tensor, name: str = "images") -> Tensor:
    """Check a batch of sRGB images, and return it in fp32 or wider.

    Raises:
        ShapeError: not (b, 3, height, width), or empty.
        ArgumentError: not floating point, NaN, or out of [0, 1].
    """
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ShapeError(
            f"{where}: {name} has shape {tuple(images.shape)}, must be (b, 3, height, width) and "
            "not empty; repeat grey to three channels, drop alpha"
        )
    if not images.is_floating_point():
        raise ArgumentError(
            f"{where}: {name} is {images.dtype}, must be floating point in [0, 1]; divide 8 bit by "
            "255, 16 bit by 65535"
        )
    if not bool(((images >= 0) & (images <= 1)).all()):  # NaN is not
        raise ArgumentError(
            f"{where}: {name} has values from {float(images.min()):.3g} to "
            f"{float(images.max()):.3g}, must be in [0, 1] without NaN; divide 8 bit by 255"
        )
    return images.to(torch.promote_types(images.dtype, torch.float32))


def luma(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Weighted sum of coded channels (ITU-R BT.601)."""
    weights = torch.tensor(_LUMA, device=x.device, dtype=x.dtype)
    return (x * weights[:, None, None]).sum(1, keepdim=True)
