"""Denoise before the curve: a stabilising transform around one Gaussian denoiser.

clean = lowlight.denoise(image)                    # noise estimated from the picture itself
clean = lowlight.denoise(image, NoiseLine.same(1e-4, 1e-7), transform="k-sigma")
"""

import math
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal.data.sensor_noise import NoiseLine, linear_to_srgb, srgb_to_linear
from foveal.errors import ArgumentError, ShapeError, UnsupportedError
from foveal.lowlight.regimes import estimate_noise

Transform = Literal["anscombe", "k-sigma"]
Inverse = Literal["exact", "cut", "closed-form", "algebraic"]

THRESHOLD = 2.7
"""Coefficients below this many standard deviations are dropped."""

_SIZE, _STRIDE = 8, 3
_BAND = 240  # rows at a time, a multiple of the stride: bounds the memory
_LARGE = 6.0  # read noise in electrons from which shot noise counts as Gaussian


def anscombe(x: Tensor, shot: float, read: float) -> Tensor:
    """Generalised Anscombe transform: noise of variance shot * x + read gets deviation 1.

    z = 2 / shot * sqrt(shot * x + 3/8 shot^2 + read), 0 where the root has none.

    Args:
        x: Linear light, any shape.
        shot: Slope of the variance, > 0.
        read: Variance in the dark, >= 0.

    Raises:
        ArgumentError: shot or read is not allowed.

    Source: Starck, Murtagh, Bijaoui, "Image Processing and Data Analysis", 1998, section 2.
    """
    _check_line("anscombe", shot, read)
    return 2 / shot * (shot * x + 0.375 * shot**2 + read).clamp_min(0).sqrt()


def inverse_anscombe(z: Tensor, shot: float, read: float, *, method: Inverse = "exact") -> Tensor:
    """Linear light whose noisy pixels have the mean `z` after `anscombe`.

    Args:
        z: Denoised values, any shape.
        shot: As in `anscombe`.
        read: As in `anscombe`.
        method: "exact": the expectation of the transform is computed for a table of lights and
            inverted (unbiased). "cut": the same for pictures whose values below 0 were cut off, as
            in every sRGB file. "closed-form": the published approximation of "exact" (within 0.05
            electrons from 0.5 electrons on, worse below). "algebraic": the plain inverse, which is
            biased (by about -1/4 electron); for comparisons.

    Raises:
        ArgumentError: shot or read is not allowed, or an unknown method.

    Source: Makitalo and Foi, "Optimal Inversion of the Generalized Anscombe Transformation for
    Poisson-Gaussian Noise", IEEE TIP 2013; closed form of their "A Closed-Form Approximation of
    the Exact Unbiased Inverse of the Anscombe Variance-Stabilizing Transformation", IEEE TIP 2011.
    Differs: "cut" is ours.
    """
    _check_line("inverse_anscombe", shot, read)
    sigma = math.sqrt(read) / shot
    z = z.double()
    if method == "algebraic":
        return (z * z / 4 - 0.375 - sigma**2) * shot
    if method == "closed-form":
        return _closed_form(z, sigma) * shot
    if method not in ("exact", "cut"):
        raise ArgumentError(
            f"inverse_anscombe: method is {method!r}, must be "
            '"exact", "cut", "closed-form" or "algebraic"'
        )
    light, mean = _expectation(sigma, method == "cut")
    inside = _interpolate(z, mean.to(z.device), light.to(z.device))
    return torch.where(z < mean[-1].item(), inside, _closed_form(z, sigma)) * shot


def _check_line(where: str, shot: float, read: float) -> None:
    if not 0 < shot < math.inf:
        raise ArgumentError(f"{where}: shot is {shot}, must be > 0")
    if not 0 <= read < math.inf:
        raise ArgumentError(f"{where}: read is {read}, must be >= 0")


def _closed_form(z: Tensor, sigma: float) -> Tensor:
    d = z.clamp_min(2 * math.sqrt(0.375 + sigma**2))
    root = math.sqrt(1.5)
    inverse = d**2 / 4 + root / 4 / d - 11 / 8 / d**2 + 5 / 8 * root / d**3 - 1 / 8 - sigma**2
    return inverse.clamp_min(0)


