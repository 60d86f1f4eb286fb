"""Symmetric integer codes of Q and K with one scale per group, and 8- or 16-bit codes of V.

Everything lies in whole 64-token cells; tokens past the end have code 0 and count nowhere. Means
are subtracted in fp32 inside the quantizer, so nothing is rounded twice. Inputs are never changed.

Source: Zhang et al., "SageAttention2", ICML 2025, arXiv:2411.10958, sections 3.1 to 3.3. Written
from the paper's formulas. Differs: groups are cut to 64-token cells, scales have a floor.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int8, Shaped
from torch import Tensor

from foveal.attention.layout import CELL, num_cells
from foveal.attention.precision import Granularity, ValueFormat, check_choice
from foveal.errors import ArgumentError, ShapeError

Side: TypeAlias = Literal["q", "k"]

WARP_ROWS = 16
"""Queries in one warp tile; a cell holds four."""

E4M3_MAX = 448.0
"""Largest finite number of fp8 E4M3."""

_FP16_MAX = 65504.0
_SCALE_FLOOR = 2.0**-60
"""Least scale. Groups that are all zero get it, and code 0."""


def group_of_token(
    side: Side, granularity: Granularity, *, device: torch.device | str = "cpu"
) -> Int[Tensor, " 64"]:
    """Return the scale group of each of the 64 tokens of a cell.

    | granularity | queries | keys |
    |---|---|---|
    | "block" | all 64 | all 64 |
    | "warp" | 16 neighbors | all 64 |
    | "thread" | 2: equal n mod 8 in 16 neighbors | 16: equal floor((n mod 8) / 2) |

    The "thread" groups are the rows and columns that one thread of a 16-row matrix instruction
    owns, so a kernel reads one scale of each per tile.

    Args:
        side: "q" or "k".
        granularity: "thread", "warp" or "block".
        device: Where the result lies.

    Returns: Group numbers from 0; all groups are equally large.
    Raises: ArgumentError: an argument is not one of the words.
    """
    check_choice("group_of_token", "side", side, get_args(Side))
    check_choice("group_of_token", "granularity", granularity, get_args(Granularity))
    token = torch.arange(CELL, device=device)
    if granularity == "block" or (side, granularity) == ("k", "warp"):
        return token * 0
    if granularity == "warp":
        return token // WARP_ROWS
    if side == "q":
        return token // WARP_ROWS * 8 + token % 8
    return token % 8 // 2


@dataclass(frozen=True, eq=False)
class Codes:
    """Integer codes of queries or keys, cell by cell.

    Attributes:
        values: Codes in [-127, 127] or [-7, 7]; 0 past the last token.
        scales: Scale per group of each cell, fp32; NaN where the group holds a NaN or Inf.
        groups: Group of each token of a cell, as `group_of_token` gives it.
        num_tokens: Tokens that exist; the last cell may be partly filled.
    """

    values: Int8[Tensor, "b h cells 64 d"]
    scales: Float[Tensor, "b h cells groups"]
    groups: Int[Tensor, " 64"]
    num_tokens: int

    def token_scales(self) -> Float[Tensor, "b h cells 64"]:
        """Return the scale of every token."""
        return self.scales.index_select(3, self.groups)

    def dequantize(self) -> Float[Tensor, "b h s d"]:
        """Return codes times scales, fp32, of the tokens that exist."""
        x = self.values.float() * self.token_scales()[..., None]
        return x.flatten(2, 3)[:, :, : self.num_tokens]


@dataclass(frozen=True, eq=False)
class ValueCodes:
    """Codes of values, cell by cell, with one scale per channel.

    Attributes:
        values: torch.float8_e4m3fn or torch.float16; 0 past the last token. Read them by `by_key`.
        scales: Scale per channel, fp32; NaN where the channel holds a NaN or Inf.
        mean: Mean value that was subtracted, fp32, or None.
        num_tokens: Tokens that exist.
        tiled: The codes of a cell lie channel by channel, as 8-bit matrix units read them; place
            4c + 2b + a of each 16 holds key 8b + 2c + a.
    """

    values: Shaped[Tensor, "b g cells rows columns"]
    scales: Float[Tensor, "b g 1 e"]
    mean: Float[Tensor, "b g 1 e"] | None
    num_tokens: int
    tiled: bool = False

    @property
    def width(self) -> int:
        """Return e, the number of channels."""
        return self.values.shape[3 if self.tiled else 4]

    def by_key(self) -> Shaped[Tensor, "b g cells 64 e"]:
        """Return the codes key by key; a copy if they lie tiled."""
        if not self.tiled:
            return self.values
        raw = self.values.view(torch.uint8).unflatten(4, (4, 4, 2, 2))
        keys = raw.permute(0, 1, 2, 4, 6, 5, 7, 3).flatten(3, 6)
        return keys.contiguous().view(self.values.dtype)

    def dequantize(self) -> Float[Tensor, "b g t e"]:
        """Return codes times scales plus mean, fp32, of the tokens that exist."""
        x = self.by_key().float().flatten(2, 3)[:, :, : self.num_tokens] * self.scales
        return x if self.mean is None else x + self.mean


def split_cells(x: Tensor) -> Tensor:
    """Pad (b, h, s, d) with zeros to whole cells and return it as (b, h, cells, 64, d)."""
    s = x.shape[2]
    return F.pad(x, (0, 0, 0, num_cells(s) * CELL - s)).unflatten(2, (-1, CELL))


def _check(fn: str, name: str, x: Tensor) -> None:
    if x.ndim != 4 or min(x.shape) < 1:
        raise ShapeError(
            f"{fn}: {name} has shape {tuple(x.shape)}, must be 4-D without an empty axis; "
            "pass (batch, heads, tokens, width)"
        )
    if not x.is_floating_point():
        raise ArgumentError(
            f"{fn}: {name} is {x.dtype}, must be floating point; quantize the original tensor"
        )


def _scale(amax: Tensor, largest: float) -> Tensor:
    """Return amax / largest with a floor, and NaN where amax is not finite."""
    scale = (amax / largest).clamp_min(_SCALE_FLOOR)
    return scale.masked_fill(~amax.isfinite(), torch.nan)


def _codes(cells: Tensor, side: Side, granularity: Granularity, bits: int, tokens: int) -> Codes:
    """Quantize fp32 cells (b, h, cells, 64, d), whose rows past the end are zero."""
    largest = 2 ** (bits - 1) - 1
    groups = group_of_token(side, granularity, device=cells.device)
    members = groups.argsort(stable=True).view(int(groups.max()) + 1, -1)
    amax = cells.abs().amax(-1)[..., members].amax(-1)
    scales = _scale(amax, float(largest))
    # A group with NaN has NaN for its scale: its codes only have to be defined.
    scaled = (cells / scales.index_select(3, groups)[..., None]).nan_to_num_(0.0)
    values = scaled.round_().clamp_(-largest, largest).to(torch.int8).contiguous()
    return Codes(values, scales, groups, tokens)


def quantize_queries(
    q: Float[Tensor, "b h s d"], *, bits: int, granularity: Granularity, smooth: bool
) -> tuple[Codes, Float[Tensor, "b h cells d"] | None]:
    """Quantize queries, with `smooth` after subtracting the mean query of each cell.

    code = round_to_even((q - mean) / scale), scale = max |q - mean| / (2^(bits-1) - 1) per group.

    Args:
        q: Queries of any floating dtype and any strides.
        bits: 8 or 4. Both are stored as int8.
        granularity: Which queries share a scale, see `group_of_token`.
        smooth: Subtract the mean of the queries that exist in each cell.

    Returns: (codes, mean query per cell in fp32 or None).

    Raises:
        ShapeError: `q` is not 4-D or has an empty axis.
        ArgumentError: `q` is not floating point, or `bits` or `granularity` is not allowed.

    Memory: fp32 copies of `q`.
    """
    _check("quantize_queries", "q", q)
    check_choice("quantize_queries", "bits", bits, (8, 4))
    s = q.shape[2]
    cells = split_cells(q.detach().float())
    mean = None
    if smooth:
        left = torch.arange(cells.shape[2], device=q.device) * CELL
        mean = cells.sum(3) / (s - left).clamp_max(CELL)[:, None]
        cells = cells - mean[:, :, :, None]
        if s % CELL:
            cells[:, :, -1, s % CELL :] = 0.0
    return _codes(cells, "q", granularity, bits, s), mean


def quantize_keys(
    k: Float[Tensor, "b g t d"],
    *,
    bits: int,
    granularity: Granularity,
    mean: Float[Tensor, "b g 1 d"] | None = None,
) -> Codes:
    """Quantize keys after subtracting `mean`, if given; see `quantize_queries` for the formula.

    Args:
        k: Keys of any floating dtype and any strides.
        bits: 8 or 4. Both are stored as int8.
        granularity: Which keys share a scale, see `group_of_token`.
        mean: Mean key, fp32, or None for no smoothing.

    Returns: Codes.

    Raises:
        ShapeError: `k` is not 4-D or has an empty axis, or `mean` has another shape.
        ArgumentError: `k` is not floating point, or `bits` or `granularity` is not allowed.

    Memory: fp32 copies of `k`.
    """
    _check("quantize_keys", "k", k)
    check_choice("quantize_keys", "bits", bits, (8, 4))
    check_key_mean("quantize_keys", "mean", mean, k)
    x = k.detach().float()
    if mean is not None:
        x = x - mean.detach().float()
    return _codes(split_cells(x), "k", granularity, bits, k.shape[2])


def check_key_mean(fn: str, name: str, mean: Tensor | None, k: Tensor) -> None:
    """Raise ShapeError unless `mean` is None or (b, g, 1, d) for keys (b, g, t, d)."""
    wanted = (*k.shape[:2], 1, k.shape[3])
    if mean is not None and tuple(mean.shape) != wanted:
        raise ShapeError(
            f"{fn}: {name} has shape {tuple(mean.shape)}, must be {wanted}; "
            "pass one mean per batch entry and key head"
        )


def quantize_values(
    v: Float[Tensor, "b g t e"], *, format: ValueFormat, smooth: bool = False
) -> ValueCodes:
    """Round values to fp8 E4M3 with one scale per channel, or to fp16.

    fp8: code = e4m3((v - mean) / scale), scale = max over tokens |v - mean| / 448.
    fp16: code = fp16(v / scale); scale is 1, or the power of two that brings a channel with larger
    numbers into the range of fp16.

    Args:
        v: Values of any floating dtype and any strides.
        format: "fp8" or "fp16".
        smooth: Subtract the mean value of each channel first. Only for fp8.

    Returns: Codes.

    Raises:
        ShapeError: `v` is not 4-D or has an empty axis.
        ArgumentError: `v` is not floating point, `format` is not allowed, or `smooth` with fp16.

    Memory: fp32 copies of `v`.
    """
    _check("quantize_values", "v", v)
    check_choice("quantize_values", "format", format, get_args(ValueFormat))
    if smooth and format == "fp16":
        raise ArgumentError(
            "quantize_values: smooth is True with format='fp16', must be False there; drop it"
        )
    x = v.detach().float()
    mean = None
    if smooth:
        mean = x.mean(2, keepdim=True)
        x = x - mean
    amax = x.abs().amax(2, keepdim=True)
    if format == "fp8":
        scales = _scale(amax, E4M3_MAX)
        scaled = (x / scales).nan_to_num_(0.0).clamp_(-E4M3_MAX, E4M3_MAX)
        values = scaled.to(torch.float8_e4m3fn)
    else:
        excess = (amax / _FP16_MAX).clamp_min(1.0)
        scales = torch.exp2(excess.log2().ceil()).masked_fill(~amax.isfinite(), torch.nan)
        values = (x / scales).nan_to_num_(0.0).clamp_(-_FP16_MAX, _FP16_MAX).to(torch.float16)
    # Padding as bytes: float8 has few operations of its own.
    raw = values.view(torch.uint8 if format == "fp8" else torch.int16)
    cells = split_cells(raw).contiguous()  # of a view, they would have its strides
    return ValueCodes(cells.view(values.dtype), scales, mean, v.shape[2])
