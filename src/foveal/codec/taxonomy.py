"""What tasks have in common, by their bytes: subsets, transfer between tasks, and orders.

Source: Yang et al., arXiv:2110.09241, and Hu et al., arXiv:2106.08512, study how tasks of different
levels of abstraction relate under a rate; an order of tasks per model is the idea of TAMC (ICLR
2025), one per image that of ATDC (CVPR 2026). The searches here are ours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from foveal.codec.arguments import check_features
from foveal.codec.encoding import Coder, encode
from foveal.codec.integer_model import IntegerModel, Ints
from foveal.codec.model import FeatureCodec
from foveal.codec.stream import decode, split
from foveal.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class SubsetRow:
    """What sending some of the tasks costs.

    Args:
        tasks: The tasks.
        bytes: Bytes of each image's own file.
        features: Decoded features of each task.
    """

    tasks: tuple[str, ...]
    bytes: tuple[int, ...]
    features: dict[str, Tensor]


def subsets(
    model: FeatureCodec, features: Mapping[str, Tensor], *, quality: int = 40
) -> list[SubsetRow]:
    """Code every non-empty subset of a model's own tasks, at one quality.

    Args:
        model: A finalised codec; its external tasks have no rate of their own and are left out.
        features: Features of all its sources.
        quality: Of all wanted tasks.

    Returns: A row per subset, small ones first. Their number is 2^tasks - 1.

    Raises:
        ArgumentError: there are more than 10 tasks, or as `encode`.
    """
    own = tuple(head.name for head in model.config.heads if not head.external)
    if len(own) > 10:
        raise ArgumentError(
            f"subsets: model has {len(own)} tasks, must have at most 10; code the subsets that "
            "matter with encode(tasks=...)"
        )
    rows: list[SubsetRow] = []
    for size in range(1, len(own) + 1):
        for tasks in combinations(own, size):
            payload = encode(model, features, tasks=tasks, quality=quality).payload
            sizes = tuple(len(one) for one in split(payload))
            rows.append(SubsetRow(tasks, sizes, decode(model, payload, tasks=tasks)))
    return rows


def transfer_matrix(
    streams: Mapping[str, FeatureCodec],
    probes: Mapping[str, Callable[[FeatureCodec], float]],
) -> dict[str, dict[str, float]]:
    """Return how well the stream of each task serves each other task.

    Args:
        streams: By task, a codec that was trained for it alone.
        probes: By task, a function that trains a head on a frozen stream (`add_task`, with the
            same budget for all) and returns the task's score on held-out images.

    Returns: Score by stream and probe.
    """
    return {
        name: {task: probe(stream) for task, probe in probes.items()}
        for name, stream in streams.items()
    }


def order_costs(
    model: FeatureCodec, features: Mapping[str, Tensor], *, quality: int = 40
) -> dict[tuple[int, frozenset[int]], Ints]:
    """Return the stream bytes of each layer given each subset of the others, per image.

    Latents of the others are taken as coded by themselves. The work grows with 2^layers.

    Args:
        model: A finalised conditional codec.
        features: Features of all its sources.
        quality: Of all tasks.
    """
    layers = list(model.config.layers)
    needed = tuple(dict.fromkeys(name for layer in layers for name in layer.inputs))
    checked, size = check_features(model, features, needed)
    coder = Coder(model, checked, layers, size)
    count = len(next(iter(checked.values())))
    wanted = np.full((count, model.integers.pairs), quality, dtype=np.int64)
    everyone = slice(0, count)
    alone = {n: coder.layer(n, everyone, wanted, {})[1] for n in coder.numbers}
    costs: dict[tuple[int, frozenset[int]], Ints] = {}
    for number in coder.numbers:
        others = [n for n in coder.numbers if n != number]
        for size_of_set in range(len(others) + 1):
            for chosen in combinations(others, size_of_set):
                known = {n: alone[n] for n in chosen}
                streams = coder.layer(number, everyone, wanted, known)[0]
                costs[number, frozenset(chosen)] = np.array([len(s) for s in streams])
    return costs


def cheapest_order(costs: Mapping[tuple[int, frozenset[int]], float]) -> tuple[int, ...]:
    """Return the order of layers with the least sum of costs, by dynamic programming over subsets.

    Args:
        costs: Cost of each layer given each subset of the others.
    """
    numbers = sorted({number for number, _ in costs})
    best: dict[frozenset[int], tuple[float, tuple[int, ...]]] = {frozenset(): (0.0, ())}
    for size in range(1, len(numbers) + 1):
        for chosen in combinations(numbers, size):
            options: list[tuple[float, tuple[int, ...]]] = []
            for last in chosen:
                rest = frozenset(chosen) - {last}
                options.append((best[rest][0] + costs[last, rest], (*best[rest][1], last)))
            best[frozenset(chosen)] = min(options)
    return best[frozenset(numbers)][1]


@torch.no_grad()
def learn_order(
    model: FeatureCodec, features: Mapping[str, Tensor], *, quality: int = 40
) -> tuple[str, ...]:
    """Give a conditional codec the order that costs the fewest bytes over training images.

    The order belongs to the meaning of a stream, so the model's id changes.

    Args:
        model: A finalised conditional codec; changed in place.
        features: Features of all its sources for training images.
        quality: Of all tasks.

    Returns: Names of the layers in the new order.

    Raises:
        ArgumentError: no layer of the model has parents.
    """
    if not model.config.conditional:
        raise ArgumentError(
            "learn_order: model has no layer with parents, must be conditional; build it with "
            "schemes.conditional"
        )
    costs = order_costs(model, features, quality=quality)
    found = cheapest_order({key: float(value.sum()) for key, value in costs.items()})
    names = tuple(model.config.layers[number].name for number in found)
    model.config = replace(model.config, order=names)
    model.adopt(IntegerModel(model.integers.layers, found))
    return names
