"""Optical flow by a small pyramid network with cost volumes; trained on daylight only.

flow = FlowNet.load()(clip)     # clip (b, 3, t, h, w), sRGB in [0, 1]; flow (b, 2, t - 1, h, w)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from foveal._core import weights
from foveal.errors import ArgumentError, ShapeError

WIDTHS = (16, 32, 48, 64, 96)
"""Channels of the pyramid, at 1/2, 1/4, ... of the size."""
HIDDEN = (64, 64, 48, 32)
"""Channels of a decoder's convolutions."""
RADIUS = 4
FINEST = 1
"""Level of the finest flow: 1/4 of the size."""
_CONTEXT = ((48, 1), (48, 2), (48, 4), (32, 8))
_SLOPE = 0.1
_ROUNDING = 1e-3
"""How far values may lie out of [0, 1]."""
_MOST_CHANNELS, _MOST_LEVELS, _MOST_RADIUS = 256, 6, 8


class FrameConv(nn.Conv2d):
    """A 3 x 3 convolution of each frame by itself; (b, c, t, h, w) in and out."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> None:
        """Make it; the size is kept, or divided by `stride`."""
        super().__init__(inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation)

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t rows columns"]:
        """Convolve."""
        frames = input.transpose(1, 2)
        out = super().forward(frames.flatten(0, 1))
        return out.unflatten(0, frames.shape[:2]).transpose(1, 2)


class Stage(nn.Module):
    """Convolutions of each frame, each with a leaky ReLU."""

    def __init__(
        self, inputs: int, widths: Sequence[int], *, stride: int = 1, dilations: Sequence[int] = ()
    ) -> None:
        """Make the convolutions; the first has the stride."""
        super().__init__()
        before = (inputs, *widths[:-1])
        self.convolutions = nn.ModuleList(
            FrameConv(a, b, stride=stride if i == 0 else 1, dilation=d)
            for i, (a, b, d) in enumerate(
                zip(before, widths, dilations or [1] * len(widths), strict=True)
            )
        )

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t rows columns"]:
        """Run them in turn."""
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), _SLOPE)
        return x


class FlowNet(nn.Module):
    """Optical flow from each frame of a clip to the next; 1,025,226 parameters.

    A pyramid of normalised features of each frame; from coarse to fine, the next frame's are warped
    by the flow so far, a local cost volume compares both, and a decoder adds to the flow; at 1/4 of
    the size dilated convolutions refine it, and it is enlarged bilinearly. Gradients reach the
    pixels. Trained on daylight, with no darkening of any kind: a recogniser that the dark fools.

    All modules put out (b, c, t, h, w), so that `foveal.lowlight.align` can read any of them;
    `layers` names the pyramid's.

    Args:
        widths: Channels of the pyramid's levels, at 1/2, 1/4, ... of the size; 3 to 6 levels.
        hidden: Channels of each decoder.
        radius: Of the cost volume, in pixels of its level, 1 to 8.

    Source: Sun et al., "PWC-Net: CNNs for Optical Flow Using Pyramid, Warping, and Cost Volume",
        CVPR 2018, arXiv:1709.02371. Differs: five levels for six or seven, two convolutions a level
        for three, half the widths, decoders without dense connections, a context network of five
        layers for seven: chosen for 5 MB. Features are normalised before they are compared, as in
        Jonschkowski et al., "What Matters in Unsupervised Optical Flow", ECCV 2020,
        arXiv:2006.04902 (there by both frames, here by each): without that it did not begin to
        learn in hundreds of steps.
    """

    size = 192
    """Side that `foveal.lowlight.align` lets it see by default."""

    def __init__(
        self,
        *,
        widths: Sequence[int] = WIDTHS,
        hidden: Sequence[int] = HIDDEN,
        radius: int = RADIUS,
    ) -> None:
        """Make an untrained network."""
        super().__init__()
        self._widths, self._hidden, self._radius = _checked(widths, hidden, radius)
        before = (3, *self._widths[:-1])
        self.encoder = nn.ModuleList(
            Stage(a, (b, b), stride=2) for a, b in zip(before, self._widths, strict=True)
        )
        self._levels = range(len(self._widths) - 1, FINEST - 1, -1)
        last, costs = self._hidden[-1], (2 * self._radius + 1) ** 2
        self.decoders = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        for level in self._levels:
            known = 0 if level == self._levels[0] else 2 + last
            inputs = costs + self._widths[level] + known
            self.decoders[str(level)] = Stage(inputs, self._hidden)
            self.heads[str(level)] = FrameConv(last, 2)
        self.context = Stage(last + 2, [c for c, _ in _CONTEXT], dilations=[d for _, d in _CONTEXT])
        self.refine = FrameConv(_CONTEXT[-1][0], 2)
        for module in self.modules():
            if isinstance(module, FrameConv):
                nn.init.kaiming_normal_(module.weight, _SLOPE)
                nn.init.zeros_(module.get_parameter("bias"))
        for module in (*self.heads.values(), self.refine):
            nn.init.normal_(module.get_parameter("weight"), 0.0, 1e-2)

    @classmethod
    def load(cls, source: str | Path = "flow") -> "FlowNet":
        """Load packaged weights by name, or a file by path.

        Raises:
            ArgumentError: no such weights, or they are not of this network.
        """
        path = Path(source)
        if path.suffix != ".safetensors":
            path = weights.packaged(str(source), family="flow")
        config, tensors = weights.load_weights(path)
        if config.get("model") != "FlowNet":
            raise ArgumentError(
                f"FlowNet.load: source is {source}, holds {config.get('model')!r}, must hold "
                "'FlowNet'"
            )
        try:
            widths, hidden, radius = _checked(
                list(config["widths"]), list(config["hidden"]), config["radius"]
            )
            model = cls(widths=widths, hidden=hidden, radius=radius)
            model.load_state_dict(tensors)
        except (RuntimeError, KeyError, TypeError) as error:
            raise ArgumentError(f"FlowNet.load: source is {source} ({error!r})") from error
        return model.eval().requires_grad_(False)

    def save(self, path: str | Path) -> None:
        """Write the weights (.safetensors) and the settings (.json beside it), for `load`."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise ArgumentError(f"FlowNet.save: path is {path}, must end in .safetensors")
        weights.save_weights(path, self.state_dict(), self.config())

    def config(self) -> dict[str, Any]:
        """Return the settings that `load` wants beside the weights."""
        return {
            "model": "FlowNet",
            "widths": list(self._widths),
            "hidden": list(self._hidden),
            "radius": self._radius,
        }

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the pyramid's three levels from 1/8 of the size on, for `align(layers=)`."""
        return tuple(f"encoder.{i}" for i in range(len(self._widths)))[2:5]

    def forward(self, clip: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 2 pairs h w"]:
        """Return the flow from each frame to the next, in pixels: right and down.

        Args:
            clip: sRGB in [0, 1], two frames at least; any size: repeated at its edges up to a
                multiple of 32 (of 2 to the number of levels), and cut again.

        Raises:
            ShapeError: not (b, 3, t, h, w), empty, or fewer than two frames.
            ArgumentError: not floating point, NaN, or out of [0, 1].
        """
        _check_shape(clip)
        _check_values(clip)
        return self.coarse_to_fine(clip)[-1]

    def coarse_to_fine(self, clip: Float[Tensor, "b 3 t h w"]) -> list[Tensor]:
        """Return the flow of each level and then the whole, all of full size and in pixels.

        As `forward`, which returns the last, but values are not checked, so that a GPU need not be
        waited for.
        """
        _check_shape(clip)
        height, width = clip.shape[-2:]
        step = 2 ** len(self._widths)
        clip = clip.to(self.refine.weight.dtype)
        x = F.pad(clip, (0, -width % step, 0, -height % step, 0, 0), mode="replicate")
        x = 2 * x - 1
        pyramid: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            pyramid.append(_normalized(x))
        flows: list[Tensor] = []
        flow = hidden = None
        for level in self._levels:
            here, there = pyramid[level][:, :, :-1], pyramid[level][:, :, 1:]
            known: list[Tensor] = []
            if flow is not None and hidden is not None:
                flow, hidden = 2 * _enlarge(flow, 2), _enlarge(hidden, 2)
                there = warp(there, flow)
                known = [flow.to(here), hidden.to(here)]
            costs = cost_volume(here, there, self._radius)
            hidden = self.decoders[str(level)](torch.cat([costs, here, *known], 1))
            more = self.heads[str(level)](hidden).float()
            flow = more if flow is None else flow + more
            flows.append(2 ** (level + 1) * _enlarge(flow, 2 ** (level + 1)))
            if level == FINEST:
                context = self.context(torch.cat([hidden, flow.to(hidden)], 1))
                flow = flow + self.refine(context).float()
                flows.append(2 ** (level + 1) * _enlarge(flow, 2 ** (level + 1)))
        return [f[..., :height, :width] for f in flows]


def warp(
    features: Float[Tensor, "b c t h w"], flow: Float[Tensor, "b 2 t h w"]
) -> Float[Tensor, "b c t h w"]:
    """Return what lies in `features` where `flow` points to; zero outside, differentiable in both.

    Args:
        features: Of the later frame.
        flow: From the earlier frame, in pixels: right and down.
    """
    height, width = features.shape[-2:]
    x = torch.arange(width, device=flow.device) + 0.5
    y = torch.arange(height, device=flow.device) + 0.5
    moved = flow.float().movedim(1, -1)
    moved = moved + torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)
    grid = moved * (2 / moved.new_tensor([width, height])) - 1
    frames = features.transpose(1, 2)
    out = F.grid_sample(frames.flatten(0, 1).float(), grid.flatten(0, 1), align_corners=False)
    return out.unflatten(0, frames.shape[:2]).transpose(1, 2).to(features.dtype)


