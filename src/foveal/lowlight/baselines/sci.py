"""SCI: a tiny illumination network, trained in stages that a second network calibrates."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.lowlight.baselines.network import LearnedBaseline, Losses, OnStep, Recipe, fit
from foveal.lowlight.baselines.protocol import check_option
from foveal.lowlight.batches import widened
from foveal.lowlight.pictures import Pictures

NUM_STAGES = 3
FIDELITY = 1.5
_FLOOR = 1e-4
_CALIBRATOR_WIDTH, _CALIBRATOR_BLOCKS = 16, 3
_TO_YCBCR = (
    (65.481 / 255, 128.553 / 255, 24.966 / 255),
    (-37.797 / 255, -74.203 / 255, 112.0 / 255),
    (112.0 / 255, -93.786 / 255, -18.214 / 255),
)
"""ITU-R BT.601, full-range RGB to studio-range Y, Cb, Cr; offsets do not matter here."""


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.normal_(layer.weight, 0.0, 0.02)
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer


def _norm(width: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(width)
    nn.init.normal_(layer.weight, 1.0, 0.02)
    return layer


class SCI(LearnedBaseline):
    """What is left for use: three 3 x 3 convolutions of 3 channels; 252 parameters and 6 of a norm.

    The network gives what the illumination is above the picture; the picture is divided by it.

    Source: Ma et al., "Toward Fast, Flexible, and Robust Low-Light Image Enhancement", CVPR 2022,
    arXiv:2204.10137: stages, calibration, loss. Layers as released.
    """

    family: ClassVar[str] = "sci"

    def __init__(self) -> None:
        """Make an untrained network."""
        super().__init__()
        self.first, self.second, self.third = _conv(3, 3), _conv(3, 3), _conv(3, 3)
        self.norm = _norm(3)

    def illumination(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return the illumination of each channel, in [1e-4, 1]."""
        x = F.relu(self.first(images))
        x = x + F.relu(self.norm(self.second(x)))
        return (images + self.third(x).sigmoid()).clamp(_FLOOR, 1)

    def forward(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return brightened images."""
        x = widened("SCI", images).to(self.first.weight.dtype)
        return (x / self.illumination(x)).clamp(0, 1).to(images.dtype)


class Calibrator(nn.Module):
    """From a stage's reflectance to what the next stage's input differs by; training only."""

    def __init__(self) -> None:
        """Make an untrained network."""
        super().__init__()
        width = _CALIBRATOR_WIDTH
        self.head = nn.Sequential(_conv(3, width), _norm(width), nn.ReLU())
        self.block = nn.Sequential(
            _conv(width, width), _norm(width), nn.ReLU(),
            _conv(width, width), _norm(width), nn.ReLU(),
        )  # fmt: skip
        self.tail = _conv(width, 3)

    def forward(self, reflectance: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return the correction; the same block is applied three times."""
        x = self.head(reflectance)
        for _ in range(_CALIBRATOR_BLOCKS):
            x = x + self.block(x)
        return reflectance - self.tail(x).sigmoid()


def smoothness(
    illumination: Float[Tensor, "b 3 h w"], guide: Float[Tensor, "b 3 h w"], *, sigma: float
) -> Float[Tensor, ""]:
    """Weighted total variation over the 24 neighbours of a 5 x 5 window.

    Sum over neighbours j of mean_i w_ij |x_i - x_j|, with
    w_ij = exp(-sum_c (y_ic - y_jc)^2 / (2 sigma^2)), y being the guide in Y, Cb, Cr.
    """
    matrix = torch.tensor(_TO_YCBCR, device=guide.device, dtype=guide.dtype)
    y = torch.einsum("ij,bjhw->bihw", matrix, guide)
    height, width = y.shape[2:]
    total = torch.zeros((), device=y.device, dtype=y.dtype)
    for down in range(3):
        for right in range(-2, 3):
            if down == 0 and right <= 0:
                continue  # half of the window: each pair counts twice
            here = (slice(0, height - down), slice(max(-right, 0), width - max(right, 0)))
            there = (slice(down, height), slice(max(right, 0), width - max(-right, 0)))
            step = (y[..., here[0], here[1]] - y[..., there[0], there[1]]).square()
            weight = (-step.sum(1, keepdim=True) / (2 * sigma**2)).exp()
            change = illumination[..., here[0], here[1]] - illumination[..., there[0], there[1]]
            total = total + 2 * (weight * change.abs()).mean()
    return total


def sci_losses(
    model: SCI, calibrator: Calibrator, dark: Float[Tensor, "b 3 h w"], *, sigma: float
) -> Losses:
    """Return fidelity and smoothness, summed over three stages that share the network.

    Stage t sees v_t = y + s_t, s_0 = 0, s_t = K(y / x_(t-1)); x_t is its illumination. Loss:
    1.5 mean (x_t - v_t)^2 + smoothness(x_t).

    Source: as `SCI`, eqs. 3 to 5. Differs: the reflectance is cut to [0, 1], as released.
    """
    parts: dict[str, Tensor] = {}
    seen = dark
    zero = torch.zeros((), device=dark.device, dtype=dark.dtype)
    for _ in range(NUM_STAGES):
        x = model.illumination(seen)
        fidelity = FIDELITY * F.mse_loss(x, seen)
        parts["fidelity"] = parts.get("fidelity", zero) + fidelity
        parts["smoothness"] = parts.get("smoothness", zero) + smoothness(x, seen, sigma=sigma)
        seen = dark + calibrator((dark / x).clamp(0, 1))
    return parts


def train_sci(
    pictures: Pictures,
    *,
    num_steps: int = 3000,
    batch_size: int = 4,
    size: int = 256,
    learning_rate: float = 3e-4,
    weight_decay: float = 3e-4,
    clip: float = 5.0,
    sigma: float = 10.0,
    seed: int = 0,
    device: str = "cpu",
    on_step: OnStep | None = None,
) -> SCI:
    """Train SCI on dark pictures; no pairs, no labels. The calibrator is thrown away.

    Args:
        pictures: As in `train_zero_dce`; dark ones.
        num_steps: Batches.
        batch_size: Pictures a step; 1 as published.
        size: Side of the random squares that are learned from, in pixels, at least 32.
        learning_rate: Of Adam.
        weight_decay: Of Adam.
        clip: Largest norm of a gradient.
        sigma: Of the smoothness weights. With 10, as released, all weights are 1 within 1e-2, since
            values are in [0, 1]; 0.1 spares edges.
        seed: Of the initialization, the cuts and the order. On a GPU sums may differ in the last
            bits.
        device: Such as "cpu" or "cuda".
        on_step: Called after each step, for progress or to stop by raising.

    Raises:
        ArgumentError: a setting or picture is bad, or training diverged.

    Source: as `SCI`; learning rate, decay, clip and sigma as released. How bright it makes pictures
    depends on how dark those were that it learned from: the authors ship three weights.
    Memory: one batch; 5.2 KB a pixel of it (measured on a CPU).
    """
    check_option("train_sci", "sigma", sigma, 1e-3, 1e6)
    recipe = Recipe(num_steps, batch_size, size, learning_rate, weight_decay, clip, seed, device)
    recipe.check("train_sci")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, calibrator = SCI().to(device), Calibrator().to(device)
    model.train()

    def losses(dark: Tensor) -> Losses:
        return sci_losses(model, calibrator, dark, sigma=sigma)

    both = [*model.parameters(), *calibrator.parameters()]
    fit("train_sci", pictures, recipe, both, losses, on_step)
    return model.eval().requires_grad_(False)
