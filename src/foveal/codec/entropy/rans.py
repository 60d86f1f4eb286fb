"""Scalar rANS coder: the reference that defines the byte format.

The state is below 2**48 and gives away 16-bit words. It starts at 0 rather than at its lower bound
2**32, so that a short stream grows from nothing: no symbols, or only certain ones, cost no byte.
Once a word was written the state has 5 or 6 bytes, so that the parity of the length tells where the
state ends. A decoder must end with state 0 and all words read, which detects most damage.

Layout: state (big-endian, no leading zero byte; the whole stream up to 6 bytes, then 5 bytes in a
stream of odd length and 6 in one of even length), then 16-bit little-endian words in the order
of reading.

Source: Duda, "Asymmetric numeral systems", 2013, arXiv:1311.2540; the growing start is ours.
"""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveal.codec.entropy.tables import PRECISION, FrequencyTables, escape_code, escape_entry
from foveal.errors import ArgumentError, BitstreamError

WORD_BITS = 16
LOWER = 1 << 32
MASK = (1 << PRECISION) - 1
HALF = 1 << (PRECISION - 1)
MAX_ESCAPE_BITS = 24

Layer = tuple[FrequencyTables, NDArray[np.int64], NDArray[np.int64]]
"""Tables, symbols and the table index of each symbol."""


def check_layer(name: str, layer: Layer) -> None:
    """Raise ArgumentError unless symbols and indices of `layer` are codable."""
    tables, symbols, indices = layer
    if symbols.shape != indices.shape:
        raise ArgumentError(
            f"{name}: indices has shape {indices.shape}, must be {symbols.shape} like symbols; "
            "give one table index per symbol"
        )
    if symbols.dtype.kind not in "iu" or indices.dtype.kind not in "iu":
        raise ArgumentError(
            f"{name}: symbols and indices have dtypes {symbols.dtype} and {indices.dtype}, must "
            "be integers; round and cast them first"
        )
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < len(tables):
        raise ArgumentError(
            f"{name}: indices is within {int(indices.min())}..{int(indices.max())}, must be "
            f"within 0..{len(tables) - 1}; clip it to the number of tables"
        )
    limit = 1 << (MAX_ESCAPE_BITS - 3)
    if symbols.size and (int(symbols.max()) > limit or int(symbols.min()) < -limit):
        raise ArgumentError(
            f"{name}: symbols is within {int(symbols.min())}..{int(symbols.max())}, must be within "
            f"+-{limit}; clip the symbols"
        )


def escape_operations(entry: int, escape: int) -> list[tuple[int, int]]:
    """Return the Exp-Golomb bits of an outlier as `(start, frequency)` of fair coin flips."""
    code = escape_code(entry, escape)
    length = code.bit_length() - 1
    bits = [0] * length + [code >> i & 1 for i in range(length, -1, -1)]
    return [(HALF * bit, HALF) for bit in bits]


