"""What no enhancer can know: the best curve of each picture, and the darkening undone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.data.sensor_noise import linear_to_srgb, srgb_to_linear
from foveal.errors import ArgumentError, ShapeError
from foveal.lowlight.baselines.protocol import check_option
from foveal.lowlight.batches import widened
from foveal.lowlight.ensemble import ENSEMBLE, reciprocal_curve

Scorer = Callable[[Tensor], Tensor]
"""(b, 3, h, w) to one number a picture, (b,); the larger, the better."""


@dataclass(frozen=True, slots=True)
class BestCurve:
    """The picture that a scorer likes best, of several curves.

    Attributes:
        images: Under each picture's best curve.
        a: Its parameter; infinity where the untouched picture is best.
        scores: What the scorer says of it.
    """

    images: Float[Tensor, "b 3 height width"]
    a: Float[Tensor, "b"]
    scores: Float[Tensor, "b"]


@torch.no_grad()
def best_reciprocal(
    images: Float[Tensor, "b 3 height width"],
    scorer: Scorer,
    *,
    grid: Sequence[float] = ENSEMBLE,
) -> BestCurve:
    """Choose each picture's reciprocal curve by what comes of it: the ceiling of one global curve.

    An upper bound for that family when the scorer knows the answer (such as agreement with the
    daylight answer); never a method. Of equal scores the untouched picture and then the weakest
    curve wins.

    Args:
        images: sRGB in [0, 1].
        scorer: See `Scorer`.
        grid: Parameters of (1 + a) x / (x + a), > 0. The untouched picture is always tried.

    Raises:
        ArgumentError: the grid is empty or not positive, or a score is NaN.
        ShapeError: the scorer does not give one number a picture.

    Cost: one call of the scorer a curve, and one more. Memory: two batches.
    """
    x = widened("best_reciprocal", images)
    if not grid or not all(0 < a < float("inf") for a in grid):
        raise ArgumentError(
            f"best_reciprocal: grid is {list(grid)}, must be one or more finite numbers > 0"
        )
    best = BestCurve(images, torch.full((len(x),), torch.inf), _scores(scorer, images))
    for a in sorted(grid, reverse=True):
        tried = reciprocal_curve(x, a).clamp(0, 1).to(images.dtype)
        scores = _scores(scorer, tried)
        better = scores > best.scores
        chosen = better.to(x.device)[:, None, None, None]
        best = BestCurve(
            torch.where(chosen, tried, best.images),
            torch.where(better, a, best.a),
            torch.where(better, scores, best.scores),
        )
    return best


def _scores(scorer: Scorer, images: Tensor) -> Tensor:
    scores = scorer(images).detach().float().cpu()
    if scores.shape != (len(images),):
        raise ShapeError(
            f"best_reciprocal: scorer gives shape {tuple(scores.shape)}, must be "
            f"({len(images)},): one number a picture"
        )
    if bool(scores.isnan().any()):
        raise ArgumentError("best_reciprocal: scorer gives NaN, must give numbers")
    return scores


@dataclass(frozen=True, slots=True)
class LinearOracle:
    """Linear light times 1 / k: undo a darkening whose factor is known.

    Attributes:
        k: Factor by which the light was multiplied, in (0, 1].
    """

    k: float

    def __post_init__(self) -> None:
        check_option("LinearOracle", "k", self.k, 1e-6, 1)

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return images as bright as before; noise and rounding are as much brighter."""
        linear = srgb_to_linear(widened("LinearOracle", images)) / self.k
        return linear_to_srgb(linear.clamp(0, 1)).to(images.dtype)
