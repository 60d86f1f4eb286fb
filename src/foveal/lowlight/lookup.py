"""Curves as tables of integers: the fast way for 8 to 16 bit, equal to the curve at every level.

Planes of 8 bit are translated as bytes, interleaved pixels go through Pillow in two threads,
and deeper ones through `numpy.take` in two threads. Figures: `docs/lowlight/enhance.md`.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from foveal.errors import ArgumentError, ShapeError
from foveal.lowlight.concave_curve import Mode
from foveal.lowlight.numpy_curve import INTEGERS, table

_THREADS = 2
_CHUNK = 1 << 17
"""Samples at a time: their indices stay in the cache."""


def lookup_table(
    curve: Float[Tensor, "3 levels"], *, bit_depth: int = 8, mode: Mode = "closed"
) -> NDArray[Any]:
    """Return round(g(v / top) * top) of every level v, top = 2^bit_depth - 1.

    Args:
        curve: As `ConcaveCurve.predict` gives it, of one image.
        bit_depth: 8 to 16.
        mode: See `apply_curve`.

    Returns: (3, 2^bit_depth), uint8 for 8 bit and uint16 above; computed in fp64.
    """
    if not 8 <= bit_depth <= 16:
        raise ArgumentError(f"lookup_table: bit_depth is {bit_depth}, must be 8 to 16")
    if curve.ndim != 2 or curve.shape[0] != 3 or curve.shape[1] < 2:
        raise ShapeError(f"lookup_table: curve has shape {tuple(curve.shape)}, must be (3, levels)")
    values = curve.detach().cpu().double().numpy()
    if not np.isfinite(values).all():
        raise ArgumentError("lookup_table: curve holds NaN or infinity, must be finite")
    return table(values, (1 << bit_depth) - 1, mode)


def apply_table(image: NDArray[Any], tables: NDArray[Any]) -> NDArray[Any]:
    """Replace every level by its entry.

    Args:
        image: uint8 or uint16, (height, width, 3), or planar (3, height, width), which is faster.
            Where both fit, the last axis is the channels.
        tables: From `lookup_table`; uint8 for uint8. Levels of uint16 above the table's last (of
            12-bit data, say) become the last entry.

    Returns: the same shape, layout and type.
    """
    if image.ndim != 3 or 3 not in (image.shape[0], image.shape[2]):
        raise ShapeError(
            f"apply_table: image has shape {image.shape}, must be (height, width, 3) or "
            "(3, height, width)"
        )
    if image.dtype.name not in INTEGERS or tables.dtype != image.dtype:
        raise ArgumentError(
            f"apply_table: image is {image.dtype} and tables are {tables.dtype}, must both be "
            "uint8 or both uint16; make the table for the image's bit depth"
        )
    if tables.ndim != 2 or tables.shape[0] != 3 or tables.shape[1] < 256:
        raise ShapeError(f"apply_table: tables have shape {tables.shape}, must be (3, 2^bit_depth)")
    if image.size == 0:
        return image.copy()
    same = bool((tables[0] == tables[1:]).all())
    if same:
        return translate(image, tables[0])
    if image.shape[2] == 3:
        return _interleaved(image, tables)
    return np.stack([translate(image[c], tables[c]) for c in range(3)])


def translate(samples: NDArray[Any], entries: NDArray[Any]) -> NDArray[Any]:
    """Replace the levels of samples of any shape by the entries of one table of their type."""
    if samples.dtype == np.uint8:
        data = bytearray(np.ascontiguousarray(samples)).translate(entries.tobytes())
        return np.frombuffer(data, np.uint8).reshape(samples.shape)
    flat = np.ascontiguousarray(samples).reshape(-1)
    out = np.empty_like(flat)

    def work(part: slice) -> None:
        np.take(entries, flat[part], out=out[part], mode="clip")

    _threaded(work, flat.size, _CHUNK)
    return out.reshape(samples.shape)


def _threaded(work: Callable[[slice], None], size: int, step: int) -> None:
    """Run `work` on slices of `step` in two threads; NumPy and Pillow release the GIL."""
    parts = [slice(i, min(i + step, size)) for i in range(0, size, step)]
    if len(parts) == 1:
        work(parts[0])
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, parts))


def _interleaved(image: NDArray[Any], tables: NDArray[Any]) -> NDArray[Any]:
    out = np.empty(image.shape, image.dtype)
    size = tables.shape[1]
    joined, offsets = tables.reshape(-1), np.arange(3, dtype=np.intp) * size

    def take(rows: slice) -> None:
        index = image[rows].astype(np.intp)
        if size <= np.iinfo(image.dtype).max:
            np.minimum(index, size - 1, out=index)
        index += offsets
        np.take(joined, index, out=out[rows], mode="clip")

    def point(rows: slice) -> None:
        from PIL import Image

        part = Image.fromarray(np.ascontiguousarray(image[rows]))
        out[rows] = np.asarray(part.point(entries))

    entries: list[int] = joined.tolist() if image.dtype == np.uint8 else []
    work = point if image.dtype == np.uint8 else take
    rows = max(1, (_CHUNK if work is take else 8 * _CHUNK) // (3 * image.shape[1]))
    _threaded(work, image.shape[0], rows)
    return out
