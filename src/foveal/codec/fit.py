"""A codec for the user's own frozen networks, from pictures alone."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.codec import schemes
from foveal.codec.arguments import check_device
from foveal.codec.config import Source
from foveal.codec.encoding import encode
from foveal.codec.external import Network, answer_distance, check_network, source_of
from foveal.codec.model import FeatureCodec
from foveal.codec.saving import save_somewhere, try_place
from foveal.codec.sources import placed
from foveal.codec.stream import decode, split
from foveal.codec.training import Objective, TrainLog, TrainOptions, train
from foveal.errors import ArgumentError, ShapeError

SchemeName = Literal["separate", "joint", "conditional"]
SCHEMES = {
    "separate": schemes.separate,
    "joint": schemes.joint,
    "conditional": schemes.conditional,
}
JUDGED = (0, 16, 32, 48, 63)
MAX_BYTES = 8 << 30
LEAST_UNIT = 1e-9
_AT_ONCE = 16
_JUDGED_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class FitRow:
    """How a fitted codec does on pictures that it did not see.

    Args:
        quality: Of all tasks.
        bytes: Mean bytes of one picture's own file.
        distance: Per task the mean distance of the answer from that to the uncompressed features,
            as a share of the distance of the answer to mean features (1 says nothing).
        agreement: Per task whose answer is logits, the share of equal best classes.
    """

    quality: int
    bytes: float
    distance: dict[str, float]
    agreement: dict[str, float]


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted codec.

    Args:
        model: Finalised.
        log: Of the training.
        rows: On held-out pictures, by quality.
        held_out: Their number.
        saved: Where the model was written; None if it was not asked for, or nothing can be written.
        problem: Why that is not the target; empty if it is.
    """

    model: FeatureCodec
    log: TrainLog
    rows: list[FitRow] = field(default_factory=list[FitRow])
    held_out: int = 0
    saved: Path | None = None
    problem: str = ""


