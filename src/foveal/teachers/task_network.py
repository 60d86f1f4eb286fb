"""Frozen networks of Taskonomy's shape, one for each task of `foveal.data.taskworld`.

features = TaskNetwork.load("depth").encode(images)    # images (b, 3, 256, 256), sRGB in [0, 1]
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn
from torch.nn import functional as F

from foveal._core import weights
from foveal.data.taskworld import TASKS, Task
from foveal.errors import ArgumentError, ShapeError
from foveal.teachers.placement import check_images, check_values, prepare
from foveal.teachers.task_layers import (
    ARCHITECTURES,
    CLASSIFIERS,
    DECODERS,
    ENCODERS,
    FEATURE_CHANNELS,
    Arch,
    Conv,
)

SIZE = 256
"""Side of the images, in pixels."""
FEATURE_SHAPE = (FEATURE_CHANNELS, SIZE // 16, SIZE // 16)
OUTPUT_SIZE = SIZE // 2
"""Side of maps that are put out."""
_IN_UNIT = ("reshading", "occlusion_edge", "texture_edge", "keypoints")
"""Tasks whose answers are held in [0, 1] by a sigmoid."""
_MODEL = "TaskNetworks"


class TaskNetwork(nn.Module):
    """An encoder to 8 x 16 x 16 non-negative features and a decoder from them to one task's answer.

    Args:
        task: A name of `foveal.data.taskworld.TASKS`.
        arch: "residual", or "separable", which has nothing in common with it but this interface:
            a control, with which a codec that was made for the other can be judged.

    Source: Zamir et al., "Taskonomy: Disentangling Task Transfer Learning", CVPR 2018,
        arXiv:1804.08328. Differs: 0.3 million parameters for about 40 million, answers at half of
        the images' size, and other tasks; what is kept is the shape of the features.
    """

    def __init__(self, task: str, arch: Arch = "residual") -> None:
        """Make an untrained network."""
        super().__init__()
        self.task = task_of("TaskNetwork", task)
        self.arch: Arch = _checked_arch("TaskNetwork", arch)
        self.encoder = ENCODERS[self.arch]()
        if self.task.kind == "class":
            self.decoder = CLASSIFIERS[self.arch](self.task.channels)
        else:
            self.decoder = DECODERS[self.arch](self.task.channels)
            last = [m for m in self.decoder.modules() if isinstance(m, Conv)][-1]
            nn.init.normal_(last.conv.weight, 0.0, 0.01)  # begins near 0, as most targets are

    @classmethod
    def load(
        cls, task: str, arch: Arch = "residual", *, source: str | Path | None = None
    ) -> "TaskNetwork":
        """Load a task's packaged network, frozen and in evaluation mode.

        Args:
            task: A name of `foveal.data.taskworld.TASKS`.
            arch: "residual" or "separable".
            source: A file (.safetensors) that `save_networks` wrote, in place of what is packaged.

        Raises:
            ArgumentError: no such task or file, or it does not hold this network.
        """
        return load_networks([task], arch, source=source)[task]

    @property
    def sha256(self) -> str:
        """Hash of the task, the architecture and every number: another network has another one."""
        digest = hashlib.sha256(json.dumps([_MODEL, self.task.name, self.arch]).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def freeze(self) -> "TaskNetwork":
        """Go into evaluation mode for good measure, and let no gradient into the weights."""
        return self.eval().requires_grad_(False)

    def fold(self) -> "TaskNetwork":
        """Fold batch normalisation into the convolutions: the same answers, fewer steps."""
        for module in self.modules():
            if isinstance(module, Conv):
                module.fold()
        return self

    def encode(
        self, images: Float[Tensor, "b 3 256 256"], *, check: bool = True
    ) -> Float[Tensor, "b 8 16 16"]:
        """Return non-negative features.

        Args:
            images: sRGB in [0, 1].
            check: Whether to look at the values, for which a GPU is waited for.

        Raises:
            ShapeError: not (b, 3, 256, 256); the message says how to get there.
            ArgumentError: not floating point, NaN, or out of [0, 1].
        """
        check_images(f"TaskNetwork.encode ({self.task.name})", images, size=SIZE)
        if check:
            check_values(f"TaskNetwork.encode ({self.task.name})", images)
        weight = cast(Conv, self.encoder[0]).conv.weight
        return self.encoder((images.to(weight.dtype) - 0.5) * 4)

    def decode(
        self, features: Float[Tensor, "b 8 16 16"], *, check: bool = True
    ) -> Float[Tensor, "b *answer"]:
        """Return the answer, fp32: logits (b, k) of a class or (b, k, 128, 128) of a segmentation.

        All else is (b, c, 128, 128) in the units of `foveal.data.taskworld.targets`: unit normals,
        edges, key points and reshading in [0, 1].

        Args:
            features: What `encode` returned, or what a codec made of it.
            check: Whether to look at the values, for which a GPU is waited for.

        Raises:
            ShapeError: not (b, 8, 16, 16).
            ArgumentError: not floating point, NaN or infinity.
        """
        where = f"TaskNetwork.decode ({self.task.name})"
        check_features(where, features)
        if check and not bool(features.isfinite().all()):
            raise ArgumentError(
                f"{where}: features holds NaN or infinity, must be finite; see what made it"
            )
        weight = cast(Conv, self.encoder[0]).conv.weight
        answer = self.decoder(features.to(weight.dtype)).float()
        if self.task.name == "normal":
            return F.normalize(answer, dim=1, eps=1e-6)
        return answer.sigmoid() if self.task.name in _IN_UNIT else answer

    def forward(
        self, images: Float[Tensor, "b 3 256 256"], *, check: bool = True
    ) -> Float[Tensor, "b *answer"]:
        """Return the answer of images; see `encode` and `decode`."""
        return self.decode(self.encode(images, check=check), check=False)

    @staticmethod
    def preprocess(images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b 3 256 256"]:
        """Resize the shorter side to 256 pixels, against aliasing, and cut the middle out."""
        check_images("TaskNetwork.preprocess", images)
        return prepare(images, SIZE)


class TaskBank(nn.Module):
    """Several frozen networks that look at the same images."""

    def __init__(self, networks: Iterable[TaskNetwork]) -> None:
        """Take networks, each of another task."""
        super().__init__()
        listed = list(networks)
        names = [network.task.name for network in listed]
        if not names or len(set(names)) < len(names):
            raise ArgumentError(
                f"TaskBank: networks is of {names}, must be of one task or more, each once"
            )
        self.networks = nn.ModuleDict({n.task.name: n for n in listed})

    @classmethod
    def load(
        cls,
        tasks: Iterable[str] | None = None,
        arch: Arch = "residual",
        *,
        source: str | Path | None = None,
    ) -> "TaskBank":
        """Load packaged networks, or those of a file, by default all; see `load_networks`."""
        return cls(load_networks(tasks, arch, source=source).values())

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order that was given."""
        return tuple(self.networks)

    def __getitem__(self, task: str) -> TaskNetwork:
        """Return the network of a task."""
        if task not in self.networks:
            raise ArgumentError(f"TaskBank: task is {task!r}, must be one of {list(self.tasks)}")
        return cast(TaskNetwork, self.networks[task])

    def features(
        self, images: Float[Tensor, "b 3 256 256"], *, check: bool = True
    ) -> dict[str, Float[Tensor, "b 8 16 16"]]:
        """Return each network's features of the same images; see `TaskNetwork.encode`."""
        check_images("TaskBank.features", images, size=SIZE)
        if check:
            check_values("TaskBank.features", images)
        return {task: self[task].encode(images, check=False) for task in self.tasks}

    def answers(
        self, features: Mapping[str, Float[Tensor, "b 8 16 16"]], *, check: bool = True
    ) -> dict[str, Tensor]:
        """Return what each network's decoder makes of its features."""
        return {task: self[task].decode(x, check=check) for task, x in features.items()}


