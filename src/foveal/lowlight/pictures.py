"""Pictures to learn from: tensors or files, read when they are needed, cut at random."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from foveal._core.media import read_image
from foveal.errors import ArgumentError

Pictures: TypeAlias = Tensor | Sequence[Tensor | str | Path]
"""(n, 3, h, w) or clips (n, t, 3, h, w), or a sequence of (3, h, w), (t, 3, h, w) or files."""

_LEAST_AREA = 0.4


class Source:
    """Pictures of one kind, by number.

    Args:
        name: Of the argument, for messages.
        where: Of the function, for messages.
        pictures: See `Pictures`; sRGB in [0, 1]. Clips have the same number of frames.

    Raises:
        ArgumentError: none, a wrong shape or type, NaN or infinity.
    """

    def __init__(self, name: str, pictures: Pictures, *, where: str = "align") -> None:
        """Check what can be checked without reading files."""
        self.name, self._where = name, where
        if isinstance(pictures, (str, Path)) or len(pictures) == 0:
            raise ArgumentError(
                f"{where}: {name} is {pictures if isinstance(pictures, str) else 'empty'!r}, must "
                "be at least one picture: a tensor (n, 3, height, width) or a list of files"
            )
        self._pictures = pictures
        for item in pictures:
            if isinstance(item, Tensor):
                self._check(item)
        self._agree([x for x in pictures if isinstance(x, Tensor)])

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._pictures)

    def __getitem__(self, index: int) -> Tensor:
        """Return one picture, (3, height, width), or clip, (t, 3, height, width)."""
        item = self._pictures[index]
        if not isinstance(item, Tensor):
            item = read_image(item)
            self._check(item)
        return item

    def _check(self, item: Tensor) -> None:
        if item.ndim not in (3, 4) or item.shape[-3] != 3 or 0 in item.shape:
            raise ArgumentError(
                f"{self._where}: {self.name} holds a picture of shape {tuple(item.shape)}, must be "
                "(3, height, width), or (frames, 3, height, width) for a clip"
            )
        if not item.is_floating_point() or not bool(torch.isfinite(item).all()):
            raise ArgumentError(
                f"{self._where}: {self.name} holds a picture of {item.dtype} with range "
                f"{float(item.min()):.3g} to {float(item.max()):.3g}, must be floating point in "
                "[0, 1] without NaN or infinity; divide 8-bit pictures by 255"
            )
        if float(item.min()) < 0 or float(item.max()) > 1:
            raise ArgumentError(
                f"{self._where}: {self.name} holds values from {float(item.min()):.3g} to "
                f"{float(item.max()):.3g}, must be in [0, 1]; divide 8-bit pictures by 255"
            )

    def brightness(self, most: int = 64) -> float:
        """Return the median over some pictures of their mean sRGB value."""
        step = max(1, len(self) // most)
        means = [float(self[i].mean()) for i in range(0, len(self), step)]
        return float(torch.tensor(means).median())

    def batch(
        self, indices: Sequence[int], size: int, generator: torch.Generator | None, device: str
    ) -> Tensor:
        """Return square cuts, (b, 3, size, size) or (b, t, 3, size, size).

        Args:
            indices: Which pictures.
            size: Side, in pixels; cuts are resized with antialiasing.
            generator: Of random cuts (two fifths of the area or more) and mirroring; None takes the
                middle square.
            device: Where to.
        """
        cuts = [_cut(self[i].to(device), size, generator) for i in indices]
        self._agree(cuts)
        return torch.stack(cuts)

    def _agree(self, items: list[Tensor]) -> None:
        kinds = sorted({tuple(x.shape[:-2]) for x in items})
        if len(kinds) > 1:
            raise ArgumentError(
                f"{self._where}: {self.name} mixes pictures of {kinds[0]} and {kinds[-1]} planes, "
                "must be pictures only, or clips of one length"
            )


def _cut(item: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    height, width = item.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    flip = False
    if generator is not None:
        shrink, y, x, mirrored = torch.rand(4, generator=generator).tolist()
        side = max(1, round(side * (_LEAST_AREA + (1 - _LEAST_AREA) * shrink) ** 0.5))
        top, left = int(y * (height - side + 1)), int(x * (width - side + 1))
        flip = mirrored < 0.5
    cut = item[..., top : top + side, left : left + side].float()
    cut = cut.flip(-1) if flip else cut
    if side != size:
        frames = cut if cut.ndim == 4 else cut[None]
        frames = F.interpolate(
            frames, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
        cut = frames if cut.ndim == 4 else frames[0]
    return cut.clamp(0, 1)
