"""What a payload costs in quality: answers to decoded features beside those to the true ones."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from foveal.codec.decoding import decode
from foveal.codec.model import FeatureCodec
from foveal.codec.sources import network_of, work_out
from foveal.errors import ArgumentError

AT_ONCE = 64

Answer = Callable[[Tensor], Tensor]
Answers = Answer | Mapping[str, Answer]


def answers_of(
    model: FeatureCodec, tasks: tuple[str, ...], head: Answers | None, measure: bool
) -> dict[str, Answer]:
    """Return what answers to the features of each task; nothing if nothing is to be measured.

    Raises:
        ArgumentError: both ways are asked for, the model names no network, or one function is
            given for many tasks.
    """
    if head is not None and measure:
        raise ArgumentError(
            "encode: measure is True and head is given, only one can answer; leave one out"
        )
    if measure:
        named = [task for task in tasks if model.config.source_map[task].teacher]
        if not named:
            raise ArgumentError(
                f"encode: measure is True, must be False where the model names no network of "
                f"{list(tasks)}; give head"
            )
        return {task: network_of(model, task).decode for task in named}
    if head is None:
        return {}
    if isinstance(head, Mapping):
        return {task: head[task] for task in tasks if task in head}
    if len(tasks) != 1:
        raise ArgumentError(
            f"encode: head is one function, must be a dict for {list(tasks)}; name the tasks"
        )
    return {tasks[0]: head}


def references(
    model: FeatureCodec,
    features: Mapping[str, Tensor],
    images: Tensor | None,
    answers: Mapping[str, Answer],
) -> dict[str, Tensor]:
    """Return the true features of the tasks that answer, as far as they can be known.

    Those of a task that came later are no part of the stream: they are known if they were given,
    or if images were given and the model names its network.
    """
    known = {task: features[task] for task in answers if task in features}
    if images is None:
        return known
    rest = [t for t in answers if t not in known and model.config.source_map[t].teacher]
    return {**known, **work_out(model, images, rest)}


@torch.no_grad()
def losses_of(
    model: FeatureCodec,
    payload: bytes,
    features: Mapping[str, Tensor],
    answers: Mapping[str, Answer],
) -> tuple[dict[str, float], set[str]]:
    """Return the loss of each task, and the tasks whose answers are logits.

    Logits: the share of images whose best class is another. Maps: the root of the squared error
    over the spread of the answer to the true features.
    """
    if not features:
        return {}, set()
    decoded = decode(model, payload, tasks=tuple(features), max_symbols=1 << 62)
    losses: dict[str, float] = {}
    flat: set[str] = set()
    for task, true in features.items():
        wrong, error, total, squares, count = 0, 0.0, 0.0, 0.0, 0
        parts = zip(true.split(AT_ONCE), decoded[task].split(AT_ONCE), strict=True)
        for x, y in parts:
            wanted = answers[task](x.to(model.device, torch.float32)).double()
            got = answers[task](y).double()
            if wanted.ndim == 2:
                flat.add(task)
                wrong += int((wanted.argmax(1) != got.argmax(1)).sum())
            error += float((wanted - got).square().sum())
            total += float(wanted.sum())
            squares += float(wanted.square().sum())
            count += wanted.numel()
        spread = max(squares - total * total / max(count, 1), 1e-30)
        losses[task] = wrong / len(true) if task in flat else (error / spread) ** 0.5
    return losses, flat


def metric_of(losses: Mapping[str, float], flat: set[str]) -> str:
    """Say what the mean of these losses is."""
    kinds = {task in flat for task in losses}
    kind = {
        frozenset({True}): "top-1 disagreement",
        frozenset({False}): "relative error",
        frozenset({True, False}): "top-1 disagreement, or relative error of maps,",
    }.get(frozenset(kinds))
    if kind is None:
        return ""
    start = "mean over tasks of: " if len(losses) > 1 else ""
    return f"{start}{kind} with the answer to uncompressed features"