@cache
def _expectation(sigma: float, cut: bool) -> tuple[Tensor, Tensor]:
    """Lights in electrons, and the mean of the transform of their noisy pixels."""
    top = 120.0 + 12 * sigma + sigma**2 / 4
    light = torch.linspace(0, 1, 600, dtype=torch.float64) ** 2 * top
    n = torch.linspace(-6, 6, 241, dtype=torch.float64)
    weight = torch.exp(-n * n / 2)
    weight = weight / weight.sum()

    def transform(x: Tensor) -> Tensor:
        x = x.clamp_min(0) if cut else x
        return 2 * (x + 0.375 + sigma**2).clamp_min(0).sqrt()

    if sigma > _LARGE:
        spread = (light + sigma**2).sqrt()
        mean = (transform(light[:, None] + spread[:, None] * n) * weight).sum(1)
    else:
        counts = torch.arange(int(top + 12 * math.sqrt(top) + 20), dtype=torch.float64)
        by_count = (transform(counts[:, None] + sigma * n) * weight).sum(1)
        logs = torch.xlogy(counts, light[:, None]) - light[:, None] - torch.lgamma(counts + 1)
        mean = logs.exp() @ by_count
    return light, torch.cummax(mean, 0).values


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Straight lines through rising `xs`; ends are kept."""
    at = torch.searchsorted(xs, x.contiguous()).clamp(1, len(xs) - 1)
    gap = (xs[at] - xs[at - 1]).clamp_min(1e-12)
    share = ((x - xs[at - 1]) / gap).clamp(0, 1)
    return ys[at - 1] + (ys[at] - ys[at - 1]) * share


def k_sigma(x: Tensor, shot: float, read: float) -> Tensor:
    """K-sigma transform: x / shot + read / shot^2, whose variance equals its mean at any gain.

    A denoiser that knows one such line knows all ISO speeds.

    Raises:
        ArgumentError: shot or read is not allowed.

    Source: Wang et al. (PMRID), ECCV 2020, arXiv:2010.06935, section 3.
    """
    _check_line("k_sigma", shot, read)
    return x / shot + read / shot**2


def inverse_k_sigma(y: Tensor, shot: float, read: float) -> Tensor:
    """Exact inverse of `k_sigma`; with the line of another gain it changes the gain."""
    _check_line("inverse_k_sigma", shot, read)
    return (y - read / shot**2) * shot


def undo_cut(mean: Tensor, shot: float, read: float) -> Tensor:
    """Linear light whose noisy pixels have this mean after values below 0 were cut off.

    The mean of max(0, N(x, shot x + read)) is tabled and inverted; what is below that of no
    light at all becomes 0. Any shape.
    """
    if read <= 0:
        return mean
    top = 8 * (math.sqrt(read) + 8 * shot)
    x = torch.linspace(0, 1, 600, dtype=torch.float64, device=mean.device) ** 2 * top
    deviation = (shot * x + read).sqrt()
    r = x / deviation
    density = torch.exp(-r * r / 2) / math.sqrt(2 * math.pi)
    after = deviation * density + x * torch.special.ndtr(r)
    wide = mean.double()
    return torch.where(wide < after[-1], _interpolate(wide, after, x), wide).to(mean.dtype)


def denoise(
    image: Float[Tensor, "3 height width"],
    noise: NoiseLine | None = None,
    *,
    transform: Transform = "anscombe",
    strength: float = 1.0,
) -> Float[Tensor, "3 height width"]:
    """Denoise a dark sRGB picture; put it before the curve.

    Linear light -> transform -> shrinkage of local cosine coefficients (`shrink`) -> inverse, which
    also undoes the lift of blacks by the cut at 0 -> sRGB.

    Args:
        image: sRGB in [0, 1], as stored: noise must not have been brightened before.
        noise: Of the picture; None: `estimate_noise`.
        transform: "anscombe" (deviation 1 everywhere) or "k-sigma" (variance equals the value; the
            denoiser is told so).
        strength: Factor of the deviation that the denoiser is told, 0 to 3; 0 changes nothing.

    Raises:
        ShapeError: `image` is not (3, height, width).
        ArgumentError: `image` is not floating-point within [0, 1], or another value is not allowed.
        UnsupportedError: the noise is not given and cannot be estimated; says why.

    Returns: dtype of `image`. The same bits for the same input on the CPU.
    Cost: linear in pixels; measured in docs/lowlight/regimes.md.
    """
    if transform not in ("anscombe", "k-sigma"):
        raise ArgumentError(f'denoise: transform is {transform!r}, must be "anscombe" or "k-sigma"')
    if not 0 <= strength <= 3:
        raise ArgumentError(f"denoise: strength is {strength}, must be in [0, 3]")
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ShapeError(
            f"denoise: image has shape {tuple(image.shape)}, must be (3, height, width)"
        )
    inside = image.dtype.is_floating_point and bool(((image >= 0) & (image <= 1)).all())
    if not inside:
        raise ArgumentError(
            f"denoise: image is {image.dtype} or has values outside [0, 1] or NaN, must be "
            "floating-point in [0, 1]; divide 8 bit by 255"
        )
    if noise is None:
        estimate = estimate_noise(image)
        if estimate.noise is None:
            raise UnsupportedError(
                f"denoise: the noise cannot be estimated ({estimate.problem}); give noise="
            )
        noise = estimate.noise
    lines = [_usable(s, r) for s, r in zip(noise.shot, noise.read, strict=True)]
    if strength == 0 or all(s <= 0 for s, _ in lines):
        return image
    if any(s <= 0 for s, _ in lines):
        raise ArgumentError(
            "denoise: noise has a channel without any beside others with; give all three"
        )
    linear = srgb_to_linear(image.float())
    if transform == "anscombe":
        z = torch.stack([anscombe(c, *line) for c, line in zip(linear, lines, strict=True)])
        z = shrink(z, torch.full_like(z, strength**2))
        out = [inverse_anscombe(c, *line, method="cut") for c, line in zip(z, lines, strict=True)]
    else:
        y = torch.stack([k_sigma(c, *line) for c, line in zip(linear, lines, strict=True)])
        y = shrink(y, strength**2 * y.clamp_min(0))
        out = [undo_cut(inverse_k_sigma(c, *line), *line) for c, line in zip(y, lines, strict=True)]
    return linear_to_srgb(torch.stack(out).clamp(0, 1)).to(image.dtype)


def _usable(shot: float, read: float) -> tuple[float, float]:
    """A line with a slope: both transforms divide by it. Adds under 1 % of variance at white."""
    return (max(shot, read / 100), read) if read > 0 else (shot, read)


def shrink(
    x: Float[Tensor, "3 height width"], variance: Float[Tensor, "3 height width"]
) -> Float[Tensor, "3 height width"]:
    """Remove Gaussian noise: hard threshold on overlapping 8 x 8 cosine patches, then Wiener.

    The channels are turned into one sum and two differences (orthonormal). A first pass drops
    coefficients below `THRESHOLD` deviations; a second one weighs the noisy coefficients by
    p^2 / (p^2 + variance), p being those of the first. Patches begin at every third pixel and
    are averaged with weights 1 / (coefficients kept).

    Args:
        x: Noisy values.
        variance: Of every value; a patch uses its mean.

    Source: Yu and Sapiro, "DCT Image Denoising: a Simple and Effective Image Denoising Algorithm",
    IPOL 2011; weights and the second pass after Dabov et al., "Image Denoising by Sparse 3-D
    Transform-Domain Collaborative Filtering", IEEE TIP 2007 (without its matching of blocks).
    """
    mix = _cosines(3, x)
    mixed = torch.einsum("ij,jhw->ihw", mix, x)
    spread = torch.einsum("ij,jhw->ihw", mix**2, variance)
    planes: list[Tensor] = []
    for plane, noise in zip(mixed, spread, strict=True):
        first = _pass(plane, noise, None)
        planes.append(_pass(plane, noise, first))
    return torch.einsum("ij,ihw->jhw", mix, torch.stack(planes))


def _cosines(size: int, like: Tensor) -> Tensor:
    """Orthonormal DCT-II matrix."""
    k = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.to(like)


def _pass(plane: Tensor, variance: Tensor, pilot: Tensor | None) -> Tensor:
    """One pass over a plane (height, width), in bands of rows."""
    height, width = plane.shape
    stack = torch.stack([plane, variance, plane if pilot is None else pilot])
    stack = _pad(stack)
    cosines = _cosines(_SIZE, plane)
    basis = torch.kron(cosines, cosines)
    total, weight = torch.zeros_like(stack[0]), torch.zeros_like(stack[0])
    for start in range(0, stack.shape[1] - _SIZE + 1, _BAND):
        stop = min(start + _BAND + _SIZE - _STRIDE, stack.shape[1])
        band = stack[:, start:stop]
        rows = F.unfold(band[:, None], _SIZE, stride=_STRIDE)  # (3, 64, patches)
        coefficients = basis @ rows[0]
        noise = rows[1].mean(0).clamp_min(1e-12)
        if pilot is None:
            kept = coefficients.square() > THRESHOLD**2 * noise
            kept[0] = True
            coefficients = coefficients * kept
            share = 1 / (noise * kept.sum(0))
        else:
            power = (basis @ rows[2]).square()
            gain = power / (power + noise)
            gain[0] = 1
            coefficients = coefficients * gain
            share = 1 / (noise * gain.square().sum(0))
        size = tuple(band.shape[1:])
        values = F.fold((basis.T @ coefficients * share)[None], size, _SIZE, stride=_STRIDE)
        shares = F.fold(share.expand(_SIZE**2, -1)[None], size, _SIZE, stride=_STRIDE)
        total[start:stop] += values[0, 0]
        weight[start:stop] += shares[0, 0]
    edge = _SIZE - _STRIDE
    return (total / weight)[edge : edge + height, edge : edge + width]


def _pad(stack: Tensor) -> Tensor:
    """Mirror the border (small pictures: repeat it), so that every pixel lies in equally many."""
    edge = _SIZE - _STRIDE
    height, width = stack.shape[1:]
    below, right = (edge + -(side + 2 * edge - _SIZE) % _STRIDE for side in (height, width))
    mode = "reflect" if min(height, width) > max(below, right) else "replicate"
    return F.pad(stack, (edge, right, edge, below), mode=mode)