def cost_volume(
    a: Float[Tensor, "b c t h w"], b: Float[Tensor, "b c t h w"], radius: int
) -> Float[Tensor, "b costs t h w"]:
    """Return the mean product of the channels of `a` with those of `b` at each near offset.

    Args:
        a: Features.
        b: Features; zero outside.
        radius: Offsets are -radius to radius, down and then right: row by row.

    Cost: (2 radius + 1)^2 c multiply-adds a pixel.
    """
    side = 2 * radius + 1
    width = a.shape[-1]
    padded = F.pad(b, (radius, radius, radius, radius))
    rows: list[Tensor] = []
    for dy in range(side):
        row = padded[..., dy : dy + a.shape[-2], :].unfold(-1, width, 1)  # (b, c, t, h, side, w)
        rows.append((a[..., None, :] * row).mean(1).permute(0, 3, 1, 2, 4))
    return torch.cat(rows, 1)


def _normalized(x: Tensor) -> Tensor:
    """Return features of mean 0 in each channel, and of variance 1 in all, frame by frame."""
    wide = x.float()
    wide = wide - wide.mean((3, 4), keepdim=True)
    deviation = wide.square().mean((1, 3, 4), keepdim=True).add(1e-6).sqrt()
    return (wide / deviation).to(x.dtype)