def task_of(where: str, task: str) -> Task:
    """Return the task of that name.

    Raises:
        ArgumentError: there is none.
    """
    if task not in TASKS:
        raise ArgumentError(f"{where}: task is {task!r}, must be one of {list(TASKS)}")
    return TASKS[task]


def check_features(where: str, features: Tensor) -> None:
    """Refuse what is no batch of features.

    Raises:
        ShapeError: not (b, 8, 16, 16), or empty.
        ArgumentError: not floating point.
    """
    shape = tuple(features.shape)
    if features.ndim != 4 or shape[1:] != FEATURE_SHAPE or shape[0] == 0:
        raise ShapeError(
            f"{where}: features has shape {shape}, must be (b, 8, 16, 16); take what encode returns"
        )
    if not features.is_floating_point():
        raise ArgumentError(
            f"{where}: features is {features.dtype}, must be a floating-point type; dequantize it"
        )


def quantize(
    weight: Float[Tensor, "d *rest"],
) -> tuple[Int8[Tensor, "d *rest"], Float[Tensor, " d"]]:
    """Return whole numbers from -127 to 127 and the scale of each output channel."""
    largest = weight.detach().float().flatten(1).abs().amax(1)
    scale = torch.where(largest > 0, largest / 127, 1.0)
    return (weight.detach().float() / _column(scale, weight)).round().to(torch.int8), scale


def dequantize(
    codes: Int8[Tensor, "d *rest"], scale: Float[Tensor, " d"]
) -> Float[Tensor, "d *rest"]:
    """Return codes times scales, fp32."""
    return codes.float() * _column(scale, codes)


def _column(scale: Tensor, like: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (like.ndim - 1))


