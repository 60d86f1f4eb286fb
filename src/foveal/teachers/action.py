"""Action recognition: a small (2+1)-D residual network for clips of sixteen frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from foveal._core.weights import load_weights, packaged, save_weights
from foveal.errors import ArgumentError, ShapeError
from foveal.teachers.protocol import Activation

_LEAST_FRAMES, _LEAST_SIDE = 4, 16
_MOST_FRAMES, _MOST_SIDE, _MOST_CHANNELS, _MOST_NAMES = 1024, 4096, 1024, 10_000
"""What a file may ask for."""
_ROUNDING = 1e-3
"""How far values may lie out of [0, 1]."""
_MEAN, _STD = 0.45, 0.225


class _Space(nn.Conv3d):
    """A convolution in space, of every frame by itself: a flat 3-D one runs slower."""

    def __init__(self, inner: int, outer: int, side: int, stride: int) -> None:
        flat = (0, side // 2, side // 2)
        super().__init__(inner, outer, (1, side, side), (1, stride, stride), flat, bias=False)

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b _ t _ _"]:
        frames = input.transpose(1, 2).flatten(0, 1)
        stride, padding = self.stride[1], self.padding[1]
        y = F.conv2d(frames, self.weight[:, :, 0], stride=stride, padding=int(padding))
        return y.unflatten(0, (len(input), -1)).transpose(1, 2)


class _Time(nn.Conv3d):
    """A convolution over three frames, of every place by itself."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__(inner, outer, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False)

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b _ _ h w"]:
        rows, stride = input.flatten(3), (self.stride[0], 1)
        y = F.conv2d(rows, self.weight[..., 0], stride=stride, padding=(1, 0))
        return y.unflatten(3, input.shape[3:])


def _conv(inner: int, outer: int, stride: tuple[int, int]) -> nn.Sequential:
    """In space, then in time; strides of both."""
    time, space = stride
    return nn.Sequential(
        _Space(inner, outer, 3, space),
        nn.BatchNorm3d(outer),
        nn.ReLU(),
        _Time(outer, outer, time),
        nn.BatchNorm3d(outer),
    )


