"""Anchors that code features, not images: raw numbers, and a video codec over a mosaic of channels.

The mosaic is what feature coding for machines does in MPEG, with x265 as its inner codec (Intra
H.265 is within a few percent of VVC there) and without its learned reduction: channels of all
sources side by side in one 4:0:0 frame of 8 or 10 bits, between the smallest and the largest value
of each source, which are sent. x265's perceptual tools are off.

No container is counted for any of these: receiver and sender would agree on sizes and settings.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt16
from numpy import ndarray
from torch import Tensor

from foveal.codec.evaluate.pixel_anchors import hevc_payload, read_hevc, why_missing, write_hevc
from foveal.codec.evaluate.points import Point
from foveal.codec.evaluate.track import Track, judge_features
from foveal.errors import ArgumentError, MissingExtraError, ShapeError

Features = Mapping[str, Tensor]
"""Of each source the features of all images: maps [n, c, h, w] or vectors [n, c]."""
CRFS = (51.0, 47.0, 43.0, 39.0, 35.0, 31.0, 27.0, 23.0, 19.0, 14.0, 8.0, 2.0)
_PLAIN = ":aq-mode=0:psy-rd=0:psy-rdoq=0"
_LEAST_SIDE = 16


@dataclass(frozen=True, slots=True, eq=False)
class CodedFeatures:
    """Features that were coded, and decoded again.

    Args:
        payload, side, container: Bytes of each image, as of `Point`.
        decoded: Features of each source.
    """

    payload: Int64[ndarray, "_"]
    side: Int64[ndarray, "_"]
    container: Int64[ndarray, "_"]
    decoded: dict[str, Tensor]


@runtime_checkable
class FeatureCoder(Protocol):
    """Codes features into real bytes for every image by itself."""

    @property
    def label(self) -> str:
        """Name of the codec."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What sets this one apart from others of the same label."""
        ...

    def code(self, features: Features) -> CodedFeatures:
        """Code the features of all images, and decode them from the bytes."""
        ...


def as_maps(where: str, features: Features) -> dict[str, Float[Tensor, "n _ _ _"]]:
    """Return features as fp32 maps on the CPU; a vector is a map of one position.

    Raises:
        ShapeError: no source, another form, or another number of images.
        ArgumentError: not finite.
    """
    out: dict[str, Tensor] = {}
    for name, x in features.items():
        if x.ndim not in (2, 4) or 0 in x.shape:
            raise ShapeError(
                f"{where}: features of {name} has shape {tuple(x.shape)}, must be (n, c, h, w) or "
                "(n, c)"
            )
        y = x.detach().float().cpu()
        if not bool(y.isfinite().all()):
            raise ArgumentError(f"{where}: features of {name} holds NaN or infinity, must not")
        out[name] = y if y.ndim == 4 else y[:, :, None, None]
    if len({len(x) for x in out.values()}) != 1:
        raise ShapeError(
            f"{where}: features has { {k: len(v) for k, v in out.items()} } images, must have as "
            "many of every source, and one source at least"
        )
    return out


def as_given(maps: Mapping[str, Tensor], features: Features) -> dict[str, Tensor]:
    """Return maps in the shapes in which the features were given."""
    return {name: maps[name].reshape(x.shape) for name, x in features.items()}


