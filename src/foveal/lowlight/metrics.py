"""Measures of an enhanced picture for people, and of a frozen recogniser's answer to it.

For people, against a daylight picture: `human_metrics` and what it is made of. For machines,
against the recogniser's own daylight answer: `agreement`, `divergence`, `feature_cosine`,
`detector_retention`, `expected_calibration_error`. Report the two in separate tables.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal.data.sensor_noise import srgb_to_linear
from foveal.errors import ShapeError
from foveal.lowlight.batches import luma, widened
from foveal.lowlight.metrics_machine import (
    Retention,
    agreement,
    detector_retention,
    divergence,
    expected_calibration_error,
    feature_cosine,
)

__all__ = [
    "Retention",
    "agreement",
    "align_mean",
    "ciede2000",
    "clipped_fraction",
    "color_difference",
    "detector_retention",
    "divergence",
    "entropy",
    "expected_calibration_error",
    "feature_cosine",
    "human_metrics",
    "lightness_order_error",
    "psnr",
    "srgb_to_lab",
    "ssim",
]

_SSIM_SIGMA, _SSIM_RADIUS = 1.5, 5
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2
_RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_D65 = (0.95047, 1.0, 1.08883)
_CLIPPED = 254.5 / 255
_ORDER_SIDE = 50


def _pair(where: str, image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    if image.shape != reference.shape:
        raise ShapeError(
            f"{where}: image has shape {tuple(image.shape)}, must be that of reference, "
            f"{tuple(reference.shape)}"
        )
    a, b = widened(where, image, "image"), widened(where, reference, "reference")
    wide = torch.promote_types(a.dtype, b.dtype)
    return a.to(wide), b.to(wide)


def psnr(
    image: Float[Tensor, "b 3 height width"], reference: Float[Tensor, "b 3 height width"]
) -> Float[Tensor, "b"]:
    """Peak signal-to-noise ratio in dB: -10 log10 of the mean squared error over all channels.

    sRGB values, peak 1; infinite where both are equal.
    """
    a, b = _pair("psnr", image, reference)
    return -10 * (a - b).square().mean((1, 2, 3)).log10()


def ssim(
    image: Float[Tensor, "b 3 height width"], reference: Float[Tensor, "b 3 height width"]
) -> Float[Tensor, "b"]:
    """Structural similarity, mean over the channels of sRGB and over all whole windows.

    (2 m_a m_b + C1) (2 c_ab + C2) / ((m_a^2 + m_b^2 + C1) (v_a + v_b + C2)): means, variances and
    covariance under a Gaussian of 11 x 11 pixels and deviation 1.5; C1 = 0.01^2, C2 = 0.03^2.

    Raises:
        ShapeError: a side is under 11 pixels.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity",
    IEEE TIP 2004. Equal to scikit-image's with gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, channel_axis, data_range=1.
    """
    a, b = _pair("ssim", image, reference)
    side = 2 * _SSIM_RADIUS + 1
    if min(a.shape[2:]) < side:
        raise ShapeError(
            f"ssim: image has shape {tuple(image.shape)}, must be {side} x {side} pixels or more"
        )
    place = torch.arange(side, device=a.device, dtype=a.dtype) - _SSIM_RADIUS
    taps = (-(place**2) / (2 * _SSIM_SIGMA**2)).exp()
    taps = taps / taps.sum()

    def mean(x: Tensor) -> Tensor:
        x = F.conv2d(x.flatten(0, 1)[:, None], taps.view(1, 1, side, 1))
        return F.conv2d(x, taps.view(1, 1, 1, side)).view(*a.shape[:2], *_inside(a, side))

    m_a, m_b = mean(a), mean(b)
    v_a, v_b, c = mean(a * a) - m_a**2, mean(b * b) - m_b**2, mean(a * b) - m_a * m_b
    top = (2 * m_a * m_b + _SSIM_C1) * (2 * c + _SSIM_C2)
    return (top / ((m_a**2 + m_b**2 + _SSIM_C1) * (v_a + v_b + _SSIM_C2))).mean((1, 2, 3))


def _inside(x: Tensor, side: int) -> tuple[int, int]:
    return x.shape[2] - side + 1, x.shape[3] - side + 1


def align_mean(
    image: Float[Tensor, "b 3 height width"], reference: Float[Tensor, "b 3 height width"]
) -> Float[Tensor, "b 3 height width"]:
    """Multiply each picture so that its mean luma is the reference's, then cut at 1.

    The "GT-mean" of low-light papers. It tells the method how bright the answer is, so figures with
    and without it must not stand in one column. A black picture stays black.

    Source: Zhang et al., "Kindling the Darkness", ACM MM 2019, evaluation as released.
    """
    a, b = _pair("align_mean", image, reference)
    gain = luma(b).mean((2, 3), keepdim=True) / luma(a).mean((2, 3), keepdim=True).clamp_min(1e-12)
    return (a * gain).clamp(0, 1)


def srgb_to_lab(x: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b 3 height width"]:
    """CIE L*a*b* of sRGB in [0, 1], white D65, observer of 2 degrees.

    Source: IEC 61966-2-1; CIE 15:2004.
    """
    linear = srgb_to_linear(x)
    matrix = torch.tensor(_RGB_TO_XYZ, device=x.device, dtype=x.dtype)
    white = torch.tensor(_D65, device=x.device, dtype=x.dtype)
    xyz = torch.einsum("ij,bjhw->bihw", matrix / white[:, None], linear)
    bright = xyz > (6 / 29) ** 3
    f = torch.where(bright, xyz.clamp_min(1e-6) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return torch.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1
    )


def ciede2000(lab: Float[Tensor, "3 *n"], reference: Float[Tensor, "3 *n"]) -> Float[Tensor, "*n"]:
    """Color difference of CIE L*a*b* values, by CIEDE2000 with all weights 1.

    Args:
        lab: L*, a*, b* first.
        reference: Likewise; the measure is symmetric.

    Source: Sharma, Wu and Dalal, "The CIEDE2000 Color-Difference Formula", Color Research and
    Application 30, 2005, eqs. 2 to 22.
    """
    if lab.shape != reference.shape or lab.shape[:1] != (3,):
        raise ShapeError(
            f"ciede2000: lab has shape {tuple(lab.shape)} and reference {tuple(reference.shape)}, "
            "must be alike and (3, ...)"
        )
    (l1, a1, b1), (l2, a2, b2) = lab.unbind(), reference.unbind()
    far = 25.0**7

    def share(chroma: Tensor) -> Tensor:
        seventh = chroma**7
        return (seventh / (seventh + far)).sqrt()

    scale = 1 + 0.5 * (1 - share((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2))
    a1, a2 = a1 * scale, a2 * scale
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    h1, h2 = torch.atan2(b1, a1) % math.tau, torch.atan2(b2, a2) % math.tau
    grey = c1 * c2 == 0
    turn = h2 - h1
    turn = torch.where(turn > math.pi, turn - math.tau, turn)
    turn = torch.where(turn < -math.pi, turn + math.tau, turn)
    turn = torch.where(grey, 0.0, turn)
    d_l, d_c, d_h = l2 - l1, c2 - c1, 2 * (c1 * c2).sqrt() * (turn / 2).sin()
    l_mean, c_mean, total = (l1 + l2) / 2, (c1 + c2) / 2, h1 + h2
    around = torch.where(total < math.tau, total + math.tau, total - math.tau)
    h_mean = torch.where((h1 - h2).abs() <= math.pi, total, around) / 2
    h_mean = torch.where(grey, total, h_mean)
    t = (
        1
        - 0.17 * (h_mean - math.radians(30)).cos()
        + 0.24 * (2 * h_mean).cos()
        + 0.32 * (3 * h_mean + math.radians(6)).cos()
        - 0.20 * (4 * h_mean - math.radians(63)).cos()
    )
    lightness = (l_mean - 50) ** 2
    s_l = 1 + 0.015 * lightness / (20 + lightness).sqrt()
    s_c, s_h = 1 + 0.045 * c_mean, 1 + 0.015 * c_mean * t
    angle = math.radians(30) * (-(((torch.rad2deg(h_mean) - 275) / 25) ** 2)).exp()
    rotation = -(2 * angle).sin() * 2 * share(c_mean)
    c, h = d_c / s_c, d_h / s_h
    return ((d_l / s_l) ** 2 + c**2 + h**2 + rotation * c * h).clamp_min(0).sqrt()


def color_difference(
    image: Float[Tensor, "b 3 height width"], reference: Float[Tensor, "b 3 height width"]
) -> Float[Tensor, "b"]:
    """Mean CIEDE2000 over the pixels of sRGB pictures; 1 is about what can just be seen."""
    a, b = _pair("color_difference", image, reference)
    difference = ciede2000(srgb_to_lab(a).transpose(0, 1), srgb_to_lab(b).transpose(0, 1))
    return difference.mean((1, 2))


def lightness_order_error(
    image: Float[Tensor, "b 3 height width"], reference: Float[Tensor, "b 3 height width"]
) -> Float[Tensor, "b"]:
    """Share of pairs of pixels whose order of lightness is another one in the reference, in [0, 1].

    mean over p, q of U(L(p), L(q)) xor U(L'(p), L'(q)), U(x, y) = (x >= y), L the largest channel,
    on every s-th pixel, s = min(height, width) / 50 rounded down, at least 1. The published number
    is this times the number of those pixels.

    Args:
        image: The enhanced picture.
        reference: The picture before enhancement, as published; or a daylight picture.

    Source: Wang et al., "Naturalness Preserved Enhancement Algorithm for Non-Uniform Illumination
    Images", IEEE TIP 2013 (LOE).
    Cost: the square of the number of pixels compared, in blocks of bounded memory.
    """
    a, b = _pair("lightness_order_error", image, reference)
    step = max(1, min(a.shape[2:]) // _ORDER_SIDE)
    light = [x.amax(1)[:, ::step, ::step].flatten(1) for x in (a, b)]
    num = light[0].shape[1]
    changed = torch.zeros(len(a), device=a.device, dtype=torch.float64)
    block = max(1, (1 << 22) // (num * len(a)))
    for at in range(0, num, block):
        first, second = (x[:, at : at + block, None] >= x[:, None] for x in light)
        changed += (first ^ second).sum((1, 2))
    return (changed / num**2).to(a.dtype)


def clipped_fraction(
    image: Float[Tensor, "b 3 height width"],
    reference: Float[Tensor, "b 3 height width"] | None = None,
) -> Float[Tensor, "b"]:
    """Share of pixels with a channel that is 255 of 8 bits (at least 254.5 / 255).

    Args:
        image: sRGB in [0, 1].
        reference: If given, pixels that are so there are not counted: what enhancement has clipped.
    """
    x = widened("clipped_fraction", image, "image")
    clipped = (x >= _CLIPPED).any(1)
    if reference is not None:
        _, y = _pair("clipped_fraction", image, reference)
        clipped = clipped & ~(y >= _CLIPPED).any(1)
    return clipped.to(x.dtype).mean((1, 2))


def entropy(image: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b"]:
    """Shannon entropy of the luma (ITU-R BT.601) rounded to 8 bits, in bits, in [0, 8].

    -sum_v p_v log2 p_v. Noise raises it as detail does.
    """
    level = (luma(widened("entropy", image, "image")) * 255).round().long().flatten(1)
    counts = torch.zeros(len(level), 256, device=level.device, dtype=torch.float64)
    counts.scatter_add_(1, level, torch.ones_like(level, dtype=torch.float64))
    p = counts / level.shape[1]
    return -torch.special.xlogy(p, p).sum(1).float() / math.log(2)


def human_metrics(
    image: Float[Tensor, "b 3 height width"], reference: Float[Tensor, "b 3 height width"]
) -> dict[str, Float[Tensor, "b"]]:
    """Return all measures for people by name, one number a picture.

    `psnr` and `ssim` are of the picture as it is; `psnr_mean_aligned` and `ssim_mean_aligned` after
    `align_mean`, a protocol of its own. `clipped_fraction` counts what is not clipped in the
    reference.
    """
    aligned = align_mean(image, reference)
    return {
        "psnr": psnr(image, reference),
        "ssim": ssim(image, reference),
        "psnr_mean_aligned": psnr(aligned, reference),
        "ssim_mean_aligned": ssim(aligned, reference),
        "ciede2000": color_difference(image, reference),
        "lightness_order_error": lightness_order_error(image, reference),
        "clipped_fraction": clipped_fraction(image, reference),
        "entropy": entropy(image),
    }
