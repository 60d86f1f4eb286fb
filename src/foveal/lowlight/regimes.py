"""How dark and how noisy is a picture, and would a curve help?

estimate = lowlight.estimate_noise(image)       # variance = shot * x + read, in linear light
verdict = lowlight.judge(image)                 # "well-lit", "light-limited" or "noise-limited"
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal.data.sensor_noise import NoiseLine, srgb_to_linear
from foveal.errors import ArgumentError, ShapeError

BLOCK = 8
"""Side of the blocks whose mean and variance are compared, in pixels."""

_QUANTILE = 0.1  # of the variances of blocks of like brightness: the flattest ones
_NUM_BINS = 16
_MIN_BLOCKS = 24  # in a bin
_SATURATED = 0.98
# Share of a white noise's variance at that quantile, with second differences of neighbors and of
# next neighbors: of 500,000 pixels of Gaussian noise (`tests/unit/lowlight/test_lowlight_regimes`)
_SHARE = {1: 0.623, 2: 0.645}
_CORRELATED = (
    0.4  # white noise has 1, and less under fine texture; after a mosaic or JPEG under 0.3
)
_TEXTURE = 0.15  # relative excess over the line at which a bin counts half
_BELOW = 0.5
_MIN_STEPS = 0.35  # standard deviation, in steps of 8 bit: below, rounding hides the noise
_MIN_LEVELS = 6
_MAX_BLACK = 0.6
_DARK = 0.1

Regime = Literal["well-lit", "light-limited", "noise-limited"]
DenoiseWhen = Literal["noise-limited", "dark"]

LIGHT_THRESHOLD = 0.025
"""Mean linear luminance from which a recogniser needs no help; from `benchmarks/regimes.py`."""

SNR_THRESHOLD = 1.87
"""Signal-to-noise ratio below which a curve does not help; from `benchmarks/regimes.py`."""

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of linear red, green and blue (IEC 61966-2-1)."""


@dataclass(frozen=True, slots=True)
class NoiseEstimate:
    """What a single picture tells about its noise.

    Args:
        noise: Variance against linear light for red, green and blue; None if `problem` says why.
        problem: Empty, or why there is no estimate.
        light: Mean linear luminance, white is 1.
        snr: `light` over the noise's standard deviation there; infinity without noise, NaN
            without an estimate.
        num_levels: Steps of 8 bit that the picture uses, of 256, in its richest channel.
        black_fraction: Share of values that are 0.
        correlated: Noise of neighbors is alike (a demosaic, JPEG or a denoiser came between):
            next neighbors were compared.
        num_blocks: Blocks of 8 x 8 pixels that were used, over three channels.
    """

    noise: NoiseLine | None
    problem: str
    light: float
    snr: float
    num_levels: int
    black_fraction: float
    correlated: bool
    num_blocks: int


