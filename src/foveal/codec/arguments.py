"""What encoding and decoding take, checked."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from foveal.codec.config import Head, Layer
from foveal.codec.model import FeatureCodec
from foveal.errors import ArgumentError, ShapeError

MAX_IMAGES = 4096


def wanted_layers(model: FeatureCodec, tasks: Sequence[str]) -> list[Layer]:
    """Return the layers that the heads of some tasks cannot do without."""
    wanted = {name for h in model.config.heads if h.name in tasks for name in h.layers}
    return [layer for layer in model.config.layers if layer.name in wanted]


def needed_sources(model: FeatureCodec, tasks: Sequence[str]) -> tuple[str, ...]:
    """Return the sources that the layers of some tasks are made from."""
    layers = wanted_layers(model, tasks)
    return tuple(dict.fromkeys(name for layer in layers for name in layer.inputs))


def asking_tasks(model: FeatureCodec, wanted: Sequence[str]) -> list[tuple[str, ...]]:
    """Return, of each (layer, task) pair of a model, the wanted tasks whose quality counts.

    A task asks for its own pairs. One that has no pair in a layer that it needs, as one added
    later, asks for all pairs of that layer.
    """
    out: list[tuple[str, ...]] = []
    for layer in model.config.layers:
        readers = [h.name for h in model.config.heads if layer.name in h.layers]
        guests = [task for task in readers if task in wanted and task not in layer.tasks]
        for task in layer.tasks:
            out.append((*([task] if task in wanted else []), *guests))
    return out


def pairs_read(model: FeatureCodec, head: Head) -> list[list[int]]:
    """Return, of each layer that a head cannot do without, the pairs of which one must be on.

    That is the task's own pair; of a task that has none, as one added later, any of the layer's.
    """
    out: list[list[int]] = []
    pairs = model.pairs
    for name in head.layers:
        every = [i for i, (layer, _) in enumerate(pairs) if layer == name]
        out.append([i for i in every if pairs[i][1] == head.name] or every)
    return out


def check_device(where: str, device: str | torch.device) -> torch.device:
    """Return a device that this torch can use.

    Raises:
        ArgumentError: there is no such device here.
    """
    try:
        place = torch.device(device)
        torch.zeros((), device=place)
    except (RuntimeError, AssertionError, ValueError, TypeError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ArgumentError(
            f"{where}: device is {str(device)!r}, which this torch cannot use ({reason}); take "
            "'cpu'"
        ) from error
    return place


def check_bytes(item: str, value: Any, mend: str) -> None:
    """Check a number of bytes, which need not be whole.

    Raises:
        ArgumentError: it is no number, or not positive and finite.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 < float(value) < math.inf:
        kind = "" if number else "a number, "
        raise ArgumentError(
            f"encode: {item} is {value!r}, must be {kind}positive and finite; {mend}"
        )


def check_tasks(model: FeatureCodec, tasks: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """Return the tasks that are wanted, all if None.

    Raises:
        ArgumentError: the model has no such task, or none is named.
    """
    known = model.config.tasks
    if tasks is None:
        return known
    unknown = [task for task in tasks if task not in known]
    if unknown or not tasks or isinstance(tasks, str):
        raise ArgumentError(
            f"{where}: tasks is {tasks!r}, must be a list of some of {list(known)}; train a head "
            "for another task with add_task"
        )
    return tuple(task for task in known if task in tasks)


def check_features(
    model: FeatureCodec, features: Mapping[str, Tensor], needed: Sequence[str]
) -> tuple[dict[str, Tensor], tuple[int, int] | None]:
    """Return the features of the needed sources, checked, and their size if not the model's own."""
    sources = model.config.source_map
    missing = [name for name in needed if name not in features]
    if missing:
        raise ArgumentError(
            f"encode: features has no {missing}, must have {list(needed)}; add them or name "
            "fewer tasks"
        )
    out: dict[str, Tensor] = {}
    sizes: dict[str, tuple[int, int]] = {}
    counts: set[int] = set()
    for name in needed:
        x, source = features[name], sources[name]
        size = (source.height, source.width)
        if not isinstance(x, Tensor):
            raise ArgumentError(
                f"encode: features {name} is a {type(x).__name__}, must be a tensor; take "
                "torch.from_numpy or torch.tensor"
            )
        if not x.dtype.is_floating_point:
            raise ArgumentError(
                f"encode: features {name} has dtype {x.dtype}, must be floating-point; cast it"
            )
        fits = x.ndim == len(source.shape) + 1 and 0 not in x.shape
        if source.kind == "map":
            fits = fits and x.shape[1] == source.channels
            size = (int(x.shape[-2]), int(x.shape[-1])) if fits else size
        else:
            fits = fits and tuple(x.shape[1:]) == source.shape
        if not fits:
            raise ShapeError(
                f"encode: features {name} has shape {tuple(x.shape)}, must be "
                f"(b, {', '.join(map(str, source.shape))}) with b at least 1; add a batch axis or "
                "use the model of that cut point"
            )
        single = x.detach().float()
        if not bool(torch.isfinite(single).all()):
            raise ArgumentError(
                f"encode: features {name} has NaN or infinite values, must be finite in fp32; "
                "check the network that they come from"
            )
        sizes[name] = size
        counts.add(len(x))
        out[name] = single.to(model.device)
    if len(counts) != 1:
        raise ShapeError(
            f"encode: features have batches of {sorted(counts)}, must have one; code them apart"
        )
    if min(counts) > MAX_IMAGES:
        raise ArgumentError(
            f"encode: features has {min(counts)} images, must have at most {MAX_IMAGES}; split it"
        )
    nominal = {name: (sources[name].height, sources[name].width) for name in needed}
    if sizes == nominal:
        return out, None
    different = sorted(set(sizes.values()))
    if len(different) != 1:
        raise ShapeError(
            f"encode: features have sizes {different}, must have those of the model, "
            f"{sorted(set(nominal.values()))}, or one size; resize the images"
        )
    size = different[0]
    for name, own in nominal.items():
        if any(a == 1 != b for a, b in zip(own, size, strict=True)):
            raise ShapeError(
                f"encode: features {name} has size {size}, must have length 1 where the model's "
                f"{own} has; resize it"
            )
    return out, size
