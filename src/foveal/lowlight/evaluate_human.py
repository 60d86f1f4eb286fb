"""How each way to brighten looks beside daylight, on the same noise as what recognisers are shown.

A table of its own: a curve that serves a machine may look worse. See `metrics.human_metrics`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.data.sensor_noise import TRIPLES
from foveal.errors import ArgumentError
from foveal.lowlight.evaluate import check_items, in_the_dark
from foveal.lowlight.metrics import human_metrics
from foveal.lowlight.outcomes import UNTOUCHED, Brighten, Triple
from foveal.stats import Interval, paired_bootstrap

MEASURES = (
    "psnr",
    "ssim",
    "psnr_mean_aligned",
    "ssim_mean_aligned",
    "ciede2000",
    "lightness_order_error",
    "clipped_fraction",
    "entropy",
)
"""Names of `human_metrics`, of which the fifth to seventh are the better the smaller.

"mean_aligned" is a protocol of its own: the picture's mean was set to daylight's first.
"""

MOST_DB = 100.0
"""What an infinite signal-to-noise ratio, that of equal pictures, counts as."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How pictures look under one darkness and one way to brighten.

    Attributes:
        triple: Exposure factor, shot and read noise.
        method: What brightened.
        means: Of each measure, over pictures and draws.
        gains: The same less that of the untouched dark picture, with intervals over groups.
        num_items: Pictures times noise draws.
    """

    triple: Triple
    method: str
    means: dict[str, float]
    gains: dict[str, Interval]
    num_items: int

    def __str__(self) -> str:
        """Return one line of a table."""
        m, gain = self.means, self.gains["psnr"]
        return (
            f"k {self.triple[0]:<6} shot {self.triple[1]:<6} {self.method:<46} "
            f"PSNR {m['psnr']:5.2f} dB ({gain.mean:+.2f}: {gain.low:+.2f} to {gain.high:+.2f})  "
            f"SSIM {m['ssim']:.3f}  mean-aligned {m['psnr_mean_aligned']:5.2f} dB  "
            f"dE {m['ciede2000']:4.1f}  order {m['lightness_order_error']:.3f}  "
            f"clipped {m['clipped_fraction']:.3f}  entropy {m['entropy']:.2f}"
        )


@dataclass(slots=True)
class Looks:
    """Measures under one darkness, as means of groups of pictures.

    Attributes:
        triple: Exposure factor, shot and read noise.
        sizes: Pictures of each group, in the order of the groups' numbers.
        draws: Noise draws a picture.
        values: For each method and measure, the mean of each group's pictures and draws.
    """

    triple: Triple
    sizes: Sequence[int]
    draws: int
    values: dict[str, dict[str, list[float]]] = field(
        default_factory=dict[str, dict[str, list[float]]]
    )

    def __post_init__(self) -> None:
        """Check that all values are of the same groups."""
        for name, measures in self.values.items():
            if {m: len(x) for m, x in measures.items()} != dict.fromkeys(MEASURES, len(self.sizes)):
                raise ArgumentError(
                    f"Looks: {name!r} has {len(measures)} measures, must have {len(MEASURES)} of "
                    f"{len(self.sizes)} groups each"
                )

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of what was judged."""
        return tuple(self.values)

    def difference(self, method: str, other: str, measure: str) -> Interval:
        """Return the paired difference of two methods' means.

        Raises: ArgumentError: a method or measure is not there.
        """
        for name in (method, other):
            if measure not in self.values.get(name, {}):
                raise ArgumentError(
                    f"Looks.difference: {name!r} has no {measure!r}, must be judged by it first"
                )
        groups = [g for g, n in enumerate(self.sizes) for _ in range(n)]
        a, b = ([self.values[x][measure][g] for g in groups] for x in (method, other))
        return paired_bootstrap(a, b, groups=groups)

    def merge(self, other: "Looks") -> None:
        """Take over the methods of another judgement of the same pictures.

        Raises: ArgumentError: the pictures or draws are others.
        """
        mine = (self.triple, list(self.sizes), self.draws)
        if mine != (other.triple, list(other.sizes), other.draws):
            raise ArgumentError(
                f"Looks.merge: other is of other pictures or draws at {other.triple}, must be of "
                "the same; judge it again"
            )
        self.values.update(other.values)

    def summarize(self) -> list[Shown]:
        """Return a row a method."""
        count = sum(self.sizes)
        rows: list[Shown] = []
        for name, measures in self.values.items():
            means = {
                m: sum(x * n for x, n in zip(values, self.sizes, strict=True)) / count
                for m, values in measures.items()
            }
            gains = {m: self.difference(name, UNTOUCHED, m) for m in MEASURES}
            rows.append(Shown(self.triple, name, means, gains, count * self.draws))
        return rows

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads: numbers between spaces, to six digits."""
        return {
            "triple": list(self.triple),
            "values": {
                name: {m: " ".join(f"{x:g}" for x in v) for m, v in measures.items()}
                for name, measures in self.values.items()
            },
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any], sizes: Sequence[int], draws: int) -> "Looks":
        """Read what `to_json` wrote.

        Raises: ArgumentError: it is not of that form.
        """
        try:
            k, shot, read = (float(x) for x in row["triple"])
            values = {
                str(name): {str(m): [float(x) for x in text.split()] for m, text in found.items()}
                for name, found in row["values"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArgumentError(
                f"Looks.from_json: row is not of this form ({error!r}); judge again"
            ) from error
        if not all(math.isfinite(x) for m in values.values() for v in m.values() for x in v):
            raise ArgumentError("Looks.from_json: row holds NaN or infinity; judge again")
        return cls((k, shot, read), sizes, draws, values)


def _kept(value: float) -> float:
    """Six digits: what a file holds."""
    return float(f"{value:g}")


def group_sizes(groups: Sequence[int]) -> list[int]:
    """Return how many pictures each group has, in the order of their numbers."""
    return [list(groups).count(g) for g in sorted(set(groups))]


def look_in_the_dark(
    pictures: Sequence[Float[Tensor, "3 height width"]],
    groups: Sequence[int],
    methods: Mapping[str, Brighten],
    *,
    triples: Sequence[Triple] = TRIPLES,
    draws: int = 5,
    seed: int = 0,
    on_picture: Callable[[Triple, int], None] | None = None,
) -> Iterator[Looks]:
    """Yield, for one darkness after the other, how each method's pictures look beside daylight.

    Arguments, noise, errors and memory as `evaluate.judge_in_the_dark`, of which a recogniser is
    no part here. Pictures must be 11 x 11 or more.

    Cost: pictures x draws x methods, 0.1 to 0.2 s each for 224 x 224 on a core, linear in pixels.
    """
    check_items("look_in_the_dark", pictures, groups, draws)
    order = sorted(set(groups))
    sizes = group_sizes(groups)
    with torch.no_grad():
        for triple in triples:
            sums = {name: {m: [0.0] * len(order) for m in MEASURES} for name in methods}
            for items, dark in in_the_dark(pictures, triple, draws=draws, seed=seed):
                day = torch.stack([pictures[i] for i, _ in items])
                of = [order.index(groups[i]) for i, _ in items]
                for name, way in methods.items():
                    found = human_metrics(way(dark), day)
                    found["psnr"] = found["psnr"].clamp_max(MOST_DB)
                    found["psnr_mean_aligned"] = found["psnr_mean_aligned"].clamp_max(MOST_DB)
                    rows = torch.stack([found[m].float() for m in MEASURES]).tolist()
                    for measure, row in zip(MEASURES, rows, strict=True):
                        for g, value in zip(of, row, strict=True):
                            sums[name][measure][g] += value
                for i, draw in items:
                    if on_picture is not None and draw == draws - 1:
                        on_picture(triple, i)
            values = {
                name: {
                    m: [_kept(x / (n * draws)) for x, n in zip(v, sizes, strict=True)]
                    for m, v in measures.items()
                }
                for name, measures in sums.items()
            }
            yield Looks(triple, sizes, draws, values)
