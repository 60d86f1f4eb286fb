"""What the gate says of dark pictures, and ways to brighten that denoise first or only if it helps.

denoiser, gate = Denoiser(), Gate()
methods = {"denoised": DenoiseFirst(curve, denoiser), "auto": AutoGate(curve, denoiser, gate)}
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.errors import UnsupportedError
from foveal.lowlight.denoise import denoise
from foveal.lowlight.evaluate import in_the_dark
from foveal.lowlight.outcomes import Brighten, Triple
from foveal.lowlight.regimes import Regime, judge


class Denoiser:
    """Denoise batches, picture by picture; the last batch is kept for the next curve.

    A picture whose noise cannot be estimated stays as it is.
    """

    def __init__(self) -> None:
        """Start without a batch."""
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return denoised images."""
        if self._last is None or self._last[0] is not images:
            self._last = images, torch.stack([_denoised(x) for x in images])
        return self._last[1]


def _denoised(image: Tensor) -> Tensor:
    try:
        return denoise(image)
    except UnsupportedError:
        return image


class Gate:
    """`judge` each picture of a batch; the last batch's verdicts are kept for the next curve."""

    def __init__(self) -> None:
        """Start without a batch."""
        self._last: tuple[Tensor, list[Regime]] | None = None

    def __call__(self, images: Float[Tensor, "b 3 height width"]) -> list[Regime]:
        """Return each picture's regime."""
        if self._last is None or self._last[0] is not images:
            self._last = images, [_regime(x) for x in images]
        return self._last[1]


def _regime(image: Tensor) -> Regime:
    return judge(image.cpu()).regime  # many small steps, in which a GPU only waits


@dataclass(frozen=True)
class DenoiseFirst:
    """Denoise, then brighten.

    Attributes:
        curve: What brightens the clean pictures, (b, 3, h, w) to the same.
        denoiser: One for several curves denoises each batch once.
    """

    curve: Brighten
    denoiser: Denoiser

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return brightened images."""
        return self.curve(self.denoiser(images))


@dataclass(frozen=True)
class AutoGate:
    """`lowlight.auto` of batches: untouched where light is enough, denoised where noise limits.

    Attributes:
        curve: What brightens, (b, 3, h, w) to the same.
        denoiser, gate: One of each for several curves works on each batch once.
    """

    curve: Brighten
    denoiser: Denoiser
    gate: Gate

    def __call__(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return gated images."""
        regimes = self.gate(images)
        clean = self.denoiser(images) if "noise-limited" in regimes else images
        chosen = [
            c if r == "noise-limited" else x for x, c, r in zip(images, clean, regimes, strict=True)
        ]
        bright = self.curve(torch.stack(chosen))
        lit = [r == "well-lit" for r in regimes]
        return torch.where(
            torch.tensor(lit, device=images.device)[:, None, None, None], images, bright
        )


def count_regimes(
    pictures: Sequence[Float[Tensor, "3 height width"]], triple: Triple, *, seed: int = 0
) -> dict[str, int]:
    """Count what `judge` says of each picture in the dark, on the first noise draw.

    The noise is that of the same seed in `evaluate.judge_in_the_dark`.

    Cost: about 50 ms a picture of 224 x 224 on a core.
    """
    found = Counter(
        _regime(x) for _, dark in in_the_dark(pictures, triple, draws=1, seed=seed) for x in dark
    )
    return {regime: found[regime] for regime in get_args(Regime)}