def save_networks(
    path: str | Path, networks: Iterable[TaskNetwork], *, about: Mapping[str, Any] | None = None
) -> None:
    """Write networks of one architecture, normalisation folded in, weights in 8 bits.

    Each weight is stored as int8 codes and one fp32 scale for each output channel; biases are fp32.
    The networks themselves stay as they are.

    Args:
        path: A .safetensors file; a JSON file is written beside it.
        networks: Each of another task.
        about: What the JSON file is to say of them besides.

    Raises:
        ArgumentError: another suffix, no network, several architectures or one task twice, or
            weights that are not finite.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ArgumentError(f"save_networks: path is {path}, must end in .safetensors")
    bank = TaskBank(networks)
    architectures = {bank[task].arch for task in bank.tasks}
    if len(architectures) > 1:
        raise ArgumentError(
            f"save_networks: networks is of {sorted(architectures)}, must be of one architecture; "
            "write a file for each"
        )
    tensors: dict[str, Tensor] = {}
    for task in bank.tasks:
        for name, value in _folded_state(bank[task]).items():
            if not bool(value.isfinite().all()):
                raise ArgumentError(
                    f"save_networks: {task} holds NaN or infinity in {name}, must be finite; "
                    "train again"
                )
            if name.endswith(".weight"):
                tensors[f"{task}/{name}"], tensors[f"{task}/{name}.scale"] = quantize(value)
            else:
                tensors[f"{task}/{name}"] = value.float()
    config = {"model": _MODEL, "arch": architectures.pop(), "tasks": list(bank.tasks)}
    weights.save_weights(path, tensors, config | {"about": dict(about or {})})


def _folded_state(network: TaskNetwork) -> dict[str, Tensor]:
    copy = TaskNetwork(network.task.name, network.arch)
    if not any(name.endswith("norm.weight") for name in network.state_dict()):
        copy.fold()
    copy.load_state_dict(network.state_dict())
    return copy.fold().state_dict()


def load_networks(
    tasks: Iterable[str] | None = None,
    arch: Arch = "residual",
    *,
    source: str | Path | None = None,
) -> dict[str, TaskNetwork]:
    """Load several networks from one reading of the file, frozen and in evaluation mode.

    Args:
        tasks: Names of tasks; by default all that the file has.
        arch: "residual" or "separable".
        source: A file (.safetensors) that `save_networks` wrote, in place of what is packaged.

    Raises:
        ArgumentError: no such task, architecture or file, or it does not hold these networks.
    """
    where = "load_networks"
    arch = _checked_arch(where, arch)
    names = None if tasks is None else list(tasks)
    for name in names or []:
        task_of(where, name)
    if source is None:
        path = weights.packaged(arch, prefix="tasks-")
    else:
        path = Path(source)
        if path.suffix != ".safetensors":
            raise ArgumentError(f"{where}: source is {path}, must end in .safetensors")
    config, tensors = weights.load_weights(path)
    if config.get("model") != _MODEL or config.get("arch") != arch:
        raise ArgumentError(
            f"{where}: source is {path}, holds {config.get('model')!r} of architecture "
            f"{config.get('arch')!r}, must hold {_MODEL!r} of {arch!r}"
        )
    held = sorted({str(name).partition("/")[0] for name in tensors})
    names = [n for n in TASKS if n in held] if names is None else names
    missing = [name for name in names if name not in held]
    if missing or not names:
        raise ArgumentError(
            f"{where}: tasks is {names}, of which {path} lacks {missing}; it has {held}"
        )
    return {name: _network(name, arch, path, tensors) for name in names}


def _network(task: str, arch: Arch, path: Path, tensors: Mapping[str, Tensor]) -> TaskNetwork:
    network = TaskNetwork(task, arch).fold()
    state: dict[str, Tensor] = {}
    for name, wanted in network.state_dict().items():
        is_weight = name.endswith(".weight")
        kind = torch.int8 if is_weight else torch.float32
        value = _tensor(tensors, f"{task}/{name}", path, kind, tuple(wanted.shape))
        if is_weight:
            scale = _tensor(tensors, f"{task}/{name}.scale", path, torch.float32, (len(value),))
            if bool((scale <= 0).any()):
                raise ArgumentError(
                    f"load_networks: source is {path}, {task}/{name}.scale has "
                    f"{float(scale.min())}, must be > 0"
                )
            value = _finite(dequantize(value, scale), f"{task}/{name}", path)
        state[name] = value
    network.load_state_dict(state)
    return network.freeze()


def _tensor(
    tensors: Mapping[str, Tensor], name: str, path: Path, dtype: torch.dtype, shape: tuple[int, ...]
) -> Tensor:
    value = tensors.get(name)
    if value is None or value.dtype != dtype or tuple(value.shape) != shape:
        found = "is missing" if value is None else f"is {value.dtype} {tuple(value.shape)}"
        raise ArgumentError(
            f"load_networks: source is {path}, {name} {found}, must be {dtype} {shape}"
        )
    return _finite(value, name, path)


def _finite(value: Tensor, name: str, path: Path) -> Tensor:
    if not bool(value.isfinite().all()):
        raise ArgumentError(
            f"load_networks: source is {path}, {name} holds NaN or infinity, must be finite"
        )
    return value


def _checked_arch(where: str, arch: str) -> Arch:
    if arch not in ARCHITECTURES:
        raise ArgumentError(f"{where}: arch is {arch!r}, must be one of {list(ARCHITECTURES)}")
    return arch


def dead_channels(features: Float[Tensor, "b 8 16 16"]) -> list[int]:
    """Return the channels that are zero everywhere."""
    check_features("dead_channels", features)
    return np.flatnonzero((features.detach().amax((0, 2, 3)) <= 0).cpu().numpy()).tolist()
