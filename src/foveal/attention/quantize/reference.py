"""The quantizers as loops over groups: the yardstick of the codes, which are compared exactly."""

import torch
from jaxtyping import Float, Int8, Shaped
from torch import Tensor

CELL, WARP_ROWS = 64, 16


def tokens_of_groups(side: str, granularity: str, start: int, stop: int) -> list[list[int]]:
    """List, for the cell of tokens `start` to `stop` - 1, the tokens of each group.

    Groups are numbered as the scales are; one that has no existing token is an empty list.
    """
    tokens = range(start, stop)
    if granularity == "block" or (side == "k" and granularity == "warp"):
        return [list(tokens)]
    if side == "k":
        return [[n for n in tokens if (n % 8) // 2 == group] for group in range(4)]
    warps = [
        [n for n in tokens if (n - start) // WARP_ROWS == warp] for warp in range(CELL // WARP_ROWS)
    ]
    if granularity == "warp":
        return warps
    return [[n for n in warp if n % 8 == row] for warp in warps for row in range(8)]


def quantize_tokens_reference(
    x: Float[Tensor, "b h s d"],
    *,
    side: str,
    bits: int,
    granularity: str,
    mean: Float[Tensor, "b h cells_or_1 d"] | None = None,
) -> tuple[Int8[Tensor, "b h s d"], Float[Tensor, "b h cells groups"]]:
    """Quantize queries or keys group by group, in fp32 as the paper's formula has it.

    Args:
        x: Queries or keys.
        side: "q" or "k".
        bits: 8 or 4.
        granularity: "thread", "warp" or "block".
        mean: Mean to subtract: one per cell for queries, one in all for keys.

    Returns: (codes, scales). Scales of groups without a token are the floor, 2^-60.
    """
    b, h, s, _ = x.shape
    largest = 127 if bits == 8 else 7
    starts = list(range(0, s, CELL))
    num_groups = len(tokens_of_groups(side, granularity, 0, CELL))
    codes = torch.zeros(x.shape, dtype=torch.int8)
    scales = torch.full((b, h, len(starts), num_groups), 2.0**-60)
    for i in range(b):
        for j in range(h):
            for cell, start in enumerate(starts):
                groups = tokens_of_groups(side, granularity, start, min(start + CELL, s))
                for number, tokens in enumerate(groups):
                    if not tokens:
                        continue
                    rows = x[i, j, tokens].float()
                    if mean is not None:
                        rows = rows - mean[i, j, cell if mean.shape[2] > 1 else 0]
                    amax = rows.abs().max()
                    if not torch.isfinite(amax):
                        scales[i, j, cell, number] = torch.nan
                        continue
                    scale = torch.clamp(amax / largest, min=2.0**-60)
                    scales[i, j, cell, number] = scale
                    codes[i, j, tokens] = torch.round(rows / scale).to(torch.int8)
    return codes, scales


def cell_means_reference(x: Float[Tensor, "b h s d"]) -> Float[Tensor, "b h cells d"]:
    """Average the tokens of each 64-token cell, in fp64."""
    return torch.stack([part.double().mean(2) for part in x.split(CELL, dim=2)], dim=2)


def quantize_values_reference(
    v: Float[Tensor, "b g t e"],
    *,
    format: str,
    mean: Float[Tensor, "b g 1 e"] | None = None,
) -> tuple[Shaped[Tensor, "b g t e"], Float[Tensor, "b g 1 e"]]:
    """Round values channel by channel to fp8 E4M3 with scale amax / 448, or to fp16 with scale 1.

    Returns: (codes, scales). Channels must be finite, and for fp16 inside its range.
    """
    b, g, _, e = v.shape
    codes = torch.zeros(v.shape, dtype=torch.float8_e4m3fn if format == "fp8" else torch.float16)
    scales = torch.ones(b, g, 1, e)
    for i in range(b):
        for j in range(g):
            for c in range(e):
                channel = v[i, j, :, c].float()
                if mean is not None:
                    channel = channel - mean[i, j, 0, c]
                if format == "fp8":
                    scales[i, j, 0, c] = torch.clamp(channel.abs().max() / 448, min=2.0**-60)
                codes[i, j, :, c] = (channel / scales[i, j, 0, c]).to(codes.dtype)
    return codes, scales
