"""Exported priors: everything that decides which table codes which symbol, in integers."""

import abc
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.codec.entropy.tables import FrequencyTables
from foveal.codec.prior.config import PriorConfig
from foveal.errors import ArgumentError, BitstreamError, ShapeError

FRACTION = 8
SIDE_LIMIT = 127
COEFFICIENT_BITS = 5
COEFFICIENT_LIMIT = 127
DTYPES: dict[str, tuple[Any, torch.dtype]] = {
    "int16": (np.int16, torch.int16),
    "int32": (np.int32, torch.int32),
}
TABLES = ("side_frequencies", "side_sizes", "side_lows")
Layout = dict[str, tuple[str, tuple[int, ...]]]


def round_shift(x: NDArray[Any], shift: int) -> NDArray[Any]:
    """Return x / 2**shift, rounded to the nearest integer, halves upwards."""
    return (x + ((1 << shift) >> 1)) >> shift


def convolve(x: NDArray[np.int64], taps: NDArray[np.float64]) -> NDArray[np.int64]:
    """Convolve [b, in, h, w] with 3x3 kernels, zeros beyond the border; [b, out, h, w].

    The products run in fp64, which is exact where no sum can reach 2**53. They run tap by tap, so
    that nothing of nine times the input's size is held.

    Args:
        x: Integers.
        taps: What `kernel_taps` makes of the kernels.
    """
    images, channels, rows, columns = x.shape
    padded = np.zeros((images, channels, rows + 2, columns + 2))
    padded[:, :, 1:-1, 1:-1] = x
    out = np.zeros((images, taps.shape[2], rows * columns))
    for i in range(3):
        for j in range(3):
            part = padded[:, :, i : i + rows, j : j + columns]
            out += taps[i, j] @ part.reshape(images, channels, -1)
    return out.reshape(images, -1, rows, columns).astype(np.int64)


def kernel_taps(weight: NDArray[Any]) -> NDArray[np.float64]:
    """Return kernels [out, in, 3, 3] as fp64 matrices [3, 3, out, in]."""
    return np.ascontiguousarray(weight.transpose(2, 3, 0, 1), dtype=np.float64)


def fixed(x: Tensor | NDArray[np.float64], bits: int, dtype: str) -> NDArray[Any]:
    """Return x * 2**bits, rounded and saturated, as `dtype`."""
    values = doubles(x) if isinstance(x, Tensor) else x
    limit = np.iinfo(DTYPES[dtype][0]).max
    return np.clip(np.rint(values * 2.0**bits), -limit, limit).astype(DTYPES[dtype][0])


def doubles(x: Tensor) -> NDArray[np.float64]:
    """Return a parameter as a float64 array.

    Raises:
        ArgumentError: a value is NaN or infinite.
    """
    values = x.detach().cpu().double().numpy()
    if not np.isfinite(values).all():
        raise ArgumentError(
            f"export: a parameter of shape {values.shape} has NaN or infinite values, must be "
            "finite; train again with a lower learning rate"
        )
    return values


def fraction_bits(x: NDArray[np.float64], limit: int, most: int, least: int = 0) -> int:
    """Return the most fractional bits up to `most` with |x| * 2**bits <= limit."""
    top = float(np.abs(x).max(initial=0.0))
    bits = most
    while bits > least and top * 2.0**bits > limit:
        bits -= 1
    return bits


def top(x: NDArray[Any]) -> int:
    """Return the largest magnitude, as a Python integer."""
    return max(abs(int(x.max())), abs(int(x.min()))) if x.size else 0


