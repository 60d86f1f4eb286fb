"""From a finished picture back to the light on the sensor, and forward again.

Source: Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019,
arXiv:1811.11127, section 3; the sRGB functions are IEC 61966-2-1. Color matrices are figures of
cameras (from XYZ, as in Adobe's DNG profiles) that the same paper uses.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.errors import ArgumentError

TONES = ("srgb", "gamma", "filmic")
"""Transfer functions: exact sRGB; a power of 2.2; that power and a smoothstep (Brooks et al.)."""

_XYZ_TO_CAMERA = (
    ((1.0234, -0.2969, -0.2266), (-0.5625, 1.6328, -0.0469), (-0.0703, 0.2188, 0.6406)),
    ((0.4913, -0.0541, -0.0202), (-0.6130, 1.3513, 0.2906), (-0.1564, 0.2151, 0.7183)),
    ((0.8380, -0.2630, -0.0639), (-0.2887, 1.0725, 0.2496), (-0.0627, 0.1427, 0.5438)),
    ((0.6596, -0.2079, -0.0562), (-0.4782, 1.3016, 0.1933), (-0.0970, 0.1581, 0.5181)),
)
_SRGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_FROM_GREY = 0.9  # highlights above this mean are kept white while gains are undone


def srgb_to_linear(x: Tensor) -> Tensor:
    """Exact inverse of the sRGB transfer function (IEC 61966-2-1); any shape, [0, 1]."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x: Tensor) -> Tensor:
    """Exact sRGB transfer function (IEC 61966-2-1); any shape, [0, 1]."""
    low = x.clamp_min(0.0031308)
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * low ** (1 / 2.4) - 0.055)


def tone_to_linear(x: Tensor, tone: str = "srgb") -> Tensor:
    """Undo a transfer function of `TONES`; any shape, [0, 1]."""
    if tone == "srgb":
        return srgb_to_linear(x)
    _check_tone("tone_to_linear", tone)
    if tone == "filmic":
        x = 0.5 - torch.sin(torch.asin(1 - 2 * x.clamp(0, 1)) / 3)
    return x.clamp_min(1e-8) ** 2.2


def linear_to_tone(x: Tensor, tone: str = "srgb") -> Tensor:
    """Apply a transfer function of `TONES`; any shape, [0, 1]. Inverse of `tone_to_linear`."""
    if tone == "srgb":
        return linear_to_srgb(x)
    _check_tone("linear_to_tone", tone)
    x = x.clamp_min(1e-8) ** (1 / 2.2)
    return x * x * (3 - 2 * x) if tone == "filmic" else x


def _check_tone(where: str, tone: str) -> None:
    if tone not in TONES:
        raise ArgumentError(f"{where}: tone is {tone!r}, must be one of {TONES}")


def camera_matrix(weights: Float[Tensor, "4"]) -> Float[Tensor, "3 3"]:
    """Matrix from linear sRGB to a camera's color space, mixed from four cameras, fp64.

    Every *row* is divided by its sum, so that (1, 1, 1) stays (1, 1, 1): white remains white.

    Args:
        weights: Of the four cameras; not negative, and not all zero.

    Raises:
        ArgumentError: weights are not so.
    """
    w = weights.double().cpu()
    if w.shape != (4,) or not torch.isfinite(w).all() or (w < 0).any() or not w.sum() > 0:
        raise ArgumentError(
            f"camera_matrix: weights is {weights.tolist()}, must be four numbers >= 0, not all 0"
        )
    mixed = torch.einsum("k,kij->ij", w / w.sum(), torch.tensor(_XYZ_TO_CAMERA).double())
    matrix = mixed @ torch.tensor(_SRGB_TO_XYZ, dtype=torch.float64)
    return matrix / matrix.sum(1, keepdim=True)


def multiply_matrix(
    x: Float[Tensor, "b 3 height width"], matrix: Float[Tensor, "b 3 3"]
) -> Float[Tensor, "b 3 height width"]:
    """Apply a color matrix to every pixel; the same bits whatever the size of the batch."""
    m = matrix[..., None, None]
    return m[:, :, 0] * x[:, 0:1] + m[:, :, 1] * x[:, 1:2] + m[:, :, 2] * x[:, 2:3]


def undo_gains(
    x: Float[Tensor, "b 3 height width"], gains: Float[Tensor, "b 3"]
) -> Float[Tensor, "b 3 height width"]:
    """Divide by white-balance gains; clipped highlights keep their white.

    Where the mean of the three channels is above 0.9 a factor below 1 fades towards 1: a white
    that was clipped after the gains says nothing about the light that made it.

    Args:
        x: Linear light in [0, 1].
        gains: Of red, green and blue, > 0.
    """
    factor = (1 / gains)[..., None, None]
    mean = x.mean(1, keepdim=True)
    mask = ((mean - _FROM_GREY).clamp_min(0) / (1 - _FROM_GREY)) ** 2
    return x * torch.maximum(mask + (1 - mask) * factor, factor)
