"""What a frozen flow network still sees of motion in the dark, by each way to brighten."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from foveal.data.sensor_noise import TRIPLES, Shot, shoot
from foveal.errors import ArgumentError
from foveal.lowlight.evaluate import fixed_methods
from foveal.lowlight.outcomes import BEST_FIXED, FIXED, UNTOUCHED, Brighten, Triple
from foveal.stats import Interval, paired_bootstrap

CEILING = "best reciprocal, clip by clip"
DAYLIGHT = "daylight"
NO_MOTION = "no motion at all"
OUTLIER = 3.0
"""Pixels that an answer may be off."""
_MOST_PIXELS = {"cpu": 1 << 19}
_MOST_PIXELS_ELSEWHERE = 1 << 23


@runtime_checkable
class FlowRecognizer(Protocol):
    """Tells motion; `foveal.teachers.flow.FlowNet` does."""

    def __call__(self, clip: Tensor) -> Tensor:
        """Return the flow (b, 2, t - 1, h, w), in pixels, of clips (b, 3, t, h, w)."""
        ...


@dataclass(frozen=True, slots=True)
class FlowSeen:
    """How far the flow is off under one darkness and one way to brighten; all errors in pixels.

    Attributes:
        triple: Exposure factor, shot and read noise.
        method: What brightened.
        error: Mean end-point error against the true flow, over all pixels.
        error_valid: The same over pixels that are seen in both frames, of the clips that have such;
            NaN if none has.
        outliers: Share of pixels that are more than `OUTLIER` off.
        departure: Mean distance from the network's own answer by daylight.
        gain: Error of the untouched dark clip less that of this method, with its interval: more is
            better.
        gain_in_departure: The same of `departure`.
        against_best: Error of the best fixed reciprocal curve, which is chosen on these very clips,
            less that of this method.
        num_items: Clips times noise draws.
    """

    triple: Triple
    method: str
    error: float
    error_valid: float
    outliers: float
    departure: float
    gain: Interval
    gain_in_departure: Interval
    against_best: Interval
    num_items: int

    def __str__(self) -> str:
        """Return one line of a table."""
        return (
            f"k {self.triple[0]:<6} shot {self.triple[1]:<6} {self.method:<46} "
            f"{self.error:6.2f} px  gain {self.gain.mean:+5.2f} "
            f"({self.gain.low:+.2f} to {self.gain.high:+.2f})"
        )


@dataclass(frozen=True, slots=True)
class FlowClip:
    """A daylight clip and how it truly moves.

    Args:
        frames: sRGB in [0, 1].
        flow: From each frame to the next, right and down, in pixels.
        valid: Pixels that are seen in both frames.
        group: Clips of one group, such as of one photograph, are resampled together.
    """

    frames: Float[Tensor, "t 3 h w"]
    flow: Float[Tensor, "t1 2 h w"]
    valid: Bool[Tensor, "t1 h w"]
    group: int


def evaluate_flow(
    model: FlowRecognizer,
    clips: Sequence[FlowClip],
    methods: Mapping[str, Brighten],
    *,
    triples: Sequence[Triple] = TRIPLES,
    draws: int = 1,
    seed: int = 0,
    on_clip: Callable[[Triple, int], None] | None = None,
) -> Iterator[list[FlowSeen]]:
    """Yield, for one darkness after the other, how far each method leaves the flow off.

    Beside `methods` there are the untouched clip, the nine reciprocal curves of the ensemble, the
    best of these for all clips and for each clip (both in hindsight), the clip by daylight, and the
    answer that nothing moves. All see the same noise; each frame has its own.

    Args:
        model: Frozen.
        clips: Daylight clips with their true flow; all of one size and length.
        methods: Ways to brighten, (b, 3, height, width) to the same, under names of their own. A
            clip is given as one picture of its frames below each other, so that each clip has one
            curve.
        triples: Exposure factor, shot and read noise.
        draws: Noise draws a clip.
        seed: Of the noise.
        on_clip: Called with the darkness and the number of the clip that is done.

    Raises: ArgumentError: nothing to judge, clips that do not fit each other, a method with a name
        that is taken or that changes the size, or a model whose answer is no finite flow.
    Cost: clips x draws x (methods + 10) passes a darkness; memory: that of up to 0.5 megapixels of
        frames at once on a CPU and 8 elsewhere, one clip at least.
    """
    _check(clips, draws)
    own = {*fixed_methods(), BEST_FIXED, CEILING, DAYLIGHT, NO_MOTION}
    if taken := sorted(own & set(methods)):
        raise ArgumentError(
            f"evaluate_flow: methods has {taken}, must have names of their own; these are judged "
            "in any case"
        )
    ways = {**fixed_methods(), **methods}
    with torch.no_grad():
        days = [_answer(model, clip.frames[None])[0] for clip in clips]
        for triple in triples:
            rows: dict[str, list[tuple[float, ...]]] = {
                name: [] for name in (*ways, DAYLIGHT, NO_MOTION)
            }
            for i, (clip, day) in enumerate(zip(clips, days, strict=True)):
                for draw in range(draws):
                    dark = in_the_dark(clip.frames, triple, seed=seed + 1_000_003 * draw + 101 * i)
                    answers = _answers(model, [_brighten(way, dark) for way in ways.values()])
                    nothing = torch.zeros_like(day)
                    for name, found in zip(rows, [*answers, day, nothing], strict=True):
                        rows[name].append(_errors(found, clip, day))
                if on_clip is not None:
                    on_clip(triple, i)
            groups = [clip.group for clip in clips for _ in range(draws)]
            yield _table(triple, rows, groups)


def in_the_dark(
    frames: Float[Tensor, "t 3 h w"], triple: Triple, *, seed: int
) -> Float[Tensor, "t 3 h w"]:
    """Return a clip as taken in the dark: one darkness, other noise in each frame.

    Args:
        frames: Daylight.
        triple: Exposure factor, shot and read noise.
        seed: Of the noise; frame i has seed + i.
    """
    return shoot(frames, [Shot.of_triple(triple, seed=seed + i) for i in range(len(frames))])


def _brighten(way: Brighten, dark: Tensor) -> Tensor:
    """Brighten a clip (t, 3, h, w) by one curve."""
    stacked = dark.transpose(0, 1).flatten(1, 2)[None]
    lit = way(stacked)
    if lit.shape != stacked.shape:
        raise ArgumentError(
            f"evaluate_flow: a method made {tuple(lit.shape)} of {tuple(stacked.shape)}, must keep "
            "the size"
        )
    return lit[0].unflatten(1, (len(dark), -1)).transpose(0, 1)


def _answer(model: FlowRecognizer, clips: Tensor) -> Tensor:
    """Return the flow (b, t - 1, 2, h, w) of clips (b, t, 3, h, w)."""
    flow = model(clips.transpose(1, 2))
    b, t, _, height, width = clips.shape
    if flow.shape != (b, 2, t - 1, height, width) or not bool(torch.isfinite(flow).all()):
        raise ArgumentError(
            f"evaluate_flow: model returned {tuple(flow.shape)}, must be flow of "
            f"{(b, 2, t - 1, height, width)} in pixels, all finite"
        )
    return flow.transpose(1, 2).float()


def _answers(model: FlowRecognizer, clips: list[Tensor]) -> list[Tensor]:
    most = _MOST_PIXELS.get(clips[0].device.type, _MOST_PIXELS_ELSEWHERE)
    step = max(1, most // clips[0][:, 0].numel())
    parts = [clips[i : i + step] for i in range(0, len(clips), step)]
    return [flow for part in parts for flow in _answer(model, torch.stack(part))]


def _errors(found: Tensor, clip: FlowClip, day: Tensor) -> tuple[float, ...]:
    """Return error, that of valid pixels (NaN: none), outliers, departure from the day's answer."""
    off = (found - clip.flow).norm(dim=1)
    seen = clip.valid
    both = off[seen].mean()
    values = (off.mean(), both, (off > OUTLIER).float().mean(), (found - day).norm(dim=1).mean())
    return tuple(torch.stack(values).tolist())