def estimate_noise(image: Float[Tensor, "3 height width"]) -> NoiseEstimate:
    """Estimate shot and read noise from one sRGB picture.

    In linear light, second differences in both directions (planes cancel) are squared and averaged
    over 8 x 8 blocks. Blocks of like mean are put in bins; the flattest tenth of a bin gives its
    variance (divided by the share that a tenth of pure Gaussian noise shows). Means and variances
    that were cut at black are mended as those of a rectified Gaussian, the variance of rounding to
    8 bit is taken off, and a line is fitted with weights 1 / variance^2; bins above the line, where
    texture adds variance, count less. One line is fitted for all channels; then a factor each.

    Args:
        image: sRGB in [0, 1], as stored (not brightened, not resized).

    Raises:
        ShapeError: `image` is not (3, height, width).
        ArgumentError: `image` is not floating-point, or not within [0, 1].

    Accuracy: see docs/lowlight/regimes.md. Fine texture everywhere is taken for noise; what a
    denoiser removed is not found. Sources: line of Foi et al., "Practical Poissonian-Gaussian
    Noise Modeling and Fitting for Single-Image Raw-Data", IEEE TIP 2008; differences after
    Immerkaer, "Fast Noise Variance Estimation", CVIU 1996. Differs: quantiles of blocks, sRGB.
    Cost: linear in pixels, about 0.4 s a megapixel on one core.
    """
    _check("estimate_noise", image)
    linear = srgb_to_linear(image.float())
    light = float((linear * linear.new_tensor(LUMINANCE)[:, None, None]).sum(0).mean())
    codes = image * 255
    rounded = codes.round()
    is_8_bit = bool(((codes - rounded).abs() < 1e-3).all())
    num_levels = max(int(c.unique().numel()) for c in rounded.to(torch.uint8))
    black = float((rounded == 0).float().mean())

    def found(
        noise: NoiseLine | None, problem: str = "", correlated: bool = False, num_blocks: int = 0
    ) -> NoiseEstimate:
        snr = math.nan
        if noise is not None:
            shot, read = (_weigh(x) for x in (noise.shot, noise.read))
            variance = shot * light + read
            snr = light / math.sqrt(variance) if variance > 0 else math.inf
        return NoiseEstimate(noise, problem, light, snr, num_levels, black, correlated, num_blocks)

    if (is_8_bit and num_levels < _MIN_LEVELS) or black > _MAX_BLACK:
        name = "black crush" if light < _DARK else "few levels"
        return found(
            None,
            f"{name}: {num_levels} of 256 levels are used and {black:.0%} of the values are 0; "
            "the noise was rounded away",
        )
    near = _bins(linear, lag=1, is_8_bit=is_8_bit)
    far = _bins(linear, lag=2, is_8_bit=is_8_bit)
    if near is None or far is None:
        return found(None, "too few blocks of 8 x 8 pixels that are not saturated; take more")
    ratio = float((near.variance / far.variance.clamp_min(1e-30)).median())
    correlated = near.variance.shape == far.variance.shape and ratio < _CORRELATED
    bins = far if correlated else near
    if is_8_bit and float((bins.steps < _MIN_STEPS).double().mean()) > 0.5:
        return found(
            None,
            f"rounding to 8 bit hides the noise: {float(bins.steps.median()):.2f} steps of "
            f"deviation, {num_levels} of 256 levels used",
            correlated,
            bins.num_blocks,
        )
    return found(_fit(bins), "", correlated, bins.num_blocks)


def _check(where: str, image: Tensor) -> None:
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ShapeError(
            f"{where}: image has shape {tuple(image.shape)}, must be (3, height, width)"
        )
    if not image.dtype.is_floating_point:
        raise ArgumentError(
            f"{where}: image is {image.dtype}, must be floating-point; divide 8 bit by 255"
        )
    if not bool(((image >= 0) & (image <= 1)).all()):
        raise ArgumentError(f"{where}: image has values outside [0, 1] or NaN; clamp them first")


def _weigh(values: tuple[float, float, float]) -> float:
    return sum(w * v for w, v in zip(LUMINANCE, values, strict=True))


@dataclass(frozen=True, slots=True)
class _Bins:
    """Blocks of like brightness: mended mean and variance, channel, weight, deviation in steps."""

    mean: Tensor
    variance: Tensor
    channel: Tensor
    weight: Tensor
    steps: Tensor
    num_blocks: int


def _second_difference(x: Tensor, lag: int) -> Tensor:
    return x[..., 2 * lag :] - 2 * x[..., lag:-lag] + x[..., : -2 * lag]


