"""Histogram equalization, of the whole picture and of tiles with a limit on contrast."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from foveal.lowlight.baselines.protocol import check_option, with_value
from foveal.lowlight.batches import widened


def _counts(index: Int64[Tensor, "b n"], levels: int) -> Float[Tensor, "b levels"]:
    zeros = torch.zeros(len(index), levels, device=index.device)
    ones = torch.ones((), device=index.device).expand(index.shape)
    return zeros.scatter_add_(1, index, ones)


@dataclass(frozen=True, slots=True)
class HistogramEqualization:
    """Spread the values (largest channel) evenly; hue and saturation stay.

    g(v) = (C(v) - C(v_min)) / (N - C(v_min)), C(v) counting pixels up to v.

    Attributes:
        levels: Of value that are told apart; 256 for 8 bit.

    Source: Gonzalez and Woods, "Digital Image Processing", section 3.3.
    """

    levels: int = 256

    def __post_init__(self) -> None:
        check_option("HistogramEqualization", "levels", self.levels, 2, 65536)

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return equalized images. A picture of one value stays as it is."""
        x = widened("HistogramEqualization", images)
        value = x.amax(1, keepdim=True)
        index = (value * (self.levels - 1)).round().long().flatten(1)
        total = _counts(index, self.levels).cumsum(1)
        lowest = total.gather(1, index.amin(1, keepdim=True))
        rest = index.shape[1] - lowest
        curve = ((total - lowest) / rest.clamp_min(1)).clamp_min(0)
        wanted = curve.gather(1, index).view_as(value).to(x.dtype)
        wanted = torch.where(rest[:, :, None, None] > 0, wanted, value)
        return with_value(x, value, wanted).to(images.dtype)


@dataclass(frozen=True, slots=True)
class Clahe:
    """Contrast-limited adaptive histogram equalization of the value; hue and saturation stay.

    Each tile's histogram is cut at a limit, what was cut is spread over all levels (again and again
    until nothing is above), and its sum is the tile's curve. A pixel's curve is interpolated
    between those of the four nearest tiles.

    Attributes:
        tiles: Along each side.
        limit: Most pixels of a tile on one level, as a share of the tile; 1 does not limit.
        levels: Of value.
        stretch: First bring each picture's least and largest value to 0 and 1. Without it the limit
            keeps very dark pictures nearly as they are.

    Source: Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV, 1994.
    Memory: 4 numbers a pixel, tiles^2 levels numbers a picture.
    """

    tiles: int = 8
    limit: float = 0.01
    levels: int = 256
    stretch: bool = True

    def __post_init__(self) -> None:
        check_option("Clahe", "tiles", self.tiles, 1, 256)
        check_option("Clahe", "limit", self.limit, 1e-4, 1)
        check_option("Clahe", "levels", self.levels, 2, 65536)

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return equalized images."""
        x = widened("Clahe", images)
        value = x.amax(1, keepdim=True)
        low, high = value.amin((2, 3), keepdim=True), value.amax((2, 3), keepdim=True)
        flat = high <= low
        grey = value
        if self.stretch:
            grey = (value - low) / torch.where(flat, 1, high - low)
        wanted = torch.where(flat, value, self._equalize(grey[:, 0])[:, None])
        return with_value(x, value, wanted.to(x.dtype)).to(images.dtype)

    def _equalize(self, value: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
        b, height, width = value.shape
        index = (value * (self.levels - 1)).round().long()
        tall, wide = -(-height // self.tiles), -(-width // self.tiles)
        rows, columns = -(-height // tall), -(-width // wide)
        # where the size is no multiple, the last tiles are filled up with the border
        padded = F.pad(
            index[:, None].double(),
            (0, wide * columns - width, 0, tall * rows - height),
            mode="replicate",
        ).long()
        cells = padded.view(b, rows, tall, columns, wide).transpose(2, 3).reshape(-1, tall * wide)
        counts = _limit(_counts(cells, self.levels), self.limit * tall * wide)
        curves = (counts.cumsum(1) / (tall * wide)).clamp(0, 1).view(b, -1)
        down, across = _between(height, tall, rows, value), _between(width, wide, columns, value)
        result = torch.zeros_like(value)
        for row, row_share in down:
            for column, column_share in across:
                tile = row[:, None] * columns + column
                found = curves.gather(1, (tile * self.levels + index).view(b, -1))
                share = row_share[:, None] * column_share
                result += share * found.view_as(value).to(value.dtype)
        return result


def _between(size: int, tile: int, count: int, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The tiles before and after each pixel's place, and their shares."""
    place = (torch.arange(size, device=like.device) + 0.5) / tile - 0.5
    before = place.floor()
    share = (place - before).to(like.dtype)
    return [
        (before.clamp(0, count - 1).long(), 1 - share),
        ((before + 1).clamp(0, count - 1).long(), share),
    ]


def _limit(counts: Float[Tensor, "n levels"], most: float) -> Float[Tensor, "n levels"]:
    """Cut histograms at `most`, and spread what was cut over the levels with room."""
    levels = counts.shape[1]
    most = max(most, float(counts.sum(1).max()) / levels)  # below it, nothing would fit
    for _ in range(levels):
        over = (counts - most).clamp_min(0).sum(1, keepdim=True)
        if float(over.max()) < 1e-3:
            break
        counts = counts.clamp_max(most)
        room = counts < most
        counts = counts + room * over / room.sum(1, keepdim=True).clamp_min(1)
    return counts