def _table(
    triple: Triple, rows: dict[str, list[tuple[float, ...]]], groups: list[int]
) -> list[FlowSeen]:
    """Sum up one darkness."""
    best = min(FIXED, key=lambda name: sum(row[0] for row in rows[name]))
    rows = {**rows, BEST_FIXED: rows[best]}
    rows[CEILING] = [min(column) for column in zip(*(rows[name] for name in FIXED), strict=True)]
    columns = {name: list(zip(*found, strict=True)) for name, found in rows.items()}
    dark, bound = columns[UNTOUCHED], columns[best]
    table: list[FlowSeen] = []
    for name, column in columns.items():
        means = [_mean(values) for values in column]
        table.append(
            FlowSeen(
                triple,
                name,
                error=means[0],
                error_valid=means[1],
                outliers=means[2],
                departure=means[3],
                gain=paired_bootstrap(dark[0], column[0], groups=groups),
                gain_in_departure=paired_bootstrap(dark[3], column[3], groups=groups),
                against_best=paired_bootstrap(bound[0], column[0], groups=groups),
                num_items=len(groups),
            )
        )
    return table


def _mean(values: Sequence[float]) -> float:
    """Mean of all but NaN; NaN if there is nothing else."""
    known = [x for x in values if not math.isnan(x)]
    return sum(known) / len(known) if known else math.nan


def _check(clips: Sequence[FlowClip], draws: int) -> None:
    if not clips:
        raise ArgumentError("evaluate_flow: clips is empty, must be one clip at least")
    if draws < 1:
        raise ArgumentError(f"evaluate_flow: draws is {draws}, must be >= 1")
    shape = tuple(clips[0].frames.shape)
    t, *_, height, width = shape
    for i, clip in enumerate(clips):
        shapes = tuple(tuple(x.shape) for x in (clip.frames, clip.flow, clip.valid))
        wanted = ((t, 3, height, width), (t - 1, 2, height, width), (t - 1, height, width))
        if t < 2 or shapes != wanted:
            raise ArgumentError(
                f"evaluate_flow: clips[{i}] has shapes {shapes}, must be {wanted} with t >= 2, "
                "alike for all clips"
            )
        if not bool(torch.isfinite(clip.flow).all()):
            raise ArgumentError(
                f"evaluate_flow: clips[{i}] has a flow with NaN or infinity, must be finite; mark "
                "unknown pixels in valid and set their flow to 0"
            )
