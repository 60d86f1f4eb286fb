"""Kind and sizes of a prior, and the layout of its side symbols."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveal.errors import ArgumentError, ShapeError

KINDS = ("codebook-global", "codebook-local", "codebook-vq", "factorized", "spatial")
LIMITS = {
    "channels": (1, 4096),
    "height": (1, 256),
    "width": (1, 256),
    "side": (1, 256),
    "codewords": (1, 1024),
    "hidden": (1, 1024),
}
MAX_ELEMENTS = 1 << 24
"""Most entries of a codebook, and most values of one image in an array of the decoder."""


def _check_fields(values: Mapping[str, object]) -> None:
    kind, stride, tied = values["kind"], values["stride"], values["tied"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise ArgumentError(f"PriorConfig: kind is {kind!r}, must be one of {KINDS}; choose one")
    for name, (low, high) in LIMITS.items():
        value = values[name]
        if type(value) is not int or not low <= value <= high:
            raise ArgumentError(
                f"PriorConfig: {name} is {value!r}, must be an integer in {low}..{high}; change it"
            )
    if type(stride) is not int or stride not in (2, 4):
        raise ArgumentError(f"PriorConfig: stride is {stride!r}, must be 2 or 4; choose one")
    if type(tied) is not bool:
        raise ArgumentError(f"PriorConfig: tied is {tied!r}, must be true or false; choose one")


@dataclass(frozen=True, slots=True)
class PriorConfig:
    """Kind and sizes of a prior; stored in the model's file.

    Args:
        kind: One of `KINDS`.
        channels: Latent channels n.
        height, width: Size of the latents; kinds that take any size start their tables from it.
        side: Side integers d per image ("codebook-global"), channels d of the side map
            ("codebook-local", "spatial"), or channel groups M ("codebook-vq").
        codewords: Codewords K of the codebook kinds.
        hidden: Hidden channels of the hyper networks.
        stride: 2 or 4; latents per side-map position along an axis.
        tied: Whether "codebook-vq" and "factorized" have a level per position, which ties them to
            one size, or one per channel.
    """

    kind: str
    channels: int
    height: int
    width: int
    side: int = 16
    codewords: int = 16
    hidden: int = 32
    stride: int = 4
    tied: bool = True

    def __post_init__(self) -> None:
        """Check everything; the values may come from an untrusted file."""
        _check_fields({item.name: getattr(self, item.name) for item in dataclasses.fields(self)})
        if self.kind == "codebook-vq" and self.side > self.channels:
            raise ArgumentError(
                f"PriorConfig: side is {self.side}, must be at most channels={self.channels} "
                "groups; lower it"
            )
        elements = self.height * self.width * self._per_position
        if elements > MAX_ELEMENTS:
            raise ArgumentError(
                f"PriorConfig: a {self.kind} prior of these sizes has {elements} values at a time, "
                f"must have at most {MAX_ELEMENTS}; lower channels, height, width, codewords or "
                "hidden"
            )

    @classmethod
    def from_dict(cls, values: object) -> "PriorConfig":
        """Read a config from decoded JSON.

        Raises:
            ArgumentError: it is not an object with exactly the fields of a config, or one is bad.
        """
        names = {item.name for item in dataclasses.fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            found = sorted(map(str, values)) if isinstance(values, dict) else values
            raise ArgumentError(
                f"PriorConfig: fields are {found!r}, must be {sorted(names)}; write the file again"
            )
        _check_fields(values)
        return cls(**{name: values[name] for name in names})

    @property
    def widest(self) -> int:
        """Most values per position that the decoder holds in one array."""
        return {
            "codebook-local": max(self.channels, self.codewords),
            "spatial": max(self.channels, self.hidden, self.side),
        }.get(self.kind, self.channels)

    @property
    def _per_position(self) -> int:
        """Numbers per position that a codebook or the decoder's largest array holds."""
        words = {
            "codebook-global": self.channels * self.codewords,
            "codebook-vq": self.channels * (self.codewords if self.tied else 1),
        }
        return words.get(self.kind, self.widest)

    @property
    def most_positions(self) -> int:
        """Most positions that latents can have."""
        return MAX_ELEMENTS // self._per_position

    @property
    def any_size(self) -> bool:
        """Whether latents of any height and width can be coded."""
        if self.kind in ("codebook-vq", "factorized"):
            return not self.tied
        return self.kind != "codebook-global"

    def check_size(self, name: str, height: int, width: int) -> None:
        """Raise ShapeError unless latents of `height` x `width` can be coded."""
        if not self.any_size and (height, width) != (self.height, self.width):
            raise ShapeError(
                f"{name}: latent has size {height}x{width}, must be {self.height}x{self.width}, "
                f"to which a {self.kind} prior is tied; resize the input or take codebook-local"
            )
        most = self.most_positions
        if height < 1 or width < 1 or height * width > most:
            raise ShapeError(
                f"{name}: latent has size {height}x{width}, must have 1..{most} positions; "
                "split the input"
            )

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the side map (1x1 where side symbols have no place)."""
        if self.kind not in ("codebook-local", "spatial"):
            return 1, 1
        return -(-height // self.stride), -(-width // self.stride)

    @property
    def num_tables(self) -> int:
        """Number of side tables; "factorized" keeps one that it never uses."""
        return 1 if self.kind == "factorized" else self.side

    def side_indices(self, height: int, width: int) -> NDArray[np.int64]:
        """Return the table of each side symbol: channel by channel, each in raster order."""
        if self.kind == "factorized":
            return np.zeros(0, dtype=np.int64)
        rows, columns = self.grid(height, width)
        return np.repeat(np.arange(self.side, dtype=np.int64), rows * columns)

    def groups(self) -> NDArray[np.int64]:
        """Return the group of each channel: contiguous, sizes that differ by at most one."""
        return np.arange(self.channels, dtype=np.int64) * self.side // self.channels
