"""Light to numbers: Bayer mosaic, shot, read and row noise, quantisation, demosaic."""

import torch
from torch import Tensor
from torch.nn import functional as F

_SMALLEST = 2.0**-24  # the step of torch.rand in fp32: quantiles at 0 and 1 are infinite


def tukey_lambda(p: Tensor, shape: float) -> Tensor:
    """Quantile function (p^l - (1 - p)^l) / l, log(p / (1 - p)) at l = 0; p in (0, 1)."""
    p = p.clamp(_SMALLEST, 1 - _SMALLEST)
    if abs(shape) < 1e-4:
        return torch.logit(p)
    return (p**shape - (1 - p) ** shape) / shape


def capture(
    light: Tensor,
    *,
    gain: Tensor | float,
    read_sigma: Tensor | float,
    row_sigma: float,
    generator: torch.Generator,
    poisson: bool = True,
    tukey_shape: float | None = None,
    tukey_sigma: float = 1.0,
) -> Tensor:
    """Numbers that a sensor gives for the light on it; neither rounded nor clipped.

    gain * Poisson(light / gain) + read noise of every pixel + noise of every row.

    Args:
        light: (b, c, height, width), digital numbers without noise.
        gain: Digital numbers an electron, to be broadcast; where it is 0 there is no shot noise.
        read_sigma: Standard deviation of a pixel, to be broadcast.
        row_sigma: Standard deviation of a row; the channels of a row share it.
        generator: On the device of `light`.
        poisson: Else Gaussian, of the same variance.
        tukey_shape: Read noise is Tukey-lambda with this shape, else Gaussian.
        tukey_sigma: Standard deviation of that distribution at scale 1.

    Source: Wei et al. (ELD), CVPR 2020, arXiv:2003.12751.
    """

    def randn(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, device=light.device, dtype=light.dtype)

    if isinstance(gain, Tensor):
        none = gain <= 0
        safe = torch.where(none, torch.ones_like(gain), gain)
    else:
        none, safe = None, gain
    if poisson:
        numbers = torch.poisson(light / safe, generator=generator) * safe
    else:
        numbers = light + (light * safe).sqrt() * randn(*light.shape)
    if none is not None:
        numbers = torch.where(none, light, numbers)
    if tukey_shape is None:
        noise = randn(*light.shape)
    else:
        p = torch.rand(light.shape, generator=generator, device=light.device, dtype=light.dtype)
        noise = tukey_lambda(p, tukey_shape) / tukey_sigma
    numbers = numbers + read_sigma * noise
    return numbers + row_sigma * randn(len(light), 1, light.shape[-2], 1)


def mosaic(rgb: Tensor) -> Tensor:
    """RGGB mosaic: (b, 3, h, w) -> (b, 1, h, w), even sides."""
    raw = rgb[:, 1:2].clone()
    raw[..., 0::2, 0::2] = rgb[:, 0:1, 0::2, 0::2]
    raw[..., 1::2, 1::2] = rgb[:, 2:3, 1::2, 1::2]
    return raw


def demosaic(raw: Tensor) -> Tensor:
    """Bilinear demosaic of an RGGB mosaic, as normalised convolution (right at the border too).

    Sums are written out: their bits depend on nothing but the picture.
    """
    masks = raw.new_zeros(1, 3, *raw.shape[-2:])
    masks[:, 0, 0::2, 0::2] = 1
    masks[:, 1, 0::2, 1::2] = 1
    masks[:, 1, 1::2, 0::2] = 1
    masks[:, 2, 1::2, 1::2] = 1
    total, weight = _tent(masks * raw), _tent(masks)
    return torch.where(masks.bool(), raw, total / weight)


def _tent(x: Tensor) -> Tensor:
    """Sum of the 3 x 3 neighbors with weights 1, 2, 1 in both directions; zero outside."""
    x = F.pad(x, (1, 1, 1, 1))
    x = x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]
    return x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]
