"""What keeps a concave curve concave: strength, one curve for all channels, bounds, smoothing.

The family is {g concave on [0, 1], g(0) = 0, g(1) = 1}; so g(x) >= x. It is convex, and closed
under the least of two members, and so under everything here.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal.errors import ArgumentError, ShapeError
from foveal.lowlight.concave_curve import ConcaveCurve, apply_curve

LOOKS = ("machine", "human")
HUMAN_LEAST_SLOPE = 0.3
HUMAN_MOST_GAIN = 8.0
_CUT_GRID = 8
_MOST_LIGHT = 4.0
_BLACK = 1 / 255


def blend(curve: Float[Tensor, "b 3 levels"], strength: float) -> Float[Tensor, "b 3 levels"]:
    """Mix a curve with the identity: the result is concave and increasing again."""
    identity = torch.linspace(0, 1, curve.shape[-1], device=curve.device, dtype=curve.dtype)
    return identity + strength * (curve - identity)


def couple(curve: Float[Tensor, "b 3 levels"]) -> Float[Tensor, "b 3 levels"]:
    """Give all channels the mean of the three curves: greys stay grey."""
    return curve.mean(1, keepdim=True).expand_as(curve)


def bound(
    curve: Float[Tensor, "b 3 levels"], *, least_slope: float = 0.0, most_gain: float = math.inf
) -> Float[Tensor, "b 3 levels"]:
    """Keep highlights apart and noise down: h(x) = min(g(x), most_gain x, 1 - least_slope (1 - x)).

    Any curve that ends at (1, 1) and is nowhere flatter than `least_slope` lies below the line
    1 - least_slope (1 - x), and any that amplifies nowhere more than `most_gain` lies below the
    line through 0; the least of concave curves is concave. So h is the brightest curve below g that
    obeys both: no two tones closer than `least_slope` times their distance, no noise amplified more
    than `most_gain` times.

    Args:
        curve: Members of the family, at equally spaced levels.
        least_slope: Unitless, in [0, 1]; 1 is the identity.
        most_gain: Unitless, >= 1; 1 is the identity.
    """
    if not 0 <= least_slope <= 1:
        raise ArgumentError(f"bound: least_slope is {least_slope}, must be in [0, 1]")
    if not most_gain >= 1:
        raise ArgumentError(f"bound: most_gain is {most_gain}, must be >= 1")
    x = torch.linspace(0, 1, curve.shape[-1], device=curve.device, dtype=curve.dtype)
    curve = torch.minimum(curve, 1 - least_slope * (1 - x))
    return curve if math.isinf(most_gain) else torch.minimum(curve, most_gain * x)


def finish(
    curve: Float[Tensor, "b 3 levels"], *, strength: float = 1.0, look: str = "machine"
) -> Float[Tensor, "b 3 levels"]:
    """Turn a predicted curve into the one that is applied.

    Args:
        curve: As predicted.
        strength: 1 is the curve, 0 the identity. In [0, 1].
        look: "machine" takes the curve as it is: it serves the recogniser and may sacrifice colour
            and highlights. "human" couples the channels and bounds the curve (`couple`, `bound`).
    """
    if not 0 <= strength <= 1:
        raise ArgumentError(f"finish: strength is {strength}, must be in [0, 1]")
    if look not in LOOKS:
        raise ArgumentError(f"finish: look is {look!r}, must be one of {LOOKS}")
    if look == "human":
        curve = bound(couple(curve), least_slope=HUMAN_LEAST_SLOPE, most_gain=HUMAN_MOST_GAIN)
    return blend(curve, strength)


class CurveStream:
    """One smoothed curve a frame, for cameras and long clips whose light changes.

    The predicted curves are averaged exponentially, inside the family; at a cut of the scene the
    average starts anew. A cut is where 8 x 8 thumbnails of two frames in a row, brought to the same
    level and seen through the same curve, differ by more than `cut`: a lamp is no cut unless it
    changes the light well over four times; dark frames are compared as bright as they are shown.

    Args:
        model: The curve network.
        half_life: Frames after which an old curve weighs half; 0 smooths nothing.
        cut: Mean absolute difference of thumbnails in [0, 1] that is a cut.

    Attributes:
        cuts: Numbers of the frames at which the average started anew, without the first.
    """

    def __init__(self, model: ConcaveCurve, *, half_life: float = 12.0, cut: float = 0.12) -> None:
        """Check the settings; there is no curve before the first frame."""
        if not (math.isfinite(half_life) and half_life >= 0):
            raise ArgumentError(f"CurveStream: half_life is {half_life}, must be finite and >= 0")
        if not 0 < cut <= 1:
            raise ArgumentError(f"CurveStream: cut is {cut}, must be in (0, 1]; 1 finds none")
        self.cuts: list[int] = []
        self._model, self._cut = model, cut
        self._keep = 0.0 if half_life == 0 else 0.5 ** (1 / half_life)
        self._curve: Tensor | None = None
        self._seen: Tensor | None = None
        self._count = 0

    @torch.no_grad()
    def update(self, frame: Float[Tensor, "3 height width"]) -> Float[Tensor, "1 3 levels"]:
        """Take the next frame, or a thumbnail of it, and return the curve to show it with."""
        if frame.ndim != 3 or frame.shape[0] != 3 or 0 in frame.shape:
            raise ShapeError(
                f"CurveStream.update: frame has shape {tuple(frame.shape)}, must be "
                "(3, height, width)"
            )
        if not torch.isfinite(frame).all():
            raise ArgumentError("CurveStream.update: frame holds NaN or infinity, must be finite")
        new = self._model.predict(frame[None].float())
        small = F.adaptive_avg_pool2d(frame[None].float().clamp(0, 1), _CUT_GRID)
        if self._curve is not None and self._seen is not None:
            level = (self._seen.mean() + _BLACK) / (small.mean() + _BLACK)
            dimmed = small * level.clamp(1 / _MOST_LIGHT, _MOST_LIGHT)
            before, after = (apply_curve(x, self._curve) for x in (self._seen, dimmed))
            if (before - after).abs().mean() > self._cut:
                self.cuts.append(self._count)
            else:
                new = torch.lerp(new, self._curve, self._keep)
        self._curve, self._seen = new, small
        self._count += 1
        return new
