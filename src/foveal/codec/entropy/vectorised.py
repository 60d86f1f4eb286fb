"""The rANS format of `rans` for many streams at once: one NumPy lane per stream, the same bytes.

Images of a batch and frames of a video are independent streams with equally many symbols, so the
lanes are the streams themselves and cost no byte. From about 16 streams on this is faster than one
scalar pass per stream.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveal.codec.entropy.rans import (
    HALF,
    LOWER,
    MASK,
    MAX_ESCAPE_BITS,
    WORD_BITS,
    Layer,
    begin,
    check_layer,
    escape_operations,
    finish,
)
from foveal.codec.entropy.tables import PRECISION, TOTAL, FrequencyTables, escape_entry
from foveal.errors import ArgumentError, BitstreamError

_U = np.uint64


def _lane_operations(
    layers: Sequence[Layer], skip: Sequence[bool], lanes: int
) -> tuple[NDArray[np.uint64], ...]:
    """Return starts and frequencies, each [steps, lanes], padded with steps that do nothing."""
    starts: list[NDArray[np.int64]] = []
    freqs: list[NDArray[np.int64]] = []
    for (tables, symbols, indices), skipped in zip(layers, skip, strict=True):
        entry = symbols - tables.lows[indices]
        escape = tables.sizes[indices] - 1
        outside = (entry < 0) | (entry >= escape)
        flat = tables.offsets[indices] + np.where(outside, escape, entry)
        start, freq = tables.starts[flat], tables.frequencies[flat]
        if skipped:
            silent = indices == 0
            start, freq = np.where(silent, 0, start), np.where(silent, TOTAL, freq)
            outside &= ~silent
        done = 0
        for column in np.flatnonzero(outside.any(axis=0)).tolist():
            starts.append(start[:, done : column + 1].T)
            freqs.append(freq[:, done : column + 1].T)
            done = column + 1
            bits = {
                lane: escape_operations(int(entry[lane, column]), int(escape[lane, column]))
                for lane in np.flatnonzero(outside[:, column]).tolist()
            }
            extra = np.zeros((2, max(map(len, bits.values())), lanes), dtype=np.int64)
            extra[1] = TOTAL
            for lane, ops in bits.items():
                extra[:, : len(ops), lane] = np.array(ops, dtype=np.int64).T
            starts.append(extra[0])
            freqs.append(extra[1])
        starts.append(start[:, done:].T)
        freqs.append(freq[:, done:].T)
    return np.concatenate(starts).astype(_U), np.concatenate(freqs).astype(_U)


def encode_lanes(layers: Sequence[Layer], *, skip: Sequence[bool] | None = None) -> list[bytes]:
    """Code one stream per row; each equals `encode_symbols` of that row.

    Args:
        layers: Each `(tables, symbols, indices)` with integer arrays [lanes, symbols].
        skip: Per layer, whether symbols of table 0 are left out. Default: no.

    Returns: One stream per lane.

    Raises:
        ArgumentError: as `encode_symbols`, or the number of lanes differs between layers.
    """
    counts = {layer[1].shape[0] if layer[1].ndim == 2 else -1 for layer in layers}
    if len(counts) != 1 or -1 in counts:
        raise ArgumentError(
            f"encode_lanes: layers has shapes {[layer[1].shape for layer in layers]}, must be "
            "[lanes, symbols] with one number of lanes; reshape the layers"
        )
    for layer in layers:
        check_layer("encode_lanes", layer)
    lanes = counts.pop()
    starts, freqs = _lane_operations(layers, skip or [False] * len(layers), lanes)
    words = np.zeros((lanes, starts.shape[0]), dtype=np.uint16)
    count = np.zeros(lanes, dtype=np.int64)
    state = np.zeros(lanes, dtype=_U)
    for step in range(starts.shape[0] - 1, -1, -1):
        freq = freqs[step]
        full = np.flatnonzero(state >= freq << _U(32))
        if full.size:
            words[full, count[full]] = state[full] & _U(0xFFFF)
            count[full] += 1
            state[full] >>= _U(WORD_BITS)
        quotient, rest = np.divmod(state, freq)
        state = (quotient << _U(PRECISION)) + starts[step] + rest
    return [finish(int(state[i]), words[i, : count[i]]) for i in range(lanes)]


class LaneDecoder:
    """Reads equally many symbols from many streams; the results are those of `RansDecoder`.

    Args:
        streams: Any bytes, one item per lane.

    Raises:
        BitstreamError: a stream cannot come from the encoder.
    """

    def __init__(self, streams: Sequence[bytes]) -> None:
        parts = [begin(stream) for stream in streams]
        self._state = np.array([state for state, _ in parts], dtype=_U)
        self._size = np.array([words.size for _, words in parts], dtype=np.int64)
        self._words = np.zeros((len(parts), int(self._size.max(initial=0)) + 1), dtype=_U)
        for i, (_, words) in enumerate(parts):
            self._words[i, : words.size] = words
        self._next = np.zeros(len(parts), dtype=np.int64)

    def _advance(
        self, lanes: NDArray[np.int64], start: NDArray[np.uint64], freq: NDArray[np.uint64]
    ) -> None:
        state = self._state[lanes]
        state = freq * (state >> _U(PRECISION)) + (state & _U(MASK)) - start
        position = self._next[lanes]
        wants = (state < _U(LOWER)) & (position < self._size[lanes])
        read = self._words[lanes, position]
        self._state[lanes] = np.where(wants, state << _U(WORD_BITS) | read, state)
        self._next[lanes] = position + wants

    def _read_escape(self, lane: int, escape: int) -> int:
        one, half = np.array([lane]), np.array([HALF], dtype=_U)
        length, code = 0, 0
        while int(self._state[lane]) & HALF == 0:
            self._advance(one, half * _U(0), half)
            length += 1
            if length > MAX_ESCAPE_BITS:
                raise BitstreamError(
                    f"rans: escape in stream {lane} has more than {MAX_ESCAPE_BITS} bits, must "
                    "have fewer; the stream is damaged"
                )
        for _ in range(length + 1):
            bit = int(int(self._state[lane]) & HALF != 0)
            self._advance(one, half * _U(bit), half)
            code = code << 1 | bit
        return escape_entry(code, escape)

    def decode(
        self, tables: FrequencyTables, indices: NDArray[np.int64], *, skip: bool = False
    ) -> NDArray[np.int64]:
        """Return the next symbols, [lanes, symbols], of the shape of `indices`.

        With `skip`, symbols of table 0 are not in the streams and come out as 0.

        Raises:
            ArgumentError: `indices` has another number of rows, or an index has no table.
            BitstreamError: an escape is longer than the format allows.
        """
        check_layer("LaneDecoder.decode", (tables, indices, indices))
        if indices.ndim != 2 or indices.shape[0] != self._state.size:
            raise ArgumentError(
                f"LaneDecoder.decode: indices has shape {indices.shape}, must be "
                f"[{self._state.size}, symbols]; give one row per stream"
            )
        starts, freqs = tables.starts.astype(_U), tables.frequencies.astype(_U)
        out = np.zeros(indices.shape, dtype=np.int64)
        everyone = np.arange(indices.shape[0])
        columns = np.flatnonzero(indices.any(axis=0)) if skip else np.arange(indices.shape[1])
        for column in columns.tolist():
            lanes = np.flatnonzero(indices[:, column]) if skip else everyone
            table = indices[lanes, column]
            slot = (self._state[lanes] & _U(MASK)).astype(np.int64)
            flat = tables.find(table, slot)
            entry = flat - tables.offsets[table]
            self._advance(lanes, starts[flat], freqs[flat])
            escape = tables.sizes[table] - 1
            for i in np.flatnonzero(entry == escape).tolist():
                entry[i] = self._read_escape(int(lanes[i]), int(escape[i]))
            out[lanes, column] = tables.lows[table] + entry
        return out

    def close(self) -> None:
        """Check that every stream ended exactly here.

        Raises:
            BitstreamError: words or information are left over in some stream.
        """
        bad = np.flatnonzero((self._state != 0) | (self._next != self._size))
        if bad.size:
            raise BitstreamError(
                f"rans: streams {bad[:8].tolist()} end with information left, must end with none; "
                "they are damaged or belong to another model"
            )
