"""Encoding with a `FeatureCodec`."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from foveal.codec.arguments import (
    asking_tasks,
    check_bytes,
    check_features,
    check_tasks,
    needed_sources,
    wanted_layers,
)
from foveal.codec.config import Layer
from foveal.codec.container import Container, pack
from foveal.codec.decoding import CODE_AT_ONCE
from foveal.codec.integer_model import Ints
from foveal.codec.loss import Answers, answers_of, losses_of, metric_of, references
from foveal.codec.model import FeatureCodec
from foveal.codec.rates import QUALITIES, Wish, control_bytes
from foveal.codec.sources import given_features
from foveal.errors import ArgumentError
from foveal.receipt import Receipt

DEFAULT_QUALITY = 40


@dataclass(frozen=True, slots=True)
class Stream:
    """An encoded batch of features.

    Args:
        payload: The container's bytes.
        receipt: Bytes spent, the full price, and the measured loss if there is one.
        qualities: Per image the quality of each of the model's `pairs`; -1 where one is off.
    """

    payload: bytes
    receipt: Receipt
    qualities: tuple[tuple[int, ...], ...]


class Coder:
    """Latents of a batch, coded at any qualities and orders without analysing them again.

    Args:
        model: A finalised codec.
        features: Checked features of all sources of the layers.
        layers: Layers to code.
        size: Rows and columns of the features; None for the model's own.
    """

    def __init__(
        self,
        model: FeatureCodec,
        features: Mapping[str, Tensor],
        layers: list[Layer],
        size: tuple[int, int] | None,
    ) -> None:
        self.model, self.size = model, size
        self.numbers = sorted(model.config.layers.index(layer) for layer in layers)
        self.latents: dict[int, Tensor] = {}
        for number in self.numbers:
            layer = model.config.layers[number]
            latents = model.latents(layer, features)
            if not bool(torch.isfinite(latents).all()):
                raise ArgumentError(
                    f"encode: features {list(layer.inputs)} give layer {layer.name} latents that "
                    "are not finite, must be of the size of the training features; scale them"
                )
            self.latents[number] = latents

    def layer(
        self, number: int, rows: slice, qualities: Ints, known: Mapping[int, Ints]
    ) -> tuple[list[bytes], Ints, tuple[float, float]]:
        """Code one layer given others; return streams, latents and ideal bits of both symbols."""
        integers = self.model.integers
        part = integers.layers[number]
        latent = self.latents[number][rows]
        log_gain = integers.log_gains(qualities)[number]
        extra, centers = integers.surroundings(number, known, qualities, self.size)
        side, y, indices = self.model.symbols(part, latent, log_gain, extra, centers)
        shape = part.shape(self.size)
        streams = part.encode(side, y, indices, shape)
        coded = indices > 0
        side_index = np.broadcast_to(part.prior.side_layout(*shape[1:]), side.shape)
        bits = (
            part.tables.ideal_bits(y[coded], indices[coded]),
            part.prior.side_tables.ideal_bits(side, side_index),
        )
        return streams, y.reshape(len(side), *shape) + centers, bits

    def code(
        self, rows: slice, qualities: Ints, order: int = 0
    ) -> tuple[list[list[bytes]], tuple[float, float]]:
        """Return per image one stream per layer, and the ideal bits of both kinds of symbols."""
        columns, _, ideal = self.layers(rows, qualities, order)
        count = len(qualities)
        return [[columns[number][i] for number in self.numbers] for i in range(count)], ideal

    def layers(
        self, rows: slice, qualities: Ints, order: int = 0
    ) -> tuple[dict[int, list[bytes]], dict[int, Ints], tuple[float, float]]:
        """Code all layers in an order; return their streams, their latents and the ideal bits."""
        known: dict[int, Ints] = {}
        columns: dict[int, list[bytes]] = {}
        ideal = (0.0, 0.0)
        for number in self.model.integers.orders[order]:
            if number in self.numbers:
                columns[number], known[number], bits = self.layer(number, rows, qualities, known)
                ideal = (ideal[0] + bits[0], ideal[1] + bits[1])
        return columns, known, ideal

    def pack(
        self, streams: Sequence[Sequence[bytes]], wishes: Sequence[Wish], orders: Sequence[int]
    ) -> bytes:
        """Return the payload of some images."""
        model = self.model
        sent = [i in self.numbers for i, x in enumerate(model.config.layers) for _ in x.tasks]
        rows = control_bytes(wishes, sent)
        first = [bytes([i]) if model.integers.conditional else b"" for i in orders]
        controls = tuple(a + b for a, b in zip(first, rows, strict=True))
        numbers, table = tuple(self.numbers), tuple(map(tuple, streams))
        return pack(Container(model.model_id, numbers, table, controls, self.size))

    def best_order(self, image: int, qualities: Ints) -> int:
        """Return the order with the fewest bytes for an image, by dynamic programming over subsets.

        The bytes of a layer are measured given each subset of the others, whose latents are taken
        as coded by themselves: what a context makes of skipped latents is left out of the search.
        The order found is coded; if it does not need fewer bytes than the model's own, that stays.
        """
        integers, rows = self.model.integers, slice(image, image + 1)
        if len(integers.orders) == 1:
            return 0
        alone = {n: self.layer(n, rows, qualities, {})[1] for n in self.numbers}
        best: dict[frozenset[int], tuple[int, tuple[int, ...]]] = {frozenset(): (0, ())}
        for size in range(1, len(self.numbers) + 1):
            for chosen in combinations(self.numbers, size):
                options: list[tuple[int, tuple[int, ...]]] = []
                for last in chosen:
                    rest = frozenset(chosen) - {last}
                    known = {n: alone[n] for n in rest}
                    cost = len(self.layer(last, rows, qualities, known)[0][0])
                    options.append((best[rest][0] + cost, (*best[rest][1], last)))
                best[frozenset(chosen)] = min(options)
        found = best[frozenset(self.numbers)][1]
        paths = [tuple(n for n in order if n in self.numbers) for order in integers.orders]
        number = paths.index(found)
        costs = [sum(map(len, self.code(rows, qualities, i)[0][0])) for i in (0, number)]
        return number if costs[1] < costs[0] else 0


def _fit(
    coder: Coder,
    image: int,
    make: Callable[[int], Wish],
    target: float,
    order: int,
) -> tuple[int, list[bytes]]:
    """Return the highest quality whose file is within `target` bytes, and its streams.

    Raises:
        ArgumentError: even the lowest quality needs more.
    """

    def file(quality: int) -> tuple[int, list[bytes]]:
        wish = make(quality)
        wanted = np.array([wish.qualities], dtype=np.int64)
        streams = coder.code(slice(image, image + 1), wanted, order)[0][0]
        return len(coder.pack([streams], [wish], [order])), streams

    low, high = 0, QUALITIES - 1
    bytes_low, best = file(low)
    if bytes_low > target:
        raise ArgumentError(
            f"encode: target_bytes is {target:g}, must be at least {bytes_low} for image {image}; "
            "raise it or name fewer tasks"
        )
    while low < high:
        middle = (low + high + 1) // 2
        needed, streams = file(middle)
        if needed <= target:
            low, best = middle, streams
        else:
            high = middle - 1
    return low, best


def encode(
    model: FeatureCodec,
    x: Tensor | Mapping[str, Tensor],
    *,
    tasks: Sequence[str] | None = None,
    quality: int | Mapping[str, int] | None = None,
    target_bytes: float | None = None,
    order: Literal["best"] | Sequence[str] | None = None,
    measure: bool = False,
    head: Answers | None = None,
    full_bytes: float | None = None,
) -> Stream:
    """Code images, or features that were worked out before, into one payload.

    Args:
        model: A loaded or finalised codec.
        x: Images, sRGB in [0, 1], [b, 3, height, width] or [3, height, width], which the networks
            that the model names look at. Or finite features of every source that the wanted
            layers take in, by name; or one tensor of them if there is one source, which has not 3
            channels.
        tasks: Tasks to send; the others cost nothing. Default: all.
        quality: 0 to 63, one for all tasks or one each. Default 40. A layer that several wanted
            tasks read takes, channel by channel, the finest that one of them asks for.
        target_bytes: Instead of `quality`: each image takes a quality whose file, coded by itself,
            is not larger, while that of the next quality is. It is found by bisection, so that
            one further up may fit too, should sizes not rise steadily.
        order: Order of coding, for a conditional model: names of all layers, or "best" for the
            one with the fewest bytes, image by image. Default: the model's own.
        measure: Decode the payload and measure the loss, by the rest of the networks that the
            model names.
        head: The same by your own: the frozen rest of the network, features -> answer, by task
            (or one callable for one task).
        full_bytes: Bytes of the whole batch at equal retention by the best other way, as measured.
            Default: `full` is the raw features' size.

    Returns: Payload, receipt and qualities. `details["full_is"]` says which full price was used;
    `latent_bits` and `side_bits` are the information of both kinds of symbols. The seconds have
    those of the networks if `x` is images, and not those of measuring.

    Raises:
        ArgumentError: the model is not finalised; features are missing, not finite or too many;
            a tensor may be images or features; a quality or a task does not exist; or
            `target_bytes` is too small (says what would do).
        ShapeError: images or features have a wrong shape.
    """
    if full_bytes is not None:
        check_bytes("full_bytes", full_bytes, "leave it out if not measured")
    wanted = check_asked(model, tasks, quality, target_bytes, order)
    needed = needed_sources(model, wanted)
    answers = answers_of(model, wanted, head, measure)
    begin = time.perf_counter()
    features, images = given_features(model, x, needed)
    checked, size = check_features(model, features, needed)
    count = len(next(iter(checked.values())))
    coder = Coder(model, checked, wanted_layers(model, wanted), size)
    asked = asking_tasks(model, wanted)

    def wish(value: int | Mapping[str, int]) -> Wish:
        return Wish.of(asked, value)

    start = wish(DEFAULT_QUALITY if quality is None else quality)
    number, first = _order(model, order), np.array([start.qualities], dtype=np.int64)
    orders = [coder.best_order(i, first) if number is None else number for i in range(count)]
    ideal = (0.0, 0.0)
    streams: list[list[bytes]] = []
    wishes = [start] * count
    if target_bytes is not None:
        for i in range(count):
            chosen, row = _fit(coder, i, wish, target_bytes, orders[i])
            if order == "best":  # the best at another quality may be another
                found = np.array([wish(chosen).qualities], dtype=np.int64)
                other = coder.best_order(i, found)
                if other != orders[i]:
                    more, again = _fit(coder, i, wish, target_bytes, other)
                    if more > chosen:
                        chosen, row, orders[i] = more, again, other
            streams.append(row)
            wishes[i] = wish(chosen)
    else:
        for rows in _runs(orders):
            block = np.array([start.qualities] * (rows.stop - rows.start), dtype=np.int64)
            part, bits = coder.code(rows, block, orders[rows.start])
            streams += part
            ideal = (ideal[0] + bits[0], ideal[1] + bits[1])
    payload = coder.pack(streams, wishes, orders)
    seconds = time.perf_counter() - begin

    raw = sum(checked[name].numel() for name in needed) * 4
    losses, metric = {}, ""
    if answers:
        known = references(model, {**features, **checked}, images, answers)
        losses, flat = losses_of(model, payload, known, answers)
        metric = metric_of(losses, flat)
    details: dict[str, Any] = {
        "images": count,
        "tasks": list(wanted),
        "full_is": "raw fp32 features" if full_bytes is None else "given by the caller",
        "raw_feature_bytes": raw,
        "stream_bytes": sum(len(s) for row in streams for s in row),
        "overhead_bytes": len(payload) - sum(len(s) for row in streams for s in row),
        "task_loss": losses,
        "estimated": [],
    }
    if target_bytes is None:
        details |= {"latent_bits": ideal[0], "side_bits": ideal[1]}
        details["estimated"] = ["latent_bits", "side_bits"]
    return Stream(
        payload,
        Receipt(
            stage="codec",
            unit="bytes",
            spent=len(payload),
            full=raw if full_bytes is None else full_bytes,
            loss=sum(losses.values()) / len(losses) if losses else None,
            loss_metric=metric,
            seconds=seconds,
            details=details,
        ),
        tuple(w.qualities for w in wishes),
    )


def check_asked(
    model: FeatureCodec,
    tasks: Sequence[str] | None = None,
    quality: int | Mapping[str, int] | None = None,
    target_bytes: float | None = None,
    order: Literal["best"] | Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Return the tasks to send, after a look at all that `encode` is asked for.

    For the time before long work: nothing is coded. Arguments and errors are those of `encode`.
    """
    if quality is not None and target_bytes is not None:
        raise ArgumentError(
            f"encode: quality is {quality} and target_bytes {target_bytes}, only one can be met; "
            "leave one out"
        )
    if target_bytes is not None:
        check_bytes("target_bytes", target_bytes, "give quality instead")
    if isinstance(quality, Mapping):
        unknown = [task for task in quality if task not in model.config.tasks]
        if unknown:
            raise ArgumentError(
                f"encode: quality has {unknown}, must have some of {list(model.config.tasks)}; "
                "rename them"
            )
    _ = model.integers
    wanted = check_tasks(model, tasks, "encode")
    if quality is not None:
        Wish.of(asking_tasks(model, wanted), quality)
    _order(model, order)
    return wanted


def _order(model: FeatureCodec, order: Literal["best"] | Sequence[str] | None) -> int | None:
    """Return the number of an order; None for "best"."""
    if order is None:
        return 0
    if not model.integers.conditional:
        raise ArgumentError(
            f"encode: order is {order!r}, which has no effect on a model whose layers have no "
            "parents; leave it out"
        )
    if order == "best":
        return None
    names = [layer.name for layer in model.config.layers]
    numbers = tuple(names.index(name) for name in order if name in names)
    if isinstance(order, str) or numbers not in model.integers.orders or len(order) != len(names):
        own = [names[i] for i in model.integers.orders[0]]
        some = f"hold each of {names} once" if len(model.integers.orders) > 1 else f"be {own}"
        raise ArgumentError(
            f'encode: order is {order!r}, must be "best" or {some}; change it or leave it out'
        )
    return model.integers.orders.index(numbers)


def _runs(orders: list[int]) -> list[slice]:
    """Return runs of images of one order, up to `CODE_AT_ONCE` each."""
    out: list[slice] = []
    start = 0
    for i in range(1, len(orders) + 1):
        if i == len(orders) or orders[i] != orders[start] or i - start == CODE_AT_ONCE:
            out.append(slice(start, i))
            start = i
    return out
