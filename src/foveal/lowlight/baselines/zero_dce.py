"""Zero-DCE: eight quadratic curves a pixel, learned without any reference."""

from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.lowlight.baselines.network import LearnedBaseline, Losses, OnStep, Recipe, fit
from foveal.lowlight.batches import widened
from foveal.lowlight.pictures import Pictures

NUM_CURVES = 8
_WIDTH = 32
WEIGHTS = {"exposure": 10.0, "color": 5.0, "spatial": 1.0, "smoothness": 200.0}
"""Of the four losses, as released."""
WELL_EXPOSED = 0.6
_PATCH, _REGION = 16, 4


class ZeroDCE(LearnedBaseline):
    """DCE-Net: seven 3 x 3 convolutions of 32 channels, joined symmetrically; 79,416 parameters.

    x <- x + A_n (x^2 - x) for n = 1 ... 8, each A_n in [-1, 1] a map of the picture's size; a
    negative A brightens.

    Source: Guo et al., "Zero-Reference Deep Curve Estimation for Low-Light Image Enhancement", CVPR
    2020, arXiv:2001.06826: layers, curve, losses. Sign of A and initialization, N(0, 0.02), as
    released.
    """

    family: ClassVar[str] = "zero-dce"

    def __init__(self) -> None:
        """Make an untrained network."""
        super().__init__()
        widths = (3, _WIDTH, _WIDTH, _WIDTH)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.middle = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        outs = (_WIDTH, _WIDTH, 3 * NUM_CURVES)
        self.up = nn.ModuleList(nn.Conv2d(2 * _WIDTH, out, 3, padding=1) for out in outs)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)
                nn.init.zeros_(layer.get_parameter("bias"))

    def maps(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 8 3 h w"]:
        """Return the A of each curve, pixel and channel."""
        levels: list[Tensor] = []
        x = images
        for layer in self.down:
            x = F.relu(layer(x))
            levels.append(x)
        x = F.relu(self.middle(x))
        for i, layer in enumerate(self.up):
            x = layer(torch.cat([levels[-1 - i], x], 1))
            x = F.relu(x) if i < len(self.up) - 1 else x.tanh()
        return x.unflatten(1, (NUM_CURVES, 3))

    def forward(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return brightened images."""
        x = widened("ZeroDCE", images).to(self.middle.weight.dtype)
        return apply_maps(x, self.maps(x)).to(images.dtype)


def apply_maps(
    x: Float[Tensor, "b 3 h w"], maps: Float[Tensor, "b n 3 h w"]
) -> Float[Tensor, "b 3 h w"]:
    """Apply n quadratic curves one after the other; [0, 1] stays in [0, 1]."""
    for a in maps.unbind(1):
        x = x + a * (x * x - x)
    return x.clamp(0, 1)  # rounding alone can leave it


def zero_dce_losses(
    dark: Float[Tensor, "b 3 h w"],
    bright: Float[Tensor, "b 3 h w"],
    maps: Float[Tensor, "b n 3 h w"],
) -> Losses:
    """Return the four zero-reference losses, weighted.

    exposure: mean over 16 x 16 patches of (Y - 0.6)^2, Y the mean of the patch and its channels.
    color: sum over pairs of channels of (J_p - J_q)^2, J the channel's mean; mean over the batch.
    spatial: over regions of 4 x 4 pixels, sum over the four neighbours j of
        ((Y_i - Y_j) - (I_i - I_j))^2, I being Y of the dark picture; mean over regions.
    smoothness: 2 (mean (dA / dx)^2 + mean (dA / dy)^2), summed over the maps.

    Source: as `ZeroDCE`, eqs. 4 to 7, with `WEIGHTS` and squares as released. Differs: `color` is
    that of the paper; at the border `spatial` has fewer neighbours and not black ones.
    """
    grey_bright, grey_dark = bright.mean(1, keepdim=True), dark.mean(1, keepdim=True)
    exposure = (F.avg_pool2d(grey_bright, _PATCH) - WELL_EXPOSED).square().mean()
    mean = bright.mean((2, 3))
    color = (mean - mean.roll(1, 1)).square().sum(1).mean()
    change = F.avg_pool2d(grey_bright, _REGION) - F.avg_pool2d(grey_dark, _REGION)
    # each pair counts for both of its regions
    pairs = change.diff(dim=2).square().sum() + change.diff(dim=3).square().sum()
    spatial = 2 * pairs / change.numel()
    steps = [maps.diff(dim=dim).square().mean((0, 3, 4)).sum() for dim in (3, 4)]
    return {
        "exposure": WEIGHTS["exposure"] * exposure,
        "color": WEIGHTS["color"] * color,
        "spatial": WEIGHTS["spatial"] * spatial,
        "smoothness": WEIGHTS["smoothness"] * 2 * torch.stack(steps).sum(),
    }


def train_zero_dce(
    pictures: Pictures,
    *,
    num_steps: int = 3000,
    batch_size: int = 8,
    size: int = 256,
    learning_rate: float = 1e-4,
    weight_decay: float = 1e-4,
    clip: float = 0.1,
    seed: int = 0,
    device: str = "cpu",
    on_step: OnStep | None = None,
) -> ZeroDCE:
    """Train Zero-DCE on pictures of all exposures, dark and bright; no pairs, no labels.

    Args:
        pictures: A tensor (n, 3, h, w), or a list of tensors or files, which are read when they are
            needed; sRGB in [0, 1].
        num_steps: Batches.
        batch_size: Pictures a step.
        size: Side of the random squares that are learned from, in pixels, at least 32.
        learning_rate: Of Adam.
        weight_decay: Of Adam.
        clip: Largest norm of a gradient.
        seed: Of the initialization, the cuts and the order. On a GPU sums may differ in the last
            bits.
        device: Such as "cpu" or "cuda".
        on_step: Called after each step, for progress or to stop by raising.

    Raises:
        ArgumentError: a setting or picture is bad, or training diverged.

    Source: as `ZeroDCE`; defaults are its settings but for 512 pixels and 200 epochs.
    Memory: one batch; 2.6 KB a pixel of it (measured on a CPU).
    """
    recipe = Recipe(num_steps, batch_size, size, learning_rate, weight_decay, clip, seed, device)
    recipe.check("train_zero_dce")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ZeroDCE().to(device)

    def losses(dark: Tensor) -> Losses:
        maps = model.maps(dark)
        return zero_dce_losses(dark, apply_maps(dark, maps), maps)

    fit("train_zero_dce", pictures, recipe, model.parameters(), losses, on_step)
    return model.eval().requires_grad_(False)
