"""Encoders and decoders of the task networks; every weight lies in a `Conv`.

Both architectures end in eight channels at 1/16 of 256 pixels and in a ReLU.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Arch = Literal["residual", "separable"]
ARCHITECTURES: tuple[Arch, ...] = ("residual", "separable")
FEATURE_CHANNELS = 8


class Conv(nn.Module):
    """A convolution, batch normalisation and, if wanted, a ReLU; the size is kept or strided.

    Args:
        inner, outer: Channels in and out.
        side: Of the kernel. With `stride` equal to an even side, patches do not overlap.
        stride, dilation, groups: As of `torch.nn.Conv2d`.
        relu: Whether a ReLU ends it.
        norm: Whether to normalise; if not, the convolution has a bias.
    """

    def __init__(
        self,
        inner: int,
        outer: int,
        side: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        relu: bool = True,
        norm: bool = True,
    ) -> None:
        """Make it, with weights drawn for a ReLU."""
        super().__init__()
        padding = dilation * (side // 2) if side % 2 else 0
        self.conv = nn.Conv2d(inner, outer, side, stride, padding, dilation, groups, bias=not norm)
        self.norm: nn.Module = nn.BatchNorm2d(outer) if norm else nn.Identity()
        self.relu = relu
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu" if relu else "linear")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d rows columns"]:
        """Convolve."""
        x = self.norm(self.conv(x))
        return F.relu(x) if self.relu else x

    @torch.no_grad()
    def fold(self) -> None:
        """Let the convolution do what the normalisation does in evaluation mode."""
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm2d):
            return
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = self.conv.weight.double() * scale[:, None, None, None]
        bias = norm.bias.double() - norm.running_mean.double() * scale
        self.conv.weight = nn.Parameter(weight.to(self.conv.weight))
        self.conv.bias = nn.Parameter(bias.to(self.conv.weight))
        self.norm = nn.Identity()


class Residual(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        """Make it; both are dilated."""
        super().__init__()
        self.first = Conv(channels, channels, dilation=dilation)
        self.second = Conv(channels, channels, dilation=dilation, relu=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add what both make of `x`."""
        return F.relu(x + self.second(self.first(x)))


class Separable(nn.Module):
    """A wide depthwise convolution, then a wide layer point by point, and a way around them."""

    def __init__(self, channels: int, expand: int = 4) -> None:
        """Make it, `expand` times as wide inside."""
        super().__init__()
        self.depthwise = Conv(channels, channels, 5, groups=channels, relu=False)
        self.expand = Conv(channels, expand * channels, 1)
        self.project = Conv(expand * channels, channels, 1, relu=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add what they make of `x`."""
        return x + self.project(self.expand(self.depthwise(x)))


class Context(nn.Module):
    """Adds to every place what the mean over all places says."""

    def __init__(self, channels: int) -> None:
        """Make both layers, of half the width inside."""
        super().__init__()
        self.first = Conv(channels, channels // 2, 1, norm=False)
        self.second = Conv(channels // 2, channels, 1, relu=False, norm=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add it."""
        return x + self.second(self.first(x.mean((2, 3), keepdim=True)))


class Classifier(nn.Module):
    """From a map to one answer an image: the mean and the maximum of each channel, weighed."""

    def __init__(self, channels: int, answers: int) -> None:
        """Make the last layer."""
        super().__init__()
        self.last = Conv(2 * channels, answers, 1, relu=False, norm=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Pool and weigh."""
        pooled = torch.cat([x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)], 1)
        return self.last(pooled).flatten(1)


def _double() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="nearest")


def residual_encoder() -> nn.Sequential:
    """A strided stem, then residual blocks at 1/4, 1/8 and 1/16 of the size."""
    return nn.Sequential(
        Conv(3, 16, stride=2),
        Conv(16, 32, stride=2),
        Residual(32),
        Conv(32, 48, stride=2),
        Residual(48),
        Residual(48),
        Conv(48, 64, stride=2),
        Context(64),
        Residual(64, dilation=2),
        Conv(64, FEATURE_CHANNELS),
    )


def residual_classifier(answers: int) -> nn.Sequential:
    """From features to logits."""
    return nn.Sequential(
        Conv(FEATURE_CHANNELS, 48),
        Conv(48, 64, stride=2),
        Residual(64),
        Classifier(64, answers),
    )


def residual_decoder(channels: int) -> nn.Sequential:
    """From features to a map of 1/2 of the image's size: repeated pixels, then convolved."""
    return nn.Sequential(
        Conv(FEATURE_CHANNELS, 48),
        Context(48),
        Residual(48),
        _double(),
        Conv(48, 48),
        _double(),
        Conv(48, 32),
        _double(),
        Conv(32, 16),
        Conv(16, channels, relu=False, norm=False),
    )


def separable_encoder() -> nn.Sequential:
    """Patches of 4 pixels that do not overlap, then depthwise and pointwise layers."""
    return nn.Sequential(
        Conv(3, 24, 4, stride=4, relu=False),
        Separable(24),
        Separable(24),
        Conv(24, 48, 2, stride=2, relu=False),
        Separable(48),
        Separable(48),
        Separable(48),
        Conv(48, 72, 2, stride=2, relu=False),
        Separable(72),
        Context(72),
        Separable(72),
        Conv(72, FEATURE_CHANNELS, 1),
    )


def separable_classifier(answers: int) -> nn.Sequential:
    """From features to logits."""
    return nn.Sequential(
        Conv(FEATURE_CHANNELS, 48, relu=False),
        Separable(48),
        Separable(48),
        Classifier(48, answers),
    )


def separable_decoder(channels: int) -> nn.Sequential:
    """From features to a map of 1/2 of the image's size: channels become pixels."""
    return nn.Sequential(
        Conv(FEATURE_CHANNELS, 48, relu=False),
        Separable(48),
        Context(48),
        Separable(48),
        Conv(48, 4 * 32, 1, relu=False),
        nn.PixelShuffle(2),
        Separable(32),
        Conv(32, 4 * 16, 1, relu=False),
        nn.PixelShuffle(2),
        Separable(16),
        Conv(16, 4 * channels, relu=False, norm=False),
        nn.PixelShuffle(2),
    )


ENCODERS: dict[Arch, Callable[[], nn.Sequential]] = {
    "residual": residual_encoder,
    "separable": separable_encoder,
}
CLASSIFIERS: dict[Arch, Callable[[int], nn.Sequential]] = {
    "residual": residual_classifier,
    "separable": separable_classifier,
}
DECODERS: dict[Arch, Callable[[int], nn.Sequential]] = {
    "residual": residual_decoder,
    "separable": separable_decoder,
}


def multiply_adds(model: nn.Module, run: Callable[[], object]) -> int:
    """Return the multiply-adds of all convolutions of `model` while `run` runs, of one image."""
    total = 0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += output[0].numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d)]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return total
