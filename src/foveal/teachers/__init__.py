"""Frozen recognisers behind one protocol: images in [0, 1] in, class logits out."""

from typing import Protocol

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal.errors import ShapeError

__all__ = ["Teacher", "prepare"]

_MOST_ASPECT = 9


class Teacher(Protocol):
    """A frozen recogniser that gradients can pass through."""

    size: int

    def __call__(self, x: Float[Tensor, "b 3 size size"]) -> Float[Tensor, "b classes"]:
        """Return class logits of sRGB images in [0, 1]."""
        ...


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