@dataclass(frozen=True, slots=True)
class RawFp16:
    """Every number as 16 bits."""

    label: str = field(default="fp16", init=False)
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any], init=False)

    def code(self, features: Features) -> CodedFeatures:
        """Code the features of all images, and decode them from the bytes."""
        maps = as_maps("RawFp16", features)
        n = len(next(iter(maps.values())))
        size, decoded = 0, dict[str, Tensor]()
        for name, x in maps.items():
            data = x.clamp(-65504, 65504).half().numpy().tobytes()
            size += len(data) // n
            back = np.frombuffer(data, np.float16).reshape(x.shape)
            decoded[name] = torch.from_numpy(back.astype(np.float32))
        zero = np.zeros(n, np.int64)
        return CodedFeatures(zero + size, zero, zero, as_given(decoded, features))


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Channels side by side in one frame, coded by x265.

    Args:
        crf: Of x265, 0 to 51.
        bits: 8 or 10.
        workers: Threads.
    """

    crf: float
    bits: int = 10
    workers: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        if self.bits not in (8, 10) or not 0 <= self.crf <= 51 or self.workers < 1:
            raise ArgumentError(
                f"Mosaic: crf, bits, workers are {self.crf}, {self.bits}, {self.workers}, must be "
                "within 0..51, 8 or 10, and at least 1"
            )

    @property
    def label(self) -> str:
        """Name of the codec."""
        return f"mosaic{self.bits}+x265"

    @property
    def settings(self) -> Mapping[str, Any]:
        """What sets this one apart."""
        return {"crf": self.crf}

    def code(self, features: Features) -> CodedFeatures:
        """Code the features of all images, and decode them from the bytes.

        Raises: MissingExtraError: x265 is not here.
        """
        reason = why_missing("x265")
        if reason is not None:
            raise MissingExtraError(f"Mosaic: x265 cannot run: {reason}")
        maps = as_maps("Mosaic", features)
        n = len(next(iter(maps.values())))
        sizes: dict[tuple[int, int], list[str]] = {}
        for name, x in maps.items():
            sizes.setdefault((int(x.shape[2]), int(x.shape[3])), []).append(name)
        size, payload = np.zeros(n, np.int64), np.zeros(n, np.int64)
        decoded = {name: torch.empty_like(x) for name, x in maps.items()}

        def one(i: int) -> None:
            for names in sizes.values():
                length, slices, back = self._frame([maps[name][i].numpy() for name in names])
                size[i] += length
                payload[i] += slices
                for name, x in zip(names, back, strict=True):
                    decoded[name][i] = torch.from_numpy(x)

        with ThreadPoolExecutor(self.workers) as pool:
            list(pool.map(one, range(n)))
        side = np.full(n, 4 * len(maps), np.int64)
        return CodedFeatures(payload, side, size - payload, as_given(decoded, features))

    def _frame(
        self, parts: Sequence[Float[ndarray, "_ h w"]]
    ) -> tuple[int, int, list[Float[ndarray, "_ h w"]]]:
        """Return bytes of the stream and of its slices, and the decoded parts."""
        import av

        top = (1 << self.bits) - 1
        ends = [_ends(x) for x in parts]
        levels = [
            np.rint((x.clip(low, high) - low) * (top / (high - low))).astype(np.uint16)
            for x, (low, high) in zip(parts, ends, strict=True)
        ]
        mosaic = lay_out(np.concatenate(levels))
        kind = "gray" if self.bits == 8 else "gray10le"
        pixels = mosaic.astype(np.uint8) if self.bits == 8 else mosaic
        data = write_hevc(av.VideoFrame.from_ndarray(pixels, format=kind), self.crf, options=_PLAIN)
        got = read_hevc(data).to_ndarray().astype(np.float32)
        count = sum(len(x) for x in parts)
        cells = take_up(got, count, *parts[0].shape[1:])
        back: list[Float[ndarray, "_ h w"]] = []
        for x, (low, high) in zip(parts, ends, strict=True):
            back.append(cells[: len(x)] * np.float32((high - low) / top) + np.float32(low))
            cells = cells[len(x) :]
        return len(data), hevc_payload(data), back


def _ends(x: Float[ndarray, "_ h w"]) -> tuple[float, float]:
    """Return the smallest and largest value as fp16 has them, so that the receiver has the same."""
    low, high = (float(np.float16(np.clip(v, -65504, 65504))) for v in (x.min(), x.max()))
    return low, high if high > low else low + 1.0


def _grid(count: int) -> tuple[int, int]:
    columns = int(np.ceil(np.sqrt(count)))
    return -(-count // columns), columns


def lay_out(channels: UInt16[ndarray, "c h w"]) -> UInt16[ndarray, "rows columns"]:
    """Return a mosaic of channels, row by row, of even sides from 16 pixels on."""
    count, height, width = channels.shape
    rows, columns = _grid(count)
    whole = np.zeros((rows * columns, height, width), channels.dtype)
    whole[:count] = channels
    flat = whole.reshape(rows, columns, height, width).transpose(0, 2, 1, 3)
    flat = flat.reshape(rows * height, columns * width)
    pads = [(0, max(_LEAST_SIDE, side + side % 2) - side) for side in flat.shape]
    return np.pad(flat, pads, "edge")


def take_up(
    mosaic: Float[ndarray, "rows columns"], count: int, height: int, width: int
) -> Float[ndarray, "c h w"]:
    """Undo `lay_out`."""
    rows, columns = _grid(count)
    flat = mosaic[: rows * height, : columns * width]
    cells = flat.reshape(rows, height, columns, width).transpose(0, 2, 1, 3)
    return cells.reshape(rows * columns, height, width)[:count]


def mosaics(
    *, crfs: Sequence[float] = CRFS, bits: Sequence[int] = (8, 10), workers: int = 1
) -> list[FeatureCoder]:
    """Return mosaics at every CRF and depth."""
    return [Mosaic(crf, depth, workers) for depth in bits for crf in crfs]


def feature_points(
    track: Track,
    features: Features,
    coders: Sequence[FeatureCoder],
    *,
    device: str | torch.device = "cpu",
    batch: int = 64,
    progress: Callable[[int, int | None], None] | None = None,
) -> list[Point]:
    """Code a track's features with every coder, and ask the frozen rests of the networks.

    Args:
        track: Its tasks must be cut.
        features: By task, `features_of` the track.
        coders: Fitted ones.
        device: Of the networks.
        batch: Images at once.
        progress: Called with coders done and in all.
    """
    out: list[Point] = []
    for i, coder in enumerate(coders):
        coded = coder.code(features)
        sums = judge_features(track, coded.decoded, device=device, batch=batch)
        sizes = (coded.payload, coded.side, coded.container)
        out.append(Point(coder.label, dict(coder.settings), *sizes, sums))
        if progress is not None:
            progress(i + 1, len(coders))
    return out
