"""The learned codec over a track: one file an image at every quality, decoded and judged."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from foveal.codec.container import Container, pack, unpack
from foveal.codec.encoding import encode
from foveal.codec.evaluate.points import Point
from foveal.codec.evaluate.track import Track, judge_features
from foveal.codec.model import FeatureCodec
from foveal.codec.rates import QUALITIES
from foveal.codec.stream import decode
from foveal.errors import ArgumentError

STEPS = tuple(range(0, QUALITIES, 7))
"""Qualities of the sweep: 0, 7, ... 63."""

Order = Literal["best"] | Sequence[str] | None


def match(model: FeatureCodec, track: Track) -> dict[str, str]:
    """Return, for each source of a model that a track can give, the track's task.

    Names decide; a model of one source fits a track of one task that is cut.

    Raises: ArgumentError: nothing fits, or a source is of another network than the task.
    """
    cuts = {name: task.cut for name, task in track.tasks.items() if task.cut is not None}
    sources = model.config.sources
    found = {s.name: s.name for s in sources if s.name in cuts}
    if not found and len(sources) == len(cuts) == 1:
        found = {sources[0].name: next(iter(cuts))}
    if not found:
        raise ArgumentError(
            f"match: model has sources {[s.name for s in sources]}, of which {track.name} has "
            f"none: {list(cuts)}; take another track or model"
        )
    for source in sources:
        cut = cuts.get(found.get(source.name, ""))
        if cut is not None and source.sha256 and cut.sha256 and source.sha256 != cut.sha256:
            raise ArgumentError(
                f"match: source {source.name} of the model is of network {source.sha256[:8]}, "
                f"must be of {cut.sha256[:8]} ({cut.teacher}); train it for that network"
            )
    return found


def one_file_each(payload: bytes) -> list[bytes]:
    """Return the file that each image of a payload would be by itself."""
    box = unpack(payload)
    return [
        pack(Container(box.model_id, box.layers, (streams,), (controls,), box.size))
        for streams, controls in zip(box.streams, box.controls, strict=True)
    ]


def _split(total: int, sizes: Sequence[int]) -> list[int]:
    """Return shares of a total that are proportional to sizes, whole numbers with that sum."""
    ends = np.rint(np.cumsum(sizes) * (total / max(1, sum(sizes)))).astype(np.int64)
    return np.diff(ends, prepend=0).tolist()


@torch.no_grad()
def codec_points(
    track: Track,
    model: FeatureCodec,
    features: Mapping[str, Tensor],
    *,
    label: str = "foveal",
    tasks: Sequence[str] | None = None,
    qualities: Sequence[int] = STEPS,
    order: Order = None,
    device: str | torch.device = "cpu",
    batch: int = 64,
    progress: Callable[[int, int | None], None] | None = None,
) -> list[Point]:
    """Code a track's features at every quality, one file an image, and ask for the answers.

    The bytes are those of whole files. Of the streams the share of the side symbols is that of
    their information in the batch, since both kinds share a stream: an estimate, as in a receipt.

    Args:
        track: What is judged.
        model: A finalised codec; it is moved to `device`.
        features: Of every source that the wanted layers take in, for all images of the track.
        label: Of the points.
        tasks: Heads that are sent and judged. Default: all that the track can judge.
        qualities: 0 to 63, one for all tasks.
        order: Of conditional layers, as of `encode`.
        device: Of the transforms and of the frozen rests.
        batch: Images at once.
        progress: Called with qualities done and in all.

    Raises: ArgumentError, ShapeError: as `match`, `encode` and `judge_features`.
    """
    named = match(model, track)
    wanted = [t for t in model.config.tasks if t in named] if tasks is None else list(tasks)
    model = model.to(device)
    count = len(track)
    out: list[Point] = []
    for done, quality in enumerate(qualities):
        sizes: list[int] = []
        side: list[int] = []
        container: list[int] = []
        decoded: dict[str, list[Tensor]] = {task: [] for task in wanted}
        for i in range(0, count, batch):
            part = {name: x[i : i + batch].to(device) for name, x in features.items()}
            stream = encode(model, part, tasks=wanted, quality=quality, order=order)
            files = one_file_each(stream.payload)
            streams = [sum(map(len, row)) for row in unpack(stream.payload).streams]
            bits = stream.receipt.details
            information = bits["latent_bits"] + bits["side_bits"]
            share = bits["side_bits"] / information if information else 0.0
            side += _split(round(share * sum(streams)), streams)
            sizes += streams
            container += [len(f) - n for f, n in zip(files, streams, strict=True)]
            back = decode(model, stream.payload, tasks=wanted, max_symbols=1 << 62)
            for task in wanted:
                decoded[task].append(back[task].cpu())
        answers = {named[task]: torch.cat(parts) for task, parts in decoded.items()}
        sums = judge_features(track, answers, device=device, batch=batch)
        beside = np.array(side, np.int64)
        payload = np.array(sizes, np.int64) - beside
        settings = {"quality": quality}
        out.append(Point(label, settings, payload, beside, np.array(container, np.int64), sums))
        if progress is not None:
            progress(done + 1, len(qualities))
    return out
