"""From bytes to integers and back: all of the codec that must agree on every device.

Nothing here uses floating-point numbers or torch. A layer's stream holds its side symbols, then
its latents in the order channel, row, column; latents whose table index is 0 are not in it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from foveal.codec.container import Container
from foveal.codec.context import IntegerContext, to_centers, to_values
from foveal.codec.entropy.rans import RansDecoder, encode_symbols
from foveal.codec.entropy.tables import FrequencyTables
from foveal.codec.entropy.vectorised import LaneDecoder, encode_lanes
from foveal.codec.prior.base import index_of
from foveal.codec.prior.integers import IntegerPrior
from foveal.codec.rates import QUALITIES, log_gains, masked_width, read_controls
from foveal.errors import BitstreamError, ShapeError

ENCODE_LANES_FROM = 40
DECODE_LANES_FROM = 100
LANES_MOST = 256
LATENTS_MOST = 1 << 20
"""Most latents of a layer at a time; an eighth where layers see others, which takes memory too."""
MOST_ORDERED = 5

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class IntegerLayer:
    """One layer in integers.

    Args:
        name: Its name.
        prior: Gives the level of every latent.
        tables: One table per level.
        log_gains: int16 [tasks, QUALITIES, channels], in fixed-point levels.
        channels: Latent channels.
        stride: Positions of the features per latent position.
        inputs: Rows and columns of the features in the model's own size.
        parents: Numbers of the layers that it may be coded conditionally on.
        context: What reads them, if there are any.
        gain: int64, the factors of `log_gains` with 10 fractional bits; for a model with contexts.
        reciprocal: int64, one over them with 16 fractional bits.
    """

    name: str
    prior: IntegerPrior
    tables: FrequencyTables
    log_gains: NDArray[np.int16]
    channels: int
    stride: int
    inputs: tuple[int, int]
    parents: tuple[int, ...] = ()
    context: IntegerContext | None = None
    gain: Ints | None = None
    reciprocal: Ints | None = None

    def shape(self, size: tuple[int, int] | None = None) -> tuple[int, int, int]:
        """Return the shape of the latents of an image for features of `size`."""
        rows, columns = size or self.inputs
        return self.channels, -(-rows // self.stride), -(-columns // self.stride)

    @property
    def width(self) -> int:
        """Most values per latent position that decoding holds in one array."""
        inputs = 0 if self.context is None else self.context.inputs
        return max(self.prior.config.widest, inputs)

    def check_size(self, size: tuple[int, int] | None) -> None:
        """Raise BitstreamError if the layer cannot have latents for features of `size`."""
        try:
            self.prior.config.check_size(f"decode: layer {self.name}", *self.shape(size)[1:])
        except ShapeError as error:
            raise BitstreamError(f"{error}; the payload is damaged or of another model") from error

    def indices(self, side: Ints, extra: Ints, shape: tuple[int, int, int]) -> Ints:
        """Return the table index of every latent, int64 [images, channels * rows * columns].

        Args:
            side: Side symbols [images, num_side].
            extra: Fixed-point levels to add, broadcastable to [images, *shape].
            shape: Shape of the latents.
        """
        levels = self.prior.levels(side, shape[1], shape[2])
        levels += extra
        return index_of(levels, reuse=True).reshape(len(side), -1)

    def encode(
        self, side: Ints, y: Ints, indices: Ints, shape: tuple[int, int, int]
    ) -> list[bytes]:
        """Return one stream per image; `y` must be 0 where its index is 0."""
        side_index = np.broadcast_to(self.prior.side_layout(*shape[1:]), side.shape)
        if len(side) >= ENCODE_LANES_FROM:
            layers = [(self.prior.side_tables, side, side_index), (self.tables, y, indices)]
            return encode_lanes(layers, skip=(False, True))
        out: list[bytes] = []
        for i in range(len(side)):
            coded = indices[i] > 0
            first = (self.prior.side_tables, side[i], side_index[i])
            out.append(encode_symbols([first, (self.tables, y[i][coded], indices[i][coded])]))
        return out

    def decode(self, streams: Sequence[bytes], extra: Ints, shape: tuple[int, int, int]) -> Ints:
        """Return the coded numbers, int64 [images, channels * rows * columns].

        Raises:
            BitstreamError: a stream is damaged.
        """
        side_index = self.prior.side_layout(*shape[1:])
        if len(streams) >= DECODE_LANES_FROM:
            lanes = LaneDecoder(streams)
            wide = np.broadcast_to(side_index, (len(streams), side_index.size))
            side = lanes.decode(self.prior.side_tables, wide)
            y = lanes.decode(self.tables, self.indices(side, extra, shape), skip=True)
            lanes.close()
            return y
        elements = shape[0] * shape[1] * shape[2]
        out = np.zeros((len(streams), elements), dtype=np.int64)
        for i, stream in enumerate(streams):
            one = RansDecoder(stream)
            side = one.decode(self.prior.side_tables, side_index)[None]
            indices = self.indices(side, extra[i : i + 1], shape)[0]
            coded = np.flatnonzero(indices)
            out[i, coded] = one.decode(self.tables, indices[coded])
            one.close()
        return out


@dataclass(frozen=True, slots=True)
class IntegerModel:
    """All layers of a model in integers.

    Args:
        layers: In the model's order.
        order: Numbers of the layers in the order of coding, where none is asked for.
    """

    layers: tuple[IntegerLayer, ...]
    order: tuple[int, ...] = ()

    @property
    def pairs(self) -> int:
        """Number of (layer, task) pairs, each of which has a quality."""
        return sum(len(layer.log_gains) for layer in self.layers)

    @property
    def conditional(self) -> bool:
        """Whether the first control byte of an image is the order of its layers."""
        return any(layer.context is not None for layer in self.layers)

    @property
    def orders(self) -> tuple[tuple[int, ...], ...]:
        """The orders that a control byte can name; number 0 is the model's own."""
        own = self.order or tuple(range(len(self.layers)))
        if not self.conditional or len(own) > MOST_ORDERED:
            return (own,)
        return (own, *(p for p in permutations(range(len(own))) if p != own))

    def controls(self, controls: Sequence[bytes]) -> tuple[Ints, Ints]:
        """Return the orders [images] and qualities [images, pairs] that control bytes stand for.

        Raises:
            BitstreamError: their number is not ours, or one is out of range.
        """
        first = int(self.conditional)
        values = read_controls([row[first:] for row in controls], self.pairs)
        if values is None:
            known = sorted({1, self.pairs, masked_width(self.pairs) or 1})
            some = " or ".join(str(width + first) for width in known)
            raise BitstreamError(
                f"decode: payload has {len(controls[0])} control bytes per image "
                f"({controls[0][:8].hex()}), must have {some}, and a mask no bit above the "
                f"{self.pairs} pairs; it is damaged or belongs to another model"
            )
        orders = np.array([row[0] if first else 0 for row in controls], dtype=np.int64)
        if int(values.max()) >= QUALITIES or int(orders.max()) >= len(self.orders):
            raise BitstreamError(
                f"decode: payload has quality {int(values.max())} and order {int(orders.max())}, "
                f"must be below {QUALITIES} and {len(self.orders)}; it is damaged"
            )
        return orders, values

    def split(self, qualities: Ints) -> list[Ints]:
        """Return the qualities [images, tasks] of each layer."""
        stops = np.cumsum([len(layer.log_gains) for layer in self.layers])[:-1]
        return np.split(qualities, stops, axis=1)

    def log_gains(self, qualities: Ints) -> list[Ints]:
        """Return the log-gains [images, channels] of every layer."""
        parts = zip(self.layers, self.split(qualities), strict=True)
        return [log_gains(layer.log_gains, own) for layer, own in parts]

    def surroundings(
        self, number: int, known: Mapping[int, Ints], qualities: Ints, size: tuple[int, int] | None
    ) -> tuple[Ints, Ints]:
        """Return what is added to the levels of a layer, and the centers of its latents.

        Args:
            number: The layer.
            known: Latents of the layers that are decoded already, [images, n, h, w].
            qualities: int64 [images, pairs].
            size: Of the features; None for the model's own.

        Returns: int64 [images, n, h, w] each, or broadcastable.
        """
        layer = self.layers[number]
        split = self.split(qualities)
        extra = log_gains(layer.log_gains, split[number])[:, :, None, None]
        there = [i for i in layer.parents if i in known]
        if layer.context is None or not there:
            return extra, np.zeros_like(extra)
        values: list[Ints | None] = []
        for i in layer.parents:
            reciprocal = self.layers[i].reciprocal
            on = (split[i] >= 0).any(axis=1)
            if i not in known or reciprocal is None or not on.all():
                values.append(None)
            else:
                factor = pick(reciprocal, split[i], np.min, 1 << 31)
                values.append(to_values(known[i], factor))
        if layer.gain is None or all(value is None for value in values):
            return extra, np.zeros_like(extra)
        levels, centers = layer.context(values, layer.shape(size)[1:])
        return extra + levels, to_centers(centers, pick(layer.gain, split[number], np.max, 0))

    def with_parents(self, container: Container, wanted: Sequence[int]) -> list[int]:
        """Return `wanted` layers and those of the container that they were coded given.

        Raises:
            BitstreamError: a control byte is out of range.
        """
        orders, qualities = self.controls(container.controls)
        on = [(part >= 0).any(axis=1) for part in self.split(qualities)]
        out = list(wanted)
        for number in out:  # grows while it is read
            for parent in self.layers[number].parents:
                if parent in container.layers and parent not in out:
                    images = np.flatnonzero(on[parent])
                    paths = {self.orders[i] for i in orders[images].tolist()}
                    if any(path.index(parent) < path.index(number) for path in paths):
                        out.append(parent)
        return sorted(out)

    def at_once(self, size: tuple[int, int] | None) -> int:
        """Return how many images, at most, are decoded side by side."""
        elements = max(int(np.prod(layer.shape(size))) for layer in self.layers)
        room = LATENTS_MOST >> 3 if self.conditional else LATENTS_MOST
        return min(LANES_MOST, max(1, room // elements))

    def decode(self, container: Container) -> dict[str, Ints]:
        """Return the latents of every layer that is there, int64 [images, channels, rows, columns].

        Raises:
            BitstreamError: a stream is damaged, or the container names layers that are not ours.
        """
        if container.layers and container.layers[-1] >= len(self.layers):
            raise BitstreamError(
                f"decode: payload has layer {container.layers[-1]}, must be below "
                f"{len(self.layers)}; it belongs to another model"
            )
        orders, qualities = self.controls(container.controls)
        for number in container.layers:
            self.layers[number].check_size(container.size)
        images = len(container.streams)
        most = self.at_once(container.size)
        out = {
            number: np.zeros((images, *self.layers[number].shape(container.size)), dtype=np.int64)
            for number in container.layers
        }
        for rows in groups_of(orders, qualities, most):
            known: dict[int, Ints] = {}
            for number in self.orders[int(orders[rows[0]])]:
                if number not in out:
                    continue
                column, layer = container.layers.index(number), self.layers[number]
                shape = layer.shape(container.size)
                extra, centers = self.surroundings(number, known, qualities[rows], container.size)
                streams = [container.streams[i][column] for i in rows]
                coded = layer.decode(streams, extra, shape).reshape(len(rows), *shape)
                coded += centers
                known[number] = coded
                out[number][rows] = coded
        return {self.layers[number].name: value for number, value in out.items()}


def pick(table: Ints, qualities: Ints, best: Callable[..., Ints], off: int) -> Ints:
    """Return the best entry over the wanted tasks, int64 [images, channels].

    Args:
        table: int64 [tasks, QUALITIES, channels].
        qualities: int64 [images, tasks].
        best: `np.max` of gains, `np.min` of reciprocals.
        off: Stands for a task that is not wanted.
    """
    tasks = np.arange(len(table))[None]
    chosen = table[tasks, np.maximum(qualities, 0)]
    return best(np.where(qualities[..., None] < 0, off, chosen), axis=1)


def groups_of(orders: Ints, qualities: Ints, most: int = LANES_MOST) -> list[Ints]:
    """Return images, up to `most` at once, that have one order and the same tasks on."""
    on = np.packbits(qualities >= 0, axis=1)
    keys = np.concatenate([orders[:, None].astype(np.uint8), on], axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    turn = np.argsort(group.reshape(-1), kind="stable")
    starts = np.flatnonzero(np.diff(group.reshape(-1)[turn])) + 1
    out: list[Ints] = []
    for rows in np.split(turn, starts):
        out += [rows[i : i + most] for i in range(0, len(rows), most)]
    return out