@torch.no_grad()
def collect(
    networks: Mapping[str, Network],
    images: Iterable[Float[Tensor, "3 height width"]],
    device: torch.device,
    *,
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Tensor]:
    """Return the features of all networks, fp16, on the CPU; pictures are read a few at a time.

    Raises:
        ArgumentError: there are no pictures, or their features do not fit into 8 GiB.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in networks}
    done, spent = 0, 0
    batch: list[Tensor] = []

    def flush() -> None:
        nonlocal spent
        for name, network in networks.items():
            _check_sizes(name, network, batch)
            ready: Any = getattr(network, "preprocess", None)
            placed = [
                x[None].to(device) if ready is None else ready(x[None].to(device)) for x in batch
            ]
            value = network.encode(torch.cat(placed)).half().cpu()
            spent += value.numel() * 2
            parts[name].append(value)
        batch.clear()
        if spent > MAX_BYTES:
            raise ArgumentError(
                f"fit: features of {done} pictures take {spent >> 20} MiB, must be within "
                f"{MAX_BYTES >> 20}; give fewer pictures or cut the networks later"
            )

    for image in images:
        if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise ShapeError(
                f"fit: images has shape {tuple(image.shape)} at {done}, must be (3, height, "
                "width) each; give one picture at a time"
            )
        batch.append(image)
        done += 1
        if len(batch) == _AT_ONCE:
            flush()
        if progress is not None:
            progress(done, None)
    if batch:
        flush()
    if done < 4:
        raise ArgumentError(f"fit: images has {done} pictures, must have at least 4; add pictures")
    return {name: torch.cat(values) for name, values in parts.items()}


def _check_sizes(name: str, network: Network, batch: Sequence[Tensor]) -> None:
    sizes = sorted({tuple(x.shape[1:]) for x in batch})
    if len(sizes) > 1 and getattr(network, "preprocess", None) is None:
        raise ShapeError(
            f"fit: images have sizes {sizes}, must have one for the network of {name}, which has "
            "no preprocess; resize them or add the method"
        )


def fit(
    networks: Mapping[str, Network],
    images: Iterable[Float[Tensor, "3 height width"]],
    *,
    scheme: SchemeName = "joint",
    sizes: schemes.Sizes | None = None,
    distance: Callable[[Tensor, Tensor], Float[Tensor, "b"]] = answer_distance,
    options: TrainOptions | None = None,
    held_out: float = 0.1,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int | None], None] | None = None,
    checkpoint: str | Path | None = None,
    target: str | Path | None = None,
) -> Fit:
    """Train a codec for the features of frozen networks, without labels.

    Features are worked out once and kept in memory (fp16): 2 bytes a number and picture.

    Args:
        networks: By task: `encode` gives features [b, c, h, w], [b, c] or [b, length, c], `decode`
            the answer from them; `preprocess` (optional) brings a picture of any size into the
            network's. Modules are frozen, and what has a method `to` is moved.
        images: sRGB in [0, 1], any sizes that the networks take; read once. Random crops make more
            of few pictures: give each several times, cut otherwise. The last ones judge.
        scheme: "joint": one stream for all tasks; "separate"; "conditional".
        sizes: Of transforms and prior.
        distance: (answer, wanted answer) -> distance of each image.
        options: Of the training.
        held_out: Share of the pictures, the last ones, that judge and are not trained on.
        device: Where to train.
        progress: Called with steps done and in all.
        checkpoint: File to write now and then and to go on from.
        target: Model file (.safetensors) to write. It is tried in its full size before the
            training. If it cannot be written after it, another place is taken: see `Fit.saved`.

    Returns: The codec, its log, and its bytes and distances on the held-out pictures.

    Raises:
        ArgumentError: there is no network, a wrong scheme, size or device, too few pictures,
            pictures whose answers are all alike, or a target that cannot be written.
        ShapeError: a picture is not (3, height, width), or sizes differ and a network has no
            `preprocess`.
    """
    if not networks or scheme not in SCHEMES or not 0 <= held_out < 1:
        raise ArgumentError(
            f"fit: networks is {list(networks)}, scheme {scheme!r}, held_out {held_out}, must be "
            f"at least one, one of {list(SCHEMES)} and within [0, 1); change them"
        )
    for name, network in networks.items():
        check_network(f"fit: network of {name}", network)
    SCHEMES[scheme]([Source(name, 1) for name in networks], sizes or schemes.Sizes())  # its errors
    place = check_device("fit", device)
    for network in networks.values():
        placed(network, place, freeze=True)
    features = collect(networks, images, place)
    count = len(next(iter(features.values())))
    kept = min(count - 2, math.ceil(count * held_out)) if held_out > 0 else 0
    training = {name: value[: count - kept] for name, value in features.items()}
    sources = [source_of(name, x, networks[name]) for name, x in training.items()]
    generator = torch.Generator().manual_seed((options or TrainOptions()).seed)
    torch.manual_seed((options or TrainOptions()).seed)
    model = FeatureCodec(SCHEMES[scheme](sources, sizes or schemes.Sizes())).to(place)
    some = torch.randperm(count - kept, generator=generator)[:1024]
    start = {name: value[some].to(place, torch.float32) for name, value in training.items()}
    model.start(start)
    objectives = {
        name: _objective(name, networks[name], distance, start[name][:64]) for name in networks
    }

    def batches(size: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(count - kept, (size,), generator=generator)
        return {name: value[index].to(place, torch.float32) for name, value in training.items()}

    chosen = options or TrainOptions(warm_up=0.0)
    if target is not None:
        try_place(model, Path(target))
    log = train(model, batches, objectives, chosen, progress=progress, checkpoint=checkpoint)
    model.finalise(start)
    saved, problem = (None, "") if target is None else save_somewhere(model, Path(target))
    if kept == 0:
        return Fit(model, log, saved=saved, problem=problem)
    judged = {name: value[count - kept :] for name, value in features.items()}
    return Fit(model, log, judge(model, networks, objectives, judged), kept, saved, problem)


def _objective(
    name: str,
    network: Network,
    distance: Callable[[Tensor, Tensor], Float[Tensor, "b"]],
    sample: Tensor,
) -> Objective:
    with torch.no_grad():
        mean = sample.mean(0, keepdim=True).expand_as(sample)
        far = float(distance(network.decode(mean), network.decode(sample)).mean())
    if not far > LEAST_UNIT:
        raise ArgumentError(
            f"fit: images have answers of {name} that lie {far:.1e} from that to mean features, "
            f"must lie more than {LEAST_UNIT:.0e}; give pictures that differ, or another distance"
        )
    return Objective(network.decode, distance, unit=far)


@torch.no_grad()
def judge(
    model: FeatureCodec,
    networks: Mapping[str, Network],
    objectives: Mapping[str, Objective],
    features: Mapping[str, Tensor],
    qualities: Sequence[int] = JUDGED,
) -> list[FitRow]:
    """Return bytes, distances and agreement at each quality, of real files, in parts."""
    count = len(next(iter(features.values())))
    rows: list[FitRow] = []
    for quality in qualities:
        total, far, same = 0, dict.fromkeys(networks, 0.0), dict[str, int]()
        for start in range(0, count, _JUDGED_AT_ONCE):
            part = {k: v[start : start + _JUDGED_AT_ONCE].float() for k, v in features.items()}
            payload = encode(model, part, quality=quality).payload
            total += sum(len(one) for one in split(payload))
            decoded = decode(model, payload, max_symbols=1 << 40)
            for name, network in networks.items():
                wanted = _answers(network, part[name], model.device)
                got = _answers(network, decoded[name], model.device)
                far[name] += float(objectives[name].distance(got, wanted).double().sum())
                if got.ndim == 2:
                    equal = int((got.argmax(1) == wanted.argmax(1)).sum())
                    same[name] = same.get(name, 0) + equal
        distance = {k: v / count / objectives[k].unit for k, v in far.items()}
        agreement = {k: v / count for k, v in same.items()}
        rows.append(FitRow(quality, total / count, distance, agreement))
    return rows


def _answers(network: Network, features: Tensor, device: torch.device) -> Tensor:
    return torch.cat([network.decode(x.to(device)) for x in features.split(_AT_ONCE)])
