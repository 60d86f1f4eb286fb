"""Orders for the tokens of a video or an image, so that a cell of 64 holds tokens that are alike.

Attention without a mask does not care for the order of its tokens, but cells do: a cell whose
tokens are neighbours in space and time is well described by its mean, and SpargeAttention can judge
it. Read row by row, 64 tokens are one long strip of one frame; along a Hilbert curve they are a
compact block.

Source of the use: Zhang et al., "SpargeAttention", ICML 2025, arXiv:2502.18137.
Source of the curve: Skilling, "Programming the Hilbert curve", AIP Conf. Proc. 707, 2004.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from foveal.attention.score.pooled import mean_token, pool_cells
from foveal.errors import ArgumentError, ShapeError

_MOST_TOKENS = 2**31


def _check_grid(fn: str, frames: int, height: int, width: int) -> None:
    sizes = {"frames": frames, "height": height, "width": width}
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ArgumentError(
                f"{fn}: {name} is {size}, must be a whole number >= 1; pass tokens, not pixels"
            )
    if math.prod(sizes.values()) > _MOST_TOKENS:
        raise ArgumentError(
            f"{fn}: frames, height and width are {tuple(sizes.values())}, must hold at most "
            f"{_MOST_TOKENS} tokens; cut the video"
        )


def _hilbert_rank(points: list[Tensor], num_bits: int) -> Tensor:
    """Return how far along the curve each point of a cube of side 2^num_bits lies.

    From the coarsest bit to the finest, each octant is turned and mirrored into the position in
    which the curve enters it; the Gray code of what remains counts the octants in visiting order.
    """
    x = [p.clone() for p in points]
    for bit in range(num_bits - 1, 0, -1):
        finer = (1 << bit) - 1
        for axis in range(len(x)):
            upper = (x[axis] >> bit & 1).bool()
            swap = (x[0] ^ x[axis]) & finer
            x[axis] = torch.where(upper, x[axis], x[axis] ^ swap)
            x[0] = torch.where(upper, x[0] ^ finer, x[0] ^ swap)
    for axis in range(1, len(x)):
        x[axis] = x[axis] ^ x[axis - 1]
    flip = torch.zeros_like(x[0])
    for bit in range(num_bits - 1, 0, -1):
        flip = torch.where((x[-1] >> bit & 1).bool(), flip ^ ((1 << bit) - 1), flip)
    rank = torch.zeros_like(flip)
    for bit in range(num_bits - 1, -1, -1):
        for coordinate in x:
            rank = rank << 1 | ((coordinate ^ flip) >> bit & 1)
    return rank


def hilbert_order(
    frames: int, height: int, width: int, *, device: torch.device | str | None = None
) -> Int[Tensor, " n"]:
    """Return the tokens of a (frames, height, width) grid in the order of a Hilbert curve.

    Axes of size 1 are left out, so that an image gets the curve of the plane. The curve is that of
    the smallest cube of side 2^p around the grid; where the grid does not fill the cube, the cells
    inside keep their order. In a cube of side 2^p consecutive tokens are neighbours (they differ by
    one step on one axis). In any other grid most are, and there are jumps where the curve leaves
    the grid.

    Args:
        frames: Size of the slowest axis of the sequence, in tokens.
        height: Size of the next, in tokens.
        width: Size of the fastest axis, in tokens.
        device: Where the result lives.

    Returns: A permutation of range(frames * height * width), int64: entry i is the row-major number
        of the i-th token on the curve, so `x[..., order, :]` is in its order.
    Raises: ArgumentError: a size is below 1, or there are more than 2^31 tokens.
    Memory: 8 integers of 8 bytes per token while it is made.
    """
    _check_grid("hilbert_order", frames, height, width)
    number = torch.arange(frames * height * width, device=device)
    axes = [(number // (height * width), frames), (number // width % height, height)]
    axes = [axis for axis in [*axes, (number % width, width)] if axis[1] > 1]
    if len(axes) < 2:
        return number
    num_bits = max(size - 1 for _, size in axes).bit_length()
    return _hilbert_rank([points for points, _ in axes], num_bits).argsort()


def invert_order(order: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Return the permutation that undoes `order`: entry `order[i]` of the result is i."""
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order), device=order.device)
    return inverse


