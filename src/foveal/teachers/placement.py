"""How a picture comes into a recogniser's square, and how boxes come back."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal.errors import ArgumentError, ShapeError

Fit = Literal["crop", "letterbox", "stretch", "line"]
_MOST_ASPECT = 9
_LINE_WIDTHS = (320, 3200)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in the square: x_square = x_image * scale_x + left.

    Args:
        scale_x, scale_y: Pixels of the square a pixel of the image.
        left, top: Offset in pixels of the square; negative if the image was cropped.
        height, width: Of the image, in pixels.
    """

    scale_x: float
    scale_y: float
    left: float
    top: float
    height: int
    width: int

    def to_image(self, points: Float[Tensor, "*n k"]) -> Float[Tensor, "*n k"]:
        """Points x y x y ... of the square as pixels of the image, held inside of it."""
        pairs = points.shape[-1] // 2
        offset = points.new_tensor([self.left, self.top] * pairs)
        scale = points.new_tensor([self.scale_x, self.scale_y] * pairs)
        most = points.new_tensor([self.width, self.height] * pairs)
        return ((points - offset) / scale).clamp_min(0).minimum(most)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a recogniser wants done to sRGB in [0, 1].

    Args:
        size: Side of the square, in pixels.
        fit: "crop" (the shorter side fills the square), "letterbox" (all of it is shown, the rest
            is mid grey), "stretch" (both sides fill the square), or "line" (the height fills; the
            width follows, from 320 to 3200 in steps of 8, what is left over is mid grey).
        mean, std: Taken off and divided by, of each channel in the order of `channels`.
        channels: "rgb" or "bgr".
    """

    size: int
    fit: Fit
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: Literal["rgb", "bgr"] = "rgb"

    def place(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> tuple[Float[Tensor, "b 3 rows columns"], Placement]:
        """Bring images into the square; gradients pass."""
        check_images("place", images)
        height, width = images.shape[-2:]
        if self.fit == "crop":
            scale = self.size / min(height, width)
            new = [max(self.size, round(n * scale)) for n in (height, width)]
            left, top = -((new[1] - self.size) // 2), -((new[0] - self.size) // 2)
            placement = Placement(scale, scale, left, top, height, width)
            return prepare(images, self.size), placement
        new, total = [self.size, self.size], [self.size, self.size]
        if self.fit == "letterbox":
            scale = self.size / max(height, width)
            new = [max(1, round(height * scale)), max(1, round(width * scale))]
        elif self.fit == "line":
            new[1] = min(_LINE_WIDTHS[1], max(8, round(width * self.size / height)))
            total[1] = max(_LINE_WIDTHS[0], 8 * math.ceil(new[1] / 8))
        square = F.interpolate(images, new, mode="bilinear", antialias=True, align_corners=False)
        top, left = (total[0] - new[0]) // 2, (total[1] - new[1]) // 2
        left = 0 if self.fit == "line" else left
        borders = (left, total[1] - new[1] - left, top, total[0] - new[0] - top)
        placement = Placement(new[1] / width, new[0] / height, left, top, height, width)
        return F.pad(square, borders, value=0.5), placement

    def normalize(self, x: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b 3 height width"]:
        """Order the channels, take off the mean and divide."""
        x = x.flip(1) if self.channels == "bgr" else x
        return (x - x.new_tensor(self.mean).reshape(3, 1, 1)) / x.new_tensor(self.std).reshape(
            3, 1, 1
        )


def check_images(where: str, images: Tensor, *, size: int | None = None) -> None:
    """Refuse what is no batch of colour images; with `size`, of that square.

    Raises:
        ShapeError: not (b, 3, height, width), or a side of 0.
        ArgumentError: no floating-point type.
    """
    sides = (size, size) if size else ("height", "width")
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[1] != 3 or 0 in shape or (size and shape[2:] != (size, size)):
        mend = "use preprocess, or foveal.teachers.prepare" if size else "grey: repeat the channel"
        raise ShapeError(
            f"{where}: images has shape {shape}, must be (b, 3, {sides[0]}, {sides[1]}); {mend}"
        )
    if not images.is_floating_point():
        raise ArgumentError(
            f"{where}: images is {images.dtype}, must be a floating-point type in [0, 1]; "
            "divide by 255"
        )


def check_values(where: str, images: Tensor) -> None:
    """Refuse NaN, infinity and values that are not in [0, 1]; waits for the device.

    Raises:
        ArgumentError: names the range that was found.
    """
    low, high = (float(x) for x in torch.aminmax(images.detach()))
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ArgumentError(
            f"{where}: images has values from {low:g} to {high:g}, must be in [0, 1] without NaN; "
            "divide 8-bit values by 255"
        )


def prepare(
    image: Float[Tensor, "*b 3 height width"], size: int = 224
) -> Float[Tensor, "*b 3 size size"]:
    """Resize so that the shorter side is `size` (antialiased), then crop the centre.

    Args:
        image: sRGB in [0, 1], one image or a batch.
        size: Side of the square, in pixels.

    Raises:
        ShapeError: `image` has not 3 channels, or a side of 0.
    """
    if image.ndim not in (3, 4) or image.shape[-3] != 3 or 0 in image.shape:
        raise ShapeError(
            f"prepare: image has shape {tuple(image.shape)}, must be (3, height, width) "
            "or (b, 3, height, width)"
        )
    batch = image if image.ndim == 4 else image[None]
    # Of a long strip only the middle matters: resized as a whole it would fill the memory.
    most = _MOST_ASPECT * min(batch.shape[-2:])
    top, left = (max(0, (side - most) // 2) for side in batch.shape[-2:])
    batch = batch[..., top : top + most, left : left + most]
    height, width = batch.shape[-2:]
    scale = size / min(height, width)
    new = (max(size, round(height * scale)), max(size, round(width * scale)))
    batch = F.interpolate(batch, new, mode="bicubic", antialias=True, align_corners=False)
    top, left = (new[0] - size) // 2, (new[1] - size) // 2
    batch = batch[..., top : top + size, left : left + size].clamp(0, 1)
    return batch if image.ndim == 4 else batch[0]