class _Block(nn.Module):
    """Two (2+1)-D convolutions and a way around them."""

    def __init__(self, inner: int, outer: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.every = stride[0]
        self.first = _conv(inner, outer, stride)
        self.second = _conv(outer, outer, (1, 1))
        self.around: nn.Module = nn.Identity()
        if inner != outer or stride != (1, 1):
            self.around = nn.Sequential(_Space(inner, outer, 1, stride[1]), nn.BatchNorm3d(outer))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b _ _ _ _"]:
        y = self.second(F.relu(self.first(x)))
        return F.relu(y + self.around(x[:, :, :: self.every]))


class ActionNet(nn.Module):
    """Names what a figure does in a clip.

    A stem at half the size, three stages at a half of that each but the last, which keeps its
    places so that a puzzle can be read from it; time is halved by the last two.

    Args:
        names: The actions.
        size: Side of the frames, in pixels.
        frames: Frames of a clip.
        widths: Channels of the stem and of the stages.

    Source: Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR
    2018, arXiv:1711.11248, R(2+1)D. Differs: 0.7 M parameters in place of 33 M; as many channels
    between space and time as after them; one block a stage and two in the last.
    """

    activation: Activation = "softmax"
    points: tuple[str, ...] = ("stem", "stage1", "stage2", "stage3")

    def __init__(
        self,
        names: Sequence[str],
        *,
        size: int = 80,
        frames: int = 16,
        widths: Sequence[int] = (24, 32, 64, 112),
    ) -> None:
        """Make the untrained network."""
        super().__init__()
        if len(names) < 2 or len(set(names)) != len(names):
            raise ArgumentError(f"ActionNet: names is {list(names)}, must be two different or more")
        if size < _LEAST_SIDE or frames < _LEAST_FRAMES:
            raise ArgumentError(
                f"ActionNet: size is {size} and frames {frames}, must be >= {_LEAST_SIDE} and "
                f"{_LEAST_FRAMES}"
            )
        if len(widths) != len(self.points) or min(widths) < 1:
            raise ArgumentError(
                f"ActionNet: widths is {tuple(widths)}, must be {len(self.points)} numbers >= 1"
            )
        self.names, self.size, self.frames = tuple(names), size, frames
        self.widths = tuple(widths)
        stem, one, two, three = widths
        self.stem = nn.Sequential(
            _Space(3, stem, 5, 2),
            nn.BatchNorm3d(stem),
            nn.ReLU(),
            _Time(stem, stem, 1),
            nn.BatchNorm3d(stem),
            nn.ReLU(),
        )
        self.stage1 = _Block(stem, one, (1, 2))
        self.stage2 = _Block(one, two, (2, 2))
        self.stage3 = nn.Sequential(_Block(two, three, (2, 1)), _Block(three, three, (1, 1)))
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(three, len(names))

    @classmethod
    def load(cls, path: str | Path | None = None) -> "ActionNet":
        """Load weights: the packaged ones, or a .safetensors file with its .json beside it.

        Raises:
            ArgumentError: missing or damaged, or not of this network.
        """
        file = packaged("action") if path is None else Path(path)
        config, state = load_weights(file)
        try:
            net = cls(**_checked(config))
            net.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ArgumentError(
                f"ActionNet.load: path is {str(file)!r}, which is not of this network ({error}); "
                "train it again"
            ) from error
        return net.eval().requires_grad_(False)

    def save(self, path: str | Path) -> None:
        """Write the weights (.safetensors) and the names, size and widths (.json) beside them."""
        config = {
            "model": "ActionNet",
            "names": list(self.names),
            "size": self.size,
            "frames": self.frames,
            "widths": list(self.widths),
        }
        save_weights(Path(path), self.state_dict(), config)

    def preprocess(
        self, clips: Float[Tensor, "b 3 t height width"]
    ) -> Float[Tensor, "b 3 frames size size"]:
        """Bring clips of any size and length into the form that the network takes.

        The middle square is resized with antialiasing; frames are picked evenly.

        Raises:
            ArgumentError: not floating point, NaN, or out of [0, 1].
            ShapeError: not (b, 3, t, height, width), or empty.
        """
        _check("ActionNet.preprocess", clips)
        if not bool(((clips >= -_ROUNDING) & (clips <= 1 + _ROUNDING)).all()):
            raise ArgumentError(
                f"ActionNet.preprocess: clips has values from {float(clips.min()):.3g} to "
                f"{float(clips.max()):.3g}, must be in [0, 1] without NaN; divide 8 bit by 255"
            )
        time, height, width = clips.shape[2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        if time != self.frames:
            # In the middle of equal parts: short clips repeat frames.
            at = (torch.arange(self.frames, device=clips.device) + 0.5) * time / self.frames
            clips = clips[:, :, at.long()]
        clips = clips[..., top : top + side, left : left + side]
        if side == self.size:
            return clips
        flat = clips.transpose(1, 2).flatten(0, 1)
        flat = F.interpolate(
            flat, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
        ).clamp(0, 1)
        return flat.unflatten(0, (len(clips), self.frames)).transpose(1, 2)

    def features(
        self, x: Float[Tensor, "b 3 t height width"], point: str | None = None
    ) -> Float[Tensor, "b channels *grid"]:
        """Return what the network holds at one of `points`; default: the last.

        Raises:
            ArgumentError: an unknown point.
            ShapeError: `x` is not (b, 3, t, height, width), or too small.
        """
        if point is not None and point not in self.points:
            raise ArgumentError(
                f"ActionNet.features: point is {point!r}, must be one of {self.points}"
            )
        _check("ActionNet", x)
        if x.shape[2] < _LEAST_FRAMES or min(x.shape[3:]) < _LEAST_SIDE:
            raise ShapeError(
                f"ActionNet: x has shape {tuple(x.shape)}, must have {_LEAST_FRAMES} frames of "
                f"{_LEAST_SIDE} x {_LEAST_SIDE} pixels or more; use preprocess"
            )
        x = (x.to(self.head.weight.dtype) - _MEAN) / _STD
        for name in self.points:
            x = getattr(self, name)(x)
            if name == point:
                break
        return x

    def forward(self, x: Float[Tensor, "b 3 t height width"]) -> Float[Tensor, "b classes"]:
        """Return logits for clips in sRGB in [0, 1]; differentiable.

        Cost: 0.6 G multiply-adds for 16 frames of 80 x 80; linear in frames and pixels.
        """
        return self.head(self.drop(self.features(x).mean((2, 3, 4))))


def _checked(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings in a file; `ValueError` for those that no network of ours has."""
    if config["model"] != "ActionNet":
        raise ValueError(f"it holds {config['model']!r}")
    names, widths = config["names"], config["widths"]
    if not isinstance(names, list) or not all(isinstance(x, str) for x in names[:_MOST_NAMES]):
        raise ValueError(f"names is {names!r:.80}")
    numbers = {"size": (config["size"], _MOST_SIDE), "frames": (config["frames"], _MOST_FRAMES)}
    numbers |= {f"widths[{i}]": (x, _MOST_CHANNELS) for i, x in enumerate(widths[:9])}
    numbers["number of names"] = (len(names), _MOST_NAMES)
    for key, (value, most) in numbers.items():
        if type(value) is not int or value > most:
            raise ValueError(f"{key} is {value!r:.80}, must be a whole number up to {most}")
    return {key: config[key] for key in ("names", "size", "frames", "widths")}


def _check(where: str, clips: Tensor) -> None:
    if clips.ndim != 5 or clips.shape[1] != 3 or 0 in clips.shape:
        raise ShapeError(
            f"{where}: clips has shape {tuple(clips.shape)}, must be (b, 3, t, height, width) and "
            "not empty; frames come after the channels"
        )
    if not clips.is_floating_point():
        raise ArgumentError(
            f"{where}: clips is {clips.dtype}, must be floating point in [0, 1]; divide by 255"
        )