def _enlarge(x: Tensor, factor: int) -> Tensor:
    """Enlarge each frame of (b, c, t, h, w) bilinearly."""
    frames = x.transpose(1, 2)
    out = F.interpolate(
        frames.flatten(0, 1), scale_factor=factor, mode="bilinear", align_corners=False
    )
    return out.unflatten(0, frames.shape[:2]).transpose(1, 2)


def _checked(
    widths: Sequence[Any], hidden: Sequence[Any], radius: Any
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Refuse settings that no network of ours has; they may come out of a file."""
    for name, values, least, most in (
        ("widths", widths, 3, _MOST_LEVELS),
        ("hidden", hidden, 1, _MOST_LEVELS),
    ):
        wrong = [c for c in values if type(c) is not int or not 4 <= c <= _MOST_CHANNELS]
        if not least <= len(values) <= most or wrong:
            raise ArgumentError(
                f"FlowNet: {name} is {list(values)[:8]}, must be {least} to {most} whole numbers "
                f"from 4 to {_MOST_CHANNELS}"
            )
    if type(radius) is not int or not 1 <= radius <= _MOST_RADIUS:
        raise ArgumentError(f"FlowNet: radius is {radius}, must be 1 to {_MOST_RADIUS}")
    return tuple(widths), tuple(hidden), radius


def _check_shape(clip: Tensor) -> None:
    if clip.ndim != 5 or clip.shape[1] != 3 or clip.shape[2] < 2 or 0 in clip.shape:
        raise ShapeError(
            f"FlowNet: clip has shape {tuple(clip.shape)}, must be (b, 3, t, height, width) with t "
            ">= 2; stack frames along the third axis"
        )
    if not clip.is_floating_point():
        raise ArgumentError(
            f"FlowNet: clip is {clip.dtype}, must be floating point in [0, 1]; divide 8 bit by 255"
        )


def _check_values(clip: Tensor) -> None:
    if not bool(((clip >= -_ROUNDING) & (clip <= 1 + _ROUNDING)).all()):
        raise ArgumentError(
            f"FlowNet: clip has values from {float(clip.min()):.3g} to {float(clip.max()):.3g}, "
            "must be in [0, 1] without NaN; divide 8 bit by 255"
        )
