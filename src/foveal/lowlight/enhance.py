"""Enhance one image, and say what it cost."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.errors import ArgumentError, ShapeError
from foveal.lowlight.concave_curve import ConcaveCurve, apply_curve, num_multiply_adds
from foveal.lowlight.curve_family import LOOKS, finish
from foveal.receipt import Receipt

# SID's U-Net, 13.7 GFLOPs at 256 x 256 in the table of Retinexformer (Cai et al., ICCV 2023); one
# multiply-add is counted as two operations there.
_OVERSHOOT = 0.2  # of resampled images; they are clipped. Normalised tensors go further
_UNET_MULTIPLY_ADDS_PER_PIXEL = 13.7e9 / 2 / 256**2


@dataclass(frozen=True, slots=True)
class Enhanced:
    """An enhanced image, the curve that made it, and the receipt."""

    image: Float[Tensor, "3 height width"]
    curve: Float[Tensor, "3 levels"]
    receipt: Receipt


def enhance(
    image: Float[Tensor, "3 height width"],
    model: ConcaveCurve,
    *,
    strength: float = 1.0,
    look: str = "machine",
    recogniser: Callable[[Tensor], Tensor] | None = None,
    daylight: Float[Tensor, "3 height width"] | None = None,
) -> Enhanced:
    """Brighten an image with its own concave curve.

    Args:
        image: sRGB in [0, 1], any size; what sticks out a little is clipped.
        model: The curve network.
        strength: 1 is the curve, 0 the identity; blends stay concave. In [0, 1].
        look: "machine": the curve as it is, which may sacrifice colour and highlights for the
            recogniser. "human": one curve for all channels, highlights kept apart; see `bound`.
        recogniser: Image batches to class logits; together with `daylight` it measures the loss.
        daylight: The same scene in daylight, if there is one.

    Raises:
        ArgumentError: NaN in the image, values far from [0, 1], a strength out of range, or only
            one of `recogniser` and `daylight`.
        ShapeError: `image` is not (3, height, width).

    Cost: 9.5 M multiply-adds whatever the size, then one interpolation a pixel and channel.
    """
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ShapeError(
            f"enhance: image has shape {tuple(image.shape)}, must be (3, height, width)"
        )
    if not image.dtype.is_floating_point or not torch.isfinite(image).all():
        raise ArgumentError(
            f"enhance: image is {image.dtype} or holds NaN, must be finite floating-point in "
            "[0, 1]; divide 8-bit values by 255"
        )
    low, high = image.aminmax()
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ArgumentError(
            f"enhance: image has values from {low:.3g} to {high:.3g}, must be in [0, 1]; undo your "
            "model's normalisation first (x * std + mean), and divide 8-bit values by 255"
        )
    if (recogniser is None) != (daylight is None):
        raise ArgumentError(
            "enhance: recogniser and daylight must be given together, to measure the loss"
        )
    if not 0 <= strength <= 1:
        raise ArgumentError(f"enhance: strength is {strength}, must be in [0, 1]")
    if look not in LOOKS:
        raise ArgumentError(f"enhance: look is {look!r}, must be one of {LOOKS}")
    start = time.perf_counter()
    with torch.no_grad():
        curve = finish(model.predict(image[None].float()), strength=strength, look=look)
        out = apply_curve(image[None], curve, mode=model.mode)
    seconds = time.perf_counter() - start
    loss, metric = None, ""
    if recogniser is not None and daylight is not None:
        with torch.no_grad():
            same = recogniser(out).argmax(-1) == recogniser(daylight[None]).argmax(-1)
        loss, metric = float(not bool(same)), "top-1 disagreement with daylight"
    receipt = curve_receipt(
        height=image.shape[1], width=image.shape[2], seconds=seconds, loss=loss, metric=metric
    )
    return Enhanced(out[0], curve[0], receipt)


def curve_receipt(
    *,
    height: int,
    width: int,
    seconds: float,
    loss: float | None,
    metric: str,
    frames_per_curve: int = 1,
) -> Receipt:
    """Return the receipt of frames brightened by a predicted curve."""
    pixels = height * width
    return Receipt(
        stage="lowlight",
        unit="multiply-adds per frame",
        spent=num_multiply_adds() / frames_per_curve + 3 * pixels,
        full=_UNET_MULTIPLY_ADDS_PER_PIXEL * pixels,
        loss=loss,
        loss_metric=metric,
        seconds=seconds,
        details={
            "full_is": "SID U-Net at full resolution, 13.7 GFLOPs at 256 x 256 as published",
            "estimated": ["full"],
            "frames_per_curve": frames_per_curve,
        },
    )
