"""Decode the .fvl streams of one Foveal model with NumPy and the standard library alone.

`decode` gives the integers, the same on every machine; `features` gives what the networks behind
the codec take in, with the rounding of fp32 products. The text of this file is also the reference
for decoders in other languages: it works image by image and takes no shortcut that hides a rule.
"""

import base64
import binascii
import json
import math
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise, permutations
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

ARCHIVE = ""
"""The model: base85 of zlib of a line of JSON and the arrays that it lists."""

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
Table: TypeAlias = tuple[list[int], list[int], int, int]
"""Starts and frequencies of the entries, the value of the first, and the entry that escapes."""

VERSION = 2
CRC32, IMAGES, SIZE, CONTROLS = 1, 2, 4, 8  # flags of the container
QUALITIES = 64
LEVELS = 64
SILENT = -(1 << 22)  # log-gain of a task that is off, with 8 fractional bits
LOG_STEP = math.log(400.0) / 63  # one level, in the logarithm of a gain
MAX_SYMBOLS = 1 << 22


class BitstreamError(ValueError):
    """A payload is cut off, damaged, or of another model."""


# Parts of the model.


class Layer(NamedTuple):
    """One layer: its sizes (`spec`), its integers by name, and its tables."""

    spec: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    tables: list[Table]
    side_tables: list[Table]

    def shape(self, size: tuple[int, int] | None) -> tuple[int, int, int]:
        """Return channels, rows and columns of the latents for features of a size."""
        rows, columns = size or self.spec["inputs"]
        stride = self.spec["stride"]
        return self.spec["channels"], -(-rows // stride), -(-columns // stride)


class Model(NamedTuple):
    """What ARCHIVE holds."""

    spec: dict[str, Any]
    layers: list[Layer]
    orders: list[tuple[int, ...]]
    weights: dict[str, Floats]


def split_tables(frequencies: Ints, sizes: Ints, lows: Ints) -> list[Table]:
    """Cut the tables of a layer apart, and sum their frequencies up."""
    out: list[Table] = []
    at = 0
    for size, low in zip(sizes.tolist(), lows.tolist(), strict=True):
        part = frequencies[at : at + size]
        out.append(((np.cumsum(part) - part).tolist(), part.tolist(), low, size - 1))
        at += size
    return out


@lru_cache(maxsize=1)
def load() -> Model:
    """Unpack ARCHIVE."""
    packed = base64.b85decode("".join(ARCHIVE.split()))
    head, _, data = zlib.decompress(packed).partition(b"\n")
    spec = json.loads(head)
    arrays: dict[str, NDArray[Any]] = {}
    at = 0
    for name, dtype, shape in spec["arrays"]:
        count = math.prod(shape)
        value = np.frombuffer(data, dtype, count, at).reshape(shape)
        at += value.nbytes
        arrays[name] = value.astype(np.float32 if name.startswith("net.") else np.int64)
        if len(shape) == 4 and ".weight" in name:
            arrays[name] = taps(arrays[name])
    layers: list[Layer] = []
    for item in spec["layers"]:
        start = f"int.{item['name']}."
        own = {k[len(start) :]: v for k, v in arrays.items() if k.startswith(start)}
        names = ("frequencies", "sizes", "lows")
        tables = split_tables(*(own[k] for k in names))
        side_tables = split_tables(*(own[f"prior.side_{k}"] for k in names))
        layers.append(Layer(item, own, tables, side_tables))
    first = tuple(spec["order"])
    orders = [first]
    if spec["conditional"] and len(first) <= 5:
        orders += [p for p in permutations(range(len(first))) if p != first]
    weights = {k[4:]: v for k, v in arrays.items() if k.startswith("net.")}
    return Model(spec, layers, orders, weights)


# The container.


class Container(NamedTuple):
    """Layers that are there, size of the features, and per image control bytes and streams."""

    layers: list[int]
    size: tuple[int, int] | None
    controls: list[bytes]
    streams: list[list[bytes]]


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read 7 bits a byte, lowest first; return the number and where the next field starts."""
    value = 0
    for i in range(5):
        if at + i >= end:
            raise BitstreamError("container: a varint is cut off")
        byte = data[at + i]
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            if byte == 0 and i > 0:
                raise BitstreamError("container: a varint is padded")
            return value, at + i + 1
    raise BitstreamError("container: a varint is longer than 5 bytes")


def parse(payload: bytes, model_id: str) -> Container:
    """Take a container apart; every number is checked before it is used."""
    if len(payload) < 11 or payload[:2] != b"FV":
        raise BitstreamError("container: the payload is too short or does not start with FV")
    version, flags = payload[2] >> 4, payload[2] & 15
    if version != VERSION:
        raise BitstreamError(f"container: version is {version}, must be {VERSION}")
    end = len(payload) - (4 if flags & CRC32 else 2)
    body = payload[:end]
    crc = zlib.crc32(body) if flags & CRC32 else binascii.crc_hqx(body, 0)
    if crc != int.from_bytes(payload[end:], "little"):
        raise BitstreamError("container: wrong checksum; the payload is damaged or cut off")
    if payload[3:7].hex() != model_id:
        raise BitstreamError(
            f"container: the payload is of model {payload[3:7].hex()}, must be of {model_id}"
        )
    mask, at = read_varint(payload, 7, end)
    if mask >> 28:
        raise BitstreamError("container: a layer above 27")
    layers = [i for i in range(28) if mask >> i & 1]
    images, size, width = 1, None, 1
    if flags & IMAGES:
        images, at = read_varint(payload, at, end)
        if not 1 <= images <= min(1 << 16, end - at):
            raise BitstreamError(f"container: {images} images")
    if flags & SIZE:
        rows, at = read_varint(payload, at, end)
        columns, at = read_varint(payload, at, end)
        if not (1 <= rows <= 1 << 14 and 1 <= columns <= 1 << 14):
            raise BitstreamError(f"container: size {rows} x {columns}")
        size = (rows, columns)
    if flags & CONTROLS:
        width, at = read_varint(payload, at, end)
    if not 1 <= width <= 1024 or images * width > end - at:
        raise BitstreamError(f"container: {width} control bytes for each of {images} images")
    controls = [payload[at + i * width : at + (i + 1) * width] for i in range(images)]
    at += images * width
    count = images * len(layers)
    if count - 1 > end - at:
        raise BitstreamError(f"container: {count} streams")
    lengths: list[int] = []
    for _ in range(count - 1):
        length, at = read_varint(payload, at, end)
        lengths.append(length)
    left = end - at - sum(lengths)  # of the last stream, which has no length of its own
    if left < 0 or (count == 0 and left > 0):
        raise BitstreamError("container: streams do not fit the payload")
    streams: list[bytes] = []
    for length in [*lengths, left][:count]:
        streams.append(payload[at : at + length])
        at += length
    per = len(layers)
    rows_of_streams = [streams[i * per : (i + 1) * per] for i in range(images)]
    return Container(layers, size, controls, rows_of_streams)


# The entropy coder.


class Rans:
    """Reads the symbols of one stream."""

    def __init__(self, stream: bytes) -> None:
        # Up to 6 bytes are the state alone; else the parity of the length tells its 5 or 6 bytes.
        size = len(stream) if len(stream) <= 6 else 6 - len(stream) % 2
        if size > 0 and stream[0] == 0:
            raise BitstreamError("rans: the stream starts with a zero byte")
        self.state = int.from_bytes(stream[:size], "big")
        self.words: list[int] = np.frombuffer(stream, "<u2", offset=size).tolist()[::-1]

    def read(self, tables: list[Table], indices: list[int]) -> list[int]:
        """Return one symbol for each table index."""
        state, words = self.state, self.words
        out: list[int] = []
        for index in indices:
            starts, frequencies, low, escape = tables[index]
            slot = state & 0xFFFF
            entry = bisect_right(starts, slot) - 1  # the last entry that starts at or before slot
            state = frequencies[entry] * (state >> 16) + slot - starts[entry]
            if state < 1 << 32 and words:
                state = state << 16 | words.pop()
            if entry == escape:
                self.state = state
                entry = self.read_escape(escape)
                state = self.state
            out.append(low + entry)
        self.state = state
        return out

    def read_bit(self) -> int:
        """Read a bit of probability one half."""
        bit = self.state >> 15 & 1
        self.state = (self.state >> 16 << 15) + (self.state & 0x7FFF)
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 16 | self.words.pop()
        return bit

    def read_escape(self, escape: int) -> int:
        """Read an Exp-Golomb code: n zeros, then n + 1 bits that start with a one."""
        length, code = 0, 1
        while self.read_bit() == 0:
            length += 1
            if length > 24:
                raise BitstreamError("rans: an escape is longer than 24 bits")
        for _ in range(length):
            code = code << 1 | self.read_bit()
        # Odd codes lie above the table, even ones below its first entry.
        return escape + code // 2 if code & 1 else -(code // 2)

    def close(self) -> None:
        """Check that nothing is left."""
        if self.state != 0 or self.words:
            raise BitstreamError("rans: something is left at the end of a stream")


# Levels: 8 fractional bits, one of 64 tables after rounding.


def round_shift(x: Ints, shift: int) -> Ints:
    """Return x / 2**shift to the nearest integer, halves upwards."""
    return (x + ((1 << shift) >> 1)) >> shift


def taps(weight: NDArray[Any]) -> NDArray[Any]:
    """Return kernels [out, in, kh, kw] as one matrix per tap, [kh, kw, out, in]."""
    kind = np.float32 if weight.dtype == np.float32 else np.float64
    return np.ascontiguousarray(weight.transpose(2, 3, 0, 1), dtype=kind)


def windows(x: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """Convolve [in, h, w] with the taps of odd kernels, zeros beyond the border."""
    down, across, outputs, inputs = weight.shape
    rows, columns = x.shape[1:]
    padded = np.zeros((inputs, rows + down - 1, columns + across - 1), dtype=weight.dtype)
    padded[:, down // 2 : down // 2 + rows, across // 2 : across // 2 + columns] = x
    out = np.zeros((outputs, rows * columns), dtype=weight.dtype)
    for i in range(down):
        for j in range(across):
            part = padded[:, i : i + rows, j : j + columns]
            out += weight[i, j] @ part.reshape(inputs, -1)
    return out.reshape(outputs, rows, columns)


def convolve(x: Ints, weight: NDArray[Any], bias: Ints) -> Ints:
    """Convolve integers.

    The products run in fp64, which is exact: the export has proved that no sum reaches 2**53.
    """
    return windows(x, weight).astype(np.int64) + bias[:, None, None]


def coefficients(a: dict[str, NDArray[Any]], side: Ints, more: int) -> Ints:
    """Mix side symbols (times 2**more) into coefficients within +-127, in steps of 1/32."""
    bias = (a["prior.mix_bias"] << more).reshape(-1, *[1] * (side.ndim - 1))
    mixed = a["prior.mix"] @ side + bias
    return np.clip(round_shift(mixed, int(a["prior.shifts"][0]) + more), -127, 127)


def upsample(x: Ints, size: int, stride: int, axis: int) -> Ints:
    """Return bilinear values times 2 * stride, with `size` entries along an axis."""
    place = 2 * np.arange(size) + 1 - stride
    before, part = place // (2 * stride), place % (2 * stride)  # floors, also below 0
    part = part.reshape(-1, *[1] * (x.ndim - 1 - axis))
    last = x.shape[axis] - 1
    low, high = (x.take(np.clip(i, 0, last), axis=axis) for i in (before, before + 1))
    return low * (2 * stride - part) + high * part


def prior_levels(layer: Layer, side: Ints, rows: int, columns: int) -> Ints:
    """Return the levels of all latents, [n, rows, columns] or [n, 1, 1], from side symbols."""
    spec, a = layer.spec, layer.arrays
    kind, stride = spec["kind"], spec["prior_stride"]
    if kind == "factorized":
        base = a["prior.base"]
        return base.reshape(len(base), *(base.shape[1:] or (1, 1)))
    channels = np.arange(spec["channels"])
    if kind == "codebook-vq":
        group = channels * spec["side"] // spec["channels"]
        words = a["prior.codebook"][side[group], channels]
        return words.reshape(len(words), *(words.shape[1:] or (1, 1)))
    if kind == "codebook-global":
        weights = coefficients(a, side, 0)
        words = a["prior.codebook"].reshape(len(weights), -1)
        sums = (weights @ words).reshape(-1, rows, columns) + a["prior.base"]
        return round_shift(sums, int(a["prior.shifts"][1]) + 5 - 8)
    grid = side.reshape(spec["side"], -(-rows // stride), -(-columns // stride))
    if kind == "codebook-local":
        wide = upsample(upsample(grid, columns, stride, 2), rows, stride, 1)
        weights = coefficients(a, wide.reshape(spec["side"], -1), 4 if stride == 2 else 6)
        sums = a["prior.codebook"].T @ weights + a["prior.base"][:, None]
        return round_shift(sums, int(a["prior.shifts"][1]) + 5 - 8).reshape(-1, rows, columns)
    middle = (-(-rows // 2), -(-columns // 2)) if stride == 4 else grid.shape[1:]
    x = grid
    for i, size in enumerate((grid.shape[1:], middle, (rows, columns))):  # kind is "spatial"
        if x.shape[1:] != size:
            x = x.repeat(2, axis=1).repeat(2, axis=2)[:, : size[0], : size[1]]
        x = convolve(x, a[f"prior.weight{i}"], a[f"prior.bias{i}"])
        x = round_shift(x, int(a["prior.shifts"][i]) - (8 if i == 0 else 0))
        x = np.clip(x, 0, 4095) if i < 2 else x
    return x


# Gains, and layers that see others.


def log_gain(layer: Layer, qualities: list[int]) -> Ints:
    """Return what the wanted tasks add to the levels of each channel: the most that one asks."""
    out = np.full(layer.spec["channels"], SILENT, dtype=np.int64)
    for task, quality in enumerate(qualities):
        if quality >= 0:
            out = np.maximum(out, layer.arrays["log_gains"][task, quality])
    return out


def surroundings(
    model: Model, number: int, known: dict[int, Ints], qualities: list[list[int]]
) -> tuple[Ints, Ints]:
    """Return what is added to the levels of a layer, and the centers of its latents."""
    layer = model.layers[number]
    extra = log_gain(layer, qualities[number])[:, None, None]
    parents = [
        i if i in known and any(q >= 0 for q in qualities[i]) else -1 for i in layer.spec["parents"]
    ]
    if all(i < 0 for i in parents):
        return extra, np.zeros_like(extra)
    rows, columns = next(known[i].shape[1:] for i in parents if i >= 0)
    planes: list[Ints] = []
    flags: list[Ints] = []
    for i, parent in zip(layer.spec["parents"], parents, strict=True):
        one = model.layers[i]
        value = np.zeros((one.spec["channels"], rows, columns), dtype=np.int64)
        if parent >= 0:  # the latent over its gain, with 6 fractional bits
            own = [one.arrays["reciprocal"][t, q] for t, q in enumerate(qualities[i]) if q >= 0]
            value = known[i] * np.min(own, axis=0)[:, None, None]
            value = np.clip(round_shift(value, 16 - 6), -4095, 4095)
        planes.append(value)
        flags.append(np.full((1, rows, columns), 64 if parent >= 0 else 0, dtype=np.int64))
    a = layer.arrays
    first, last = (int(s) for s in a["context.shifts"])
    x = convolve(np.concatenate(planes + flags), a["context.weight0"], a["context.bias0"])
    x = np.clip(round_shift(x, first + 6 - 8), 0, 4095)
    x = convolve(x, a["context.weight1"], a["context.bias1"])
    half = len(x) // 2
    levels = round_shift(x[:half], last + 8 - 8)
    centers = np.clip(round_shift(x[half:], last + 8 - 6), -4095, 4095)
    gain = np.zeros(layer.spec["channels"], dtype=np.int64)
    for task, quality in enumerate(qualities[number]):
        if quality >= 0:
            gain = np.maximum(gain, a["gain"][task, quality])
    return extra + levels, round_shift(centers * gain[:, None, None], 6 + 10)


# Payloads.


def read_controls(model: Model, container: Container) -> list[tuple[int, list[list[int]]]]:
    """Return of each image the number of its order and the qualities by layer and task."""
    tasks = [layer.spec["tasks"] for layer in model.layers]
    first = int(model.spec["conditional"])
    pairs, width = sum(tasks), len(container.controls[0]) - first
    masked = 1 + -(-pairs // 8) if pairs >= 3 else 0
    if width not in (1, pairs, masked):
        raise BitstreamError(f"decode: {width + first} control bytes per image")
    out: list[tuple[int, list[list[int]]]] = []
    for row in container.controls:
        values = [byte - 1 for byte in row[first:]] * (pairs if width == 1 else 1)  # -1 is off
        if width not in (1, pairs):
            mask = int.from_bytes(row[first + 1 :], "little")
            if mask >> pairs:
                raise BitstreamError("decode: the mask of the control bytes has too many bits")
            values = [values[0] if mask >> i & 1 else -1 for i in range(pairs)]
        order = row[0] if first else 0
        if max(values) >= QUALITIES or order >= len(model.orders):
            raise BitstreamError(f"decode: quality {max(values)} or order {order}")
        stops = np.cumsum([0, *tasks]).tolist()
        out.append((order, [values[a:b] for a, b in pairwise(stops)]))
    return out


def open_payload(model: Model, payload: bytes, max_symbols: int) -> Container:
    """Parse a payload and check its sizes against the model and the limit."""
    container = parse(payload, model.spec["model_id"])
    if any(i >= len(model.layers) for i in container.layers):
        raise BitstreamError(f"decode: layer {container.layers[-1]} is not the model's")
    symbols = sum(math.prod(model.layers[i].shape(container.size)) for i in container.layers)
    if symbols * len(container.streams) > max_symbols:
        raise BitstreamError(
            f"decode: {symbols * len(container.streams)} latents, must be at most {max_symbols}; "
            "the payload is damaged, or raise max_symbols"
        )
    for layer in model.layers if container.size else ():
        _, rows, columns = layer.shape(container.size)
        if rows * columns * layer.spec["width"] > max_symbols >> 4:
            raise BitstreamError(
                f"decode: size {container.size} is too large for max_symbols = {max_symbols}"
            )
    for number in container.layers:
        spec = model.layers[number].spec
        _, rows, columns = model.layers[number].shape(container.size)
        tied = spec["tied"] and [rows, columns] != spec["tied"]
        tied = tied or any(
            a == 1 != b
            for a, b in zip(spec["inputs"], container.size or spec["inputs"], strict=True)
        )
        if tied or rows * columns > spec["most_positions"]:
            raise BitstreamError(f"decode: layer {spec['name']} cannot have {rows} x {columns}")
    return container


def decode_layer(layer: Layer, stream: bytes, extra: Ints, shape: tuple[int, int, int]) -> Ints:
    """Return the coded numbers of one layer of one image."""
    spec, (rows, columns) = layer.spec, shape[1:]
    rans = Rans(stream)
    cells, low, high = 1, -127, 127
    if spec["kind"] in ("codebook-local", "spatial"):
        cells = -(-rows // spec["prior_stride"]) * -(-columns // spec["prior_stride"])
    if spec["kind"] == "codebook-vq":
        low, high = 0, spec["codewords"] - 1
    count = 0 if spec["kind"] == "factorized" else spec["side"]
    order = [channel for channel in range(count) for _ in range(cells)]
    side = rans.read(layer.side_tables, order)
    if side and not low <= min(side) <= max(side) <= high:
        raise BitstreamError("decode: a side symbol is out of range")
    levels = prior_levels(layer, np.array(side, dtype=np.int64), rows, columns) + extra
    indices = np.clip(round_shift(levels, 8), 0, LEVELS - 1)
    indices = np.broadcast_to(indices, shape).ravel()
    coded = np.flatnonzero(indices)  # latents of table 0 are zero and not in the stream
    out = np.zeros(indices.size, dtype=np.int64)
    out[coded] = rans.read(layer.tables, indices[coded].tolist())
    rans.close()
    return out.reshape(shape)


def decode_images(model: Model, container: Container) -> Iterator[dict[int, Ints]]:
    """Yield the latents of each layer that is there, by its number, image by image."""
    controls = read_controls(model, container)
    for (order, qualities), streams in zip(controls, container.streams, strict=True):
        known: dict[int, Ints] = {}
        for number in model.orders[order]:
            if number in container.layers:
                layer = model.layers[number]
                stream = streams[container.layers.index(number)]
                extra, centers = surroundings(model, number, known, qualities)
                coded = decode_layer(layer, stream, extra, layer.shape(container.size))
                known[number] = coded + centers
        yield known


def decode(payload: bytes, *, max_symbols: int = MAX_SYMBOLS) -> dict[str, Ints]:
    """Return the latents of each layer that is there, int64 [images, channels, rows, columns].

    Raises BitstreamError for anything but an intact payload of this model.
    """
    model = load()
    container = open_payload(model, payload, max_symbols)
    shapes = {i: model.layers[i].shape(container.size) for i in container.layers}
    images = len(container.streams)
    out = {i: np.zeros((images, *shape), dtype=np.int64) for i, shape in shapes.items()}
    for row, known in enumerate(decode_images(model, container)):
        for i, value in known.items():
            out[i][row] = value
    return {model.layers[i].spec["name"]: value for i, value in out.items()}