@dataclass(frozen=True, eq=False)
class TokenOrder:
    """A reordering of the grid tokens of a sequence; text before and after them stays put.

    Apply it to q, k and v *after* rotary embedding (a token keeps the angle of the place it comes
    from) and undo it on the output. Attention without a mask gives the same result but for rounding
    in any order. Do not use it with a causal mask: the rule goes by position in the sequence, so in
    another order it would hide other tokens.

    Args:
        order: Permutation of range(n), int64, of the n grid tokens. `hilbert`, `row_major`,
            `time_major` and `random` make one.
        first_token: Place of the first grid token in the sequence, at least 0.

    Raises: ArgumentError: `order` is no permutation or `first_token` is negative.
    Example: >>> order = TokenOrder.hilbert(13, 30, 45, first_token=226)
        >>> out = order.undo(attend(order.apply(q), order.apply(k), order.apply(v), causal=False))
    """

    order: Tensor
    first_token: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        fine = self.order.ndim == 1 and self.order.dtype == torch.int64 and len(self.order) > 0
        numbers = torch.arange(len(self.order) if fine else 0, device=self.order.device)
        if not fine or not torch.equal(self.order.sort().values, numbers):
            raise ArgumentError(
                f"TokenOrder: order is {self.order.dtype} of shape {tuple(self.order.shape)}, must "
                "be int64 and hold each of range(n) once; use TokenOrder.hilbert"
            )
        if self.first_token < 0:
            raise ArgumentError(
                f"TokenOrder: first_token is {self.first_token}, must be >= 0; use 0 for no text"
            )

    @classmethod
    def hilbert(cls, frames: int, height: int, width: int, *, first_token: int = 0) -> "TokenOrder":
        """Follow a Hilbert curve through the grid; see `hilbert_order`. An image has one frame."""
        return cls(hilbert_order(frames, height, width), first_token)

    @classmethod
    def row_major(
        cls, frames: int, height: int, width: int, *, first_token: int = 0
    ) -> "TokenOrder":
        """Leave all as it is: frame by frame, row by row."""
        _check_grid("TokenOrder.row_major", frames, height, width)
        return cls(torch.arange(frames * height * width), first_token)

    @classmethod
    def time_major(
        cls, frames: int, height: int, width: int, *, first_token: int = 0
    ) -> "TokenOrder":
        """Let time run fastest: all frames of one place, then those of the next in the row."""
        _check_grid("TokenOrder.time_major", frames, height, width)
        grid = torch.arange(frames * height * width).view(frames, height, width)
        return cls(grid.permute(1, 2, 0).flatten(), first_token)

    @classmethod
    def random(
        cls, frames: int, height: int, width: int, *, seed: int = 0, first_token: int = 0
    ) -> "TokenOrder":
        """Shuffle: the control that destroys all likeness."""
        _check_grid("TokenOrder.random", frames, height, width)
        source = torch.Generator().manual_seed(seed)
        return cls(torch.randperm(frames * height * width, generator=source), first_token)

    @property
    def inverse(self) -> "TokenOrder":
        """The order whose `apply` is this one's `undo`."""
        return replace(self, order=invert_order(self.order))

    def apply(self, x: Float[Tensor, "b h s d"]) -> Float[Tensor, "b h s d"]:
        """Reorder the grid tokens on axis 2; a copy, bit for bit.

        Raises: ShapeError: the sequence is too short for the grid.
        """
        return self._take("TokenOrder.apply", x, self.order)

    def undo(self, x: Float[Tensor, "b h s d"]) -> Float[Tensor, "b h s d"]:
        """Put the grid tokens back; `undo(apply(x))` and `apply(undo(x))` are `x`.

        Raises: ShapeError: the sequence is too short for the grid.
        """
        return self._take("TokenOrder.undo", x, invert_order(self.order))

    def _take(self, fn: str, x: Tensor, order: Tensor) -> Tensor:
        stop = self.first_token + len(order)
        if x.ndim != 4 or x.shape[2] < stop:
            raise ShapeError(
                f"{fn}: x has shape {tuple(x.shape)}, must be (b, h, s, d) with s >= {stop}; the "
                f"grid has {len(order)} tokens from token {self.first_token} on"
            )
        index = torch.arange(x.shape[2], device=x.device)
        index[self.first_token : stop] = order.to(x.device) + self.first_token
        return x.index_select(2, index)


def mean_self_similarity(x: Float[Tensor, "b h s d"], *, smooth: bool = False) -> float:
    """Return how alike the tokens of a 64-token cell are: the mean over all cells and heads.

    Args:
        x: Queries or keys, in the order to be judged.
        smooth: Subtract the mean token first, as Sparge does with keys.

    Returns: Mean cosine of the pairs of tokens of a cell, in [0, 1]; see `PooledCells`.
    Raises: ShapeError: `x` is not four-dimensional.
    """
    pooled = pool_cells(x, shift=mean_token(x) if smooth else None)
    return float(pooled.self_similarity.mean())