class IntegerPrior(abc.ABC):
    """Levels from side symbols, in integers alone.

    Args:
        config: Kind and sizes.
        arrays: The exported integers by name.
        side_tables: Tables of the side symbols.

    Raises:
        ArgumentError: an array is missing, unknown, of another dtype or shape, or so large that a
            sum could overflow.
    """

    def __init__(
        self, config: PriorConfig, arrays: dict[str, NDArray[Any]], side_tables: FrequencyTables
    ) -> None:
        self.config = config
        self.arrays = arrays
        self.side_tables = side_tables
        layout = self.layout(config)
        if set(arrays) != set(layout):
            raise self._error("names", f"are {sorted(arrays)}", f"be {sorted(layout)}")
        for name, (dtype, shape) in layout.items():
            found = arrays[name]
            if found.dtype != DTYPES[dtype][0] or found.shape != shape:
                raise self._error(name, f"is {found.dtype} {found.shape}", f"be {dtype} {shape}")
        if len(side_tables) != config.num_tables:
            raise self._error(
                "side_tables", f"has {len(side_tables)} tables", f"have {config.num_tables}"
            )
        self._prepare()

    @classmethod
    @abc.abstractmethod
    def layout(cls, config: PriorConfig) -> Layout:
        """Return dtype and shape of every array."""

    @abc.abstractmethod
    def _prepare(self) -> None:
        """Prove that no sum can overflow, and derive what `_levels` needs."""

    @abc.abstractmethod
    def _levels(self, side: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
        """Compute the levels of checked side symbols."""

    def _error(self, name: str, found: str, wanted: str) -> ArgumentError:
        return ArgumentError(
            f"IntegerPrior: {name} {found}, must {wanted} in a {self.config.kind} prior; "
            "export the model again"
        )

    def _shift(self, position: int, low: int, high: int) -> int:
        """Return an entry of the array `shifts`, after checking its range."""
        value = int(self.arrays["shifts"][position])
        if not low <= value <= high:
            raise self._error("shifts", f"has {value} at {position}", f"have {low}..{high} there")
        return value

    def _below(self, name: str, value: int, limit: int) -> None:
        """Raise unless `value`, the largest magnitude that a sum can reach, is below `limit`."""
        if value >= limit:
            raise self._error(name, f"can sum to {value}", f"stay below {limit}")

    @property
    def kind(self) -> str:
        """The kind of the prior."""
        return self.config.kind

    @cached_property
    def side_indices(self) -> NDArray[np.int64]:
        """The table of each side symbol, for latents of the config's size."""
        return self.side_layout(self.config.height, self.config.width)

    @property
    def num_side(self) -> int:
        """Number of side symbols of latents of the config's size."""
        return int(self.side_indices.size)

    @property
    def side_range(self) -> tuple[int, int]:
        """Smallest and largest valid side symbol."""
        return -SIDE_LIMIT, SIDE_LIMIT

    def side_layout(self, height: int, width: int) -> NDArray[np.int64]:
        """Return the table of each side symbol, for latents of another size.

        Raises:
            ShapeError: the prior cannot code latents of that size.
        """
        self.config.check_size("IntegerPrior.side_layout", height, width)
        return self.config.side_indices(height, width)

    def levels(self, side: NDArray[Any], height: int, width: int) -> NDArray[np.int64]:
        """Return the level of every latent, without `extra`, with 8 fractional bits.

        Args:
            side: Side symbols, integers [images, number of `side_layout(height, width)`].
            height: Height of the latents.
            width: Width of the latents.

        Returns: int64 [images, channels, height, width].

        Raises:
            ShapeError: the prior cannot code latents of that size, or `side` has another shape.
            BitstreamError: a side symbol is out of range.
        """
        count = self.side_layout(height, width).size
        if side.ndim != 2 or side.shape[1] != count or side.dtype.kind not in "iu":
            raise ShapeError(
                f"IntegerPrior.levels: side is {side.dtype} {side.shape}, must be integers "
                f"(images, {count}); give one row of side symbols per image"
            )
        low, high = self.side_range
        if side.size and not low <= int(side.min()) <= int(side.max()) <= high:
            raise BitstreamError(
                f"IntegerPrior.levels: side is within {int(side.min())}..{int(side.max())}, must "
                f"be within {low}..{high}; the stream is damaged or belongs to another model"
            )
        return self._levels(side.astype(np.int64), height, width)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the arrays and the side tables as tensors, for a weights file."""
        t = self.side_tables
        out = dict(zip(TABLES, (t.frequencies, t.sizes, t.lows), strict=True))
        out = {name: value.astype(np.int32) for name, value in out.items()} | self.arrays
        return {name: torch.from_numpy(np.array(v, order="C")) for name, v in out.items()}

    @classmethod
    def from_tensors(cls, config: PriorConfig, tensors: dict[str, Tensor]) -> "IntegerPrior":
        """Undo `to_tensors`; the tensors may come from an untrusted file.

        Raises:
            ArgumentError: a tensor is missing, unknown, of another dtype or shape, or out of
                bounds.
        """
        layout = cls.layout(config)
        wanted = {name: DTYPES[dtype][1] for name, (dtype, _) in layout.items()}
        wanted |= dict.fromkeys(TABLES, torch.int32)
        found = {name: value.dtype for name, value in tensors.items()}
        if found != wanted:
            wrong = sorted(n for n in found.keys() | wanted if found.get(n) != wanted.get(n))
            raise ArgumentError(
                f"IntegerPrior.from_tensors: {wrong[0]} is {found.get(wrong[0], 'missing')}, must "
                f"be {wanted.get(wrong[0], 'absent')} in a {config.kind} prior; "
                "export the model again"
            )
        arrays = {name: tensors[name].cpu().numpy().copy() for name in layout}
        parts = (tensors[name].cpu().numpy().astype(np.int64) for name in TABLES)
        return cls(config, arrays, FrequencyTables(*parts))