def _blocks(linear: Tensor, lag: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance of the differences and whether saturated, of every block: (3, blocks)."""
    if min(linear.shape[-2:]) < BLOCK + 2 * lag:
        empty = linear.new_zeros(3, 0)
        return empty, empty, empty.bool()
    inner = linear[..., lag:-lag, lag:-lag]
    rough = _second_difference(_second_difference(linear, lag).mT, lag).mT
    variance = F.avg_pool2d((rough * rough)[None] / 36, BLOCK)[0]
    mean = F.avg_pool2d(inner[None], BLOCK)[0]
    high = F.max_pool2d(inner[None], BLOCK)[0] >= _SATURATED
    m, v, h = (x.flatten(1).cpu() for x in (mean, variance, high))  # little is left of a picture
    return m.double(), v.double(), h


def _bins(linear: Tensor, *, lag: int, is_8_bit: bool) -> _Bins | None:
    means, variances, high = _blocks(linear, lag)
    rows: list[Tensor] = []
    used = 0
    for channel in range(3):
        keep = ~high[channel]
        m, v = means[channel][keep], variances[channel][keep]
        if len(m) < _MIN_BLOCKS:
            continue
        used += len(m)
        for part in m.argsort().tensor_split(min(_NUM_BINS, len(m) // _MIN_BLOCKS)):
            flat = v[part] <= v[part].quantile(2 * _QUANTILE)
            low = v[part].quantile(_QUANTILE) / _SHARE[lag]
            row = [m[part][flat].mean(), low, low.new_tensor(channel), low.new_tensor(len(part))]
            rows.append(torch.stack(row))
    if not rows:
        return None
    mean, variance, channel, weight = torch.stack(rows, 1)
    step = _step(mean)
    steps = variance.sqrt() / step
    mean, variance, deep = _mend(mean, variance)
    if is_8_bit:
        variance = variance - step**2 / 12
    weight = weight * ~deep
    floor = 1e-4 * step**2
    return _Bins(mean, variance.maximum(floor), channel, weight, steps, used)


def _step(mean: Tensor) -> Tensor:
    """One step of 8-bit sRGB in linear light."""
    slope = 1.055 / 2.4 * mean.clamp_min(0.0031308) ** (1 / 2.4 - 1)
    return 1 / (255 * torch.where(mean <= 0.0031308, torch.full_like(mean, 12.92), slope))


@cache
def _rectified() -> tuple[Tensor, Tensor, Tensor]:
    """Mean / deviation before the cut; mean / deviation and variance after it, deviation 1."""
    r = torch.linspace(-2, 8, 2001, dtype=torch.float64)
    density = torch.exp(-r * r / 2) / math.sqrt(2 * math.pi)
    below = torch.special.ndtr(r)
    mean = density + r * below
    variance = below * (1 + r * r) + r * density - mean * mean
    return r, mean / variance.sqrt(), variance


def _mend(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance before values below 0 were cut; and where too little is left."""
    before, after, kept = _rectified()
    ratio = mean / variance.clamp_min(1e-30).sqrt()
    at = torch.searchsorted(after, ratio.contiguous()).clamp(1, len(after) - 1)
    share = ((ratio - after[at - 1]) / (after[at] - after[at - 1])).clamp(0, 1)
    r = before[at - 1] + (before[at] - before[at - 1]) * share
    k = kept[at - 1] + (kept[at] - kept[at - 1]) * share
    whole = ratio >= after[-1]
    mended = torch.where(whole, variance, variance / k)
    return torch.where(whole, mean, r * mended.sqrt()).clamp_min(0), mended, r < -0.5


def _fit(bins: _Bins) -> NoiseLine:
    """Fit one line by reweighted least squares, then a factor for each channel."""
    x, y = bins.mean, bins.variance
    weight, line = bins.weight, y
    shot = read = 0.0
    for _ in range(20):
        w = weight / line**2
        total, sx, sy = float(w.sum()), float((w * x).sum()), float((w * y).sum())
        if total <= 0:  # every bin was cut too deep
            shot, read = 0.0, float(y.median())
            break
        sxx, sxy = float((w * x * x).sum()), float((w * x * y).sum())
        spread = total * sxx - sx * sx
        if spread <= 1e-9 * total * sxx:
            shot, read = 0.0, sy / total
        else:
            shot, read = (total * sxy - sx * sy) / spread, (sxx * sy - sx * sxy) / spread
            if shot < 0:
                shot, read = 0.0, sy / total
            elif read < 0:
                shot, read = sxy / sxx, 0.0
        line = (shot * x + read).clamp_min(1e-30)
        excess = y / line - 1
        weight = bins.weight / (
            (1 + (excess.clamp_min(0) / _TEXTURE) ** 2) * (1 + (excess.clamp_max(0) / _BELOW) ** 2)
        )
    factors: list[float] = []
    for channel in range(3):
        chosen = (bins.channel == channel) & (bins.weight > 0)
        ratio = (y / line)[chosen]
        factors.append(float(ratio.quantile(0.35)) if len(ratio) else 1.0)
    r, g, b = factors
    return NoiseLine((shot * r, shot * g, shot * b), (read * r, read * g, read * b))


def linear_luminance(image: Float[Tensor, "3 height width"]) -> Float[Tensor, "height width"]:
    """Luminance of an sRGB picture in linear light, white is 1."""
    linear = srgb_to_linear(image)
    return (linear * linear.new_tensor(LUMINANCE)[:, None, None]).sum(0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What limits a picture, and the numbers that led there.

    Args:
        regime: "well-lit": leave it alone. "light-limited": a curve helps. "noise-limited": a
            curve alone does not.
        estimate: Light, signal-to-noise ratio and the noise itself.
        light_threshold: What `estimate.light` was compared with.
        snr_threshold: What `estimate.snr` was compared with.
    """

    regime: Regime
    estimate: NoiseEstimate
    light_threshold: float
    snr_threshold: float

    def __str__(self) -> str:
        """Return one line."""
        e = self.estimate
        noise = e.problem
        if e.noise is not None:
            noise = (
                f"SNR {e.snr:.3g} ({self.snr_threshold:.3g}), shot {e.noise.shot[1]:.2e}, "
                f"read {e.noise.read[1]:.2e}"
            )
        return f"{self.regime}: light {e.light:.4f} ({self.light_threshold:.4f}), {noise}"


def judge(
    image: Float[Tensor, "3 height width"],
    *,
    light_threshold: float = LIGHT_THRESHOLD,
    snr_threshold: float = SNR_THRESHOLD,
) -> Verdict:
    """Say whether a picture is well-lit, light-limited or noise-limited.

    A picture whose noise cannot be estimated is judged by its light alone; `.estimate.problem`
    says why.

    Args:
        image: sRGB in [0, 1], as stored.
        light_threshold: Mean linear luminance, > 0.
        snr_threshold: Signal-to-noise ratio at that luminance, >= 0.

    Raises:
        ShapeError: `image` is not (3, height, width).
        ArgumentError: `image` is not floating-point within [0, 1], or a threshold is not allowed.

    Accuracy: error rates on photographs of other sources are in docs/lowlight/regimes.md.
    """
    if not 0 < light_threshold < math.inf:
        raise ArgumentError(f"judge: light_threshold is {light_threshold}, must be > 0")
    if not 0 <= snr_threshold < math.inf:
        raise ArgumentError(f"judge: snr_threshold is {snr_threshold}, must be >= 0")
    _check("judge", image)
    estimate = estimate_noise(image)
    regime = sort_regime(
        estimate.light,
        estimate.snr,
        light_threshold=light_threshold,
        snr_threshold=snr_threshold,
    )
    return Verdict(regime, estimate, light_threshold, snr_threshold)


def sort_regime(
    light: float, snr: float, *, light_threshold: float, snr_threshold: float
) -> Regime:
    """Name the regime of a light and a signal-to-noise ratio; NaN: the ratio is not known."""
    if snr < snr_threshold:
        return "noise-limited"
    return "well-lit" if light >= light_threshold else "light-limited"


@dataclass(frozen=True, slots=True)
class Gated:
    """A picture after the gate, and why."""

    image: Float[Tensor, "3 height width"]
    verdict: Verdict


def auto(
    image: Float[Tensor, "3 height width"],
    enhance: Callable[[Tensor], Tensor],
    *,
    denoise: Callable[[Tensor], Tensor] | None = None,
    denoise_when: DenoiseWhen = "noise-limited",
) -> Gated:
    """Enhance a picture only if that helps.

    Well-lit: the very same tensor comes back. Light-limited: `enhance(image)`. Noise-limited:
    `enhance(denoise(image))`, or `enhance(image)` without a denoiser; the verdict says so.

    Args:
        image: sRGB in [0, 1], as stored.
        enhance: From picture to picture, such as `lambda x: curve(x[None])[0]`.
        denoise: The same, such as `foveal.lowlight.denoise.denoise`.
        denoise_when: "dark" also denoises light-limited pictures whose noise can be estimated:
            better for a classifier of crops that it sees as they are, of no use to a detector that
            sees photographs shrunk (docs/lowlight/regimes.md).

    Raises: as `judge`, and what the two callables raise; ArgumentError: an unknown `denoise_when`.
    """
    if denoise_when not in get_args(DenoiseWhen):
        raise ArgumentError(
            f"auto: denoise_when is {denoise_when!r}, must be one of {get_args(DenoiseWhen)}"
        )
    verdict = judge(image)
    if verdict.regime == "well-lit":
        return Gated(image, verdict)
    wanted = denoise_when == "dark" or verdict.regime == "noise-limited"
    if denoise is not None and wanted and verdict.estimate.noise is not None:
        image = denoise(image)
    return Gated(enhance(image), verdict)
