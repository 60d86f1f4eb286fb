"""SACC's concave tone curve in NumPy alone: this file and its .npz are all that is needed.

    curve = NumpyCurve.load("curve.npz")
    bright = curve.enhance(image)            # (height, width, 3): uint8, uint16, or float in [0, 1]

From a shell: python curve.py night.npy bright.npy
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_KNOTS = 255
THUMBNAIL = 16
FLOOR = 1e-8
INTEGERS = ("uint8", "uint16")

Array = NDArray[Any]


def integrate(curvature: Array, mode: str = "closed") -> Array:
    """Turn u >= 0 of shape (255, 3) into curves of shape (3, 256), g(0) = 0 and g(1) = 1.

    A channel without any curvature becomes the identity ("closed") or black ("published").
    """
    slopes = np.cumsum(curvature[::-1], axis=0)[::-1]
    curve = np.concatenate([np.zeros_like(slopes[:1]), np.cumsum(slopes, axis=0)]).T
    last = curve[:, -1:]
    if mode == "published":
        return curve / (last + 1e-10)
    lacking = np.maximum(FLOOR * len(curvature) - last, 0)
    return (curve + lacking * np.linspace(0, 1, curve.shape[1])) / (last + lacking)


def table(curve: Array, top: int, mode: str = "closed") -> Array:
    """Return what each integer level becomes: (3, top + 1), uint8 up to 255, else uint16."""
    levels = curve.shape[1] - 1
    position = np.arange(top + 1) * (levels / top)
    if mode == "published":
        values = curve[:, np.floor(np.arange(top + 1) * levels / top).astype(int)]
    else:
        values = np.stack([np.interp(position, np.arange(levels + 1), c) for c in curve])
    return np.rint(values.clip(0, 1) * top).astype(np.uint8 if top <= 255 else np.uint16)


def apply(image: Array, curve: Array, mode: str = "closed") -> Array:
    """Apply curves of shape (3, levels) to (height, width, 3); the type stays the same.

    Integers go through the table of their full range, floats are joined by lines at any precision.
    """
    if image.dtype.name in INTEGERS:
        tables = table(curve, int(np.iinfo(image.dtype).max), mode)
        return np.stack([tables[c][image[..., c]] for c in range(3)], axis=-1)
    levels = curve.shape[1] - 1
    wide = image.astype(np.float64 if image.dtype == np.float64 else np.float32).clip(0, 1)
    position = wide * wide.dtype.type(levels)
    index = np.floor(position).astype(np.int64)
    if mode == "published":
        planes = [curve[c][index[..., c]] for c in range(3)]
        return np.stack(planes, axis=-1).astype(image.dtype)
    index = np.minimum(index, levels - 1)
    weight = position - index
    planes: list[Array] = []
    for c in range(3):
        low, high = curve[c][index[..., c]], curve[c][index[..., c] + 1]
        planes.append(low + (high - low) * weight[..., c])
    return np.stack(planes, axis=-1).astype(image.dtype)


def _pooling(size: int, kind: str) -> Array:
    """Return the (16, size) matrix that makes one axis of the thumbnail."""
    matrix = np.zeros((THUMBNAIL, size), np.float32)
    for i in range(THUMBNAIL):
        start = i * size // THUMBNAIL
        end = start + 1 if kind == "nearest" else -(-(i + 1) * size // THUMBNAIL)
        matrix[i, start:end] = 1 / (end - start)
    return matrix


def _convolve(x: Array, weight: Array, bias: Array, stride: int = 1) -> Array:
    """Convolve (in, height, width) by (out, in, 3, 3) with a border of zeros: one product."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    height, width = windows.shape[1:3]
    columns = windows.transpose(0, 3, 4, 1, 2).reshape(-1, height * width)
    product = weight.reshape(len(weight), -1) @ columns
    return product.reshape(-1, height, width) + bias[:, None, None]


class NumpyCurve:
    """The network and its settings."""

    def __init__(
        self,
        weights: dict[str, Array],
        thumbnail: str = "area",
        mode: str = "closed",
        coupled: bool = False,
    ) -> None:
        """Keep the weights, by the names that the torch module gives them, in fp32."""
        self.weights = {name: value.astype(np.float32) for name, value in weights.items()}
        self.thumbnail, self.mode, self.coupled = thumbnail, mode, coupled

    @classmethod
    def load(cls, path: str | Path) -> "NumpyCurve":
        """Read the .npz that was exported with this file; nothing in it is executed."""
        with np.load(path, allow_pickle=False) as file:
            names = [n for n in file.files if n.endswith((".weight", ".bias"))]
            if not names or "settings" not in file.files:
                raise ValueError(f"NumpyCurve.load: path is {path}, must be an exported curve")
            thumbnail, mode, coupled = (str(v) for v in file["settings"])
            return cls({n: file[n] for n in names}, thumbnail, mode, coupled == "True")

    def thumb(self, image: Array) -> Array:
        """Return the (3, 16, 16) thumbnail of (height, width, 3), in [0, 1]."""
        integer = image.dtype.kind == "u"
        scale = 1 / np.iinfo(image.dtype).max if integer else 1
        rows, columns = (_pooling(n, self.thumbnail) for n in image.shape[:2])
        planes = np.moveaxis(image, -1, 0).astype(np.float32)
        if not integer:
            planes = planes.clip(0, 1)
        return (rows @ planes @ columns.T) * np.float32(scale)

    def predict(self, image: Array) -> Array:
        """Return the curves of an image, (3, 256) in fp32."""
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(
                f"NumpyCurve: image has shape {image.shape}, must be (height, width, 3)"
            )
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise ValueError("NumpyCurve: image holds NaN or infinity, must be finite")
        if image.dtype.kind != "f" and image.dtype.name not in INTEGERS:
            raise ValueError(
                f"NumpyCurve: image is {image.dtype}, must be uint8, uint16, or float in [0, 1]"
            )
        x1 = self._layer("conv1", self.thumb(image))
        x2 = self._layer("conv2", x1)
        x3 = self._layer("conv3", x2)
        x4 = self._layer("conv4", np.concatenate([x2, x3]))
        x5 = self._layer("conv5", np.concatenate([x1, x4]))
        down = [(self.weights[f"down{i}.weight"], self.weights[f"down{i}.bias"]) for i in (1, 2)]
        pooled = _convolve(_convolve(x5, *down[0], stride=2), *down[1], stride=2).mean((1, 2))
        u = self.weights["fc.weight"] @ pooled + self.weights["fc.bias"]
        curve = integrate(np.maximum(u, 0).reshape(NUM_KNOTS, 3), self.mode)
        return np.repeat(curve.mean(0, keepdims=True), 3, 0) if self.coupled else curve

    def _layer(self, name: str, x: Array) -> Array:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return np.maximum(_convolve(x, weight, bias), 0)

    def enhance(self, image: Array, strength: float = 1.0) -> Array:
        """Brighten an image by its own curve; strength 0 leaves it as it is, 1 is the curve."""
        if not 0 <= strength <= 1:
            raise ValueError(f"NumpyCurve: strength is {strength}, must be in [0, 1]")
        curve = self.predict(image)
        straight = np.linspace(0, 1, curve.shape[1])
        return apply(image, straight + strength * (curve - straight), self.mode)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: python {sys.argv[0]} IN.npy OUT.npy")
    loaded = NumpyCurve.load(Path(__file__).with_suffix(".npz"))
    np.save(sys.argv[2], loaded.enhance(np.load(sys.argv[1], allow_pickle=False)))