def operations(layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """Return the `(start, frequency)` steps of coding `layers` in decoding order."""
    ops: list[tuple[int, int]] = []
    for tables, symbols, indices in layers:
        lists = tables.lists
        for symbol, index in zip(symbols.ravel().tolist(), indices.ravel().tolist(), strict=True):
            starts, freqs, low, escape = lists[index]
            entry = symbol - low
            if 0 <= entry < escape:
                ops.append((starts[entry], freqs[entry]))
            else:
                ops.append((starts[escape], freqs[escape]))
                ops.extend(escape_operations(entry, escape))
    return ops


def finish(state: int, words: NDArray[np.uint16]) -> bytes:
    """Lay out the final state and the words, given in the order of writing."""
    head = state.to_bytes((state.bit_length() + 7) // 8, "big")
    return head + words[::-1].astype("<u2").tobytes()


def begin(stream: bytes) -> tuple[int, NDArray[np.uint16]]:
    """Split a stream into its state and its words, in the order of reading.

    Raises:
        BitstreamError: the stream has a leading zero, which no encoder writes.
    """
    size = len(stream) if len(stream) <= 6 else 6 - (len(stream) & 1)
    if size and stream[0] == 0:
        raise BitstreamError(
            "rans: stream starts with a zero byte, must start with the highest byte of the state; "
            "the stream is damaged"
        )
    return int.from_bytes(stream[:size], "big"), np.frombuffer(stream[size:], dtype="<u2")


def encode_symbols(layers: Sequence[Layer]) -> bytes:
    """Code the symbols of all layers into one stream.

    Args:
        layers: Each `(tables, symbols, indices)`; symbols and indices are integer arrays of one
            shape. A decoder reads the layers in this order and may derive the indices of a layer
            from the symbols of those before it.

    Returns: The stream; within 3 bytes of the information of the symbols (16 bits for the first
    symbol, and the last byte), plus less than 0.1 % for long ones. It holds neither its length nor
    the number of symbols.

    Raises:
        ArgumentError: shapes disagree, an index has no table, or a symbol is beyond +-2**21.
    """
    for layer in layers:
        check_layer("encode_symbols", layer)
    state = 0
    words: list[int] = []
    for start, freq in reversed(operations(layers)):
        if state >= freq << 32:
            words.append(state & 0xFFFF)
            state >>= WORD_BITS
        quotient, rest = divmod(state, freq)
        state = (quotient << PRECISION) + start + rest
    return finish(state, np.array(words, dtype=np.uint16))


class RansDecoder:
    """Reads the layers of one stream in the order in which they were given to `encode_symbols`.

    Args:
        stream: Any bytes. Work and memory depend on the number of symbols asked for alone.

    Raises:
        BitstreamError: the stream cannot come from the encoder.
    """

    def __init__(self, stream: bytes) -> None:
        self._state, words = begin(stream)
        self._words: list[int] = words.tolist()
        self._next = 0

    def _advance(self, start: int, freq: int) -> None:
        state = freq * (self._state >> PRECISION) + (self._state & MASK) - start
        if state < LOWER and self._next < len(self._words):
            state = state << WORD_BITS | self._words[self._next]
            self._next += 1
        self._state = state

    def read_escape(self, escape: int) -> int:
        """Read the Exp-Golomb bits of one outlier and return its table entry."""
        length = 0
        while self._state & HALF == 0:
            self._advance(0, HALF)
            length += 1
            if length > MAX_ESCAPE_BITS:
                raise BitstreamError(
                    f"rans: escape has more than {MAX_ESCAPE_BITS} bits, must have fewer; "
                    "the stream is damaged"
                )
        code = 0
        for _ in range(length + 1):
            bit = int(self._state & HALF != 0)
            self._advance(HALF * bit, HALF)
            code = code << 1 | bit
        return escape_entry(code, escape)

    def decode(self, tables: FrequencyTables, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the next `indices.size` symbols, in the shape of `indices`.

        Raises:
            ArgumentError: an index has no table.
            BitstreamError: an escape is longer than the format allows.
        """
        check_layer("RansDecoder.decode", (tables, indices, indices))
        lists = tables.lists
        out: list[int] = []
        for index in indices.ravel().tolist():
            starts, freqs, low, escape = lists[index]
            entry = bisect_right(starts, self._state & MASK) - 1
            self._advance(starts[entry], freqs[entry])
            out.append(low + (entry if entry < escape else self.read_escape(escape)))
        return np.array(out, dtype=np.int64).reshape(indices.shape)

    def close(self) -> None:
        """Check that the stream ended exactly here.

        Raises:
            BitstreamError: words or information are left over.
        """
        left = len(self._words) - self._next
        if self._state != 0 or left:
            raise BitstreamError(
                f"rans: stream ends with state {self._state} and {left} words left, must end with "
                "state 0 and none; the stream is damaged or belongs to another model"
            )
