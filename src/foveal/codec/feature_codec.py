"""Learned codec for one layer of features of a frozen recogniser.

Per-channel normalisation, a residual analysis transform with stride 2, rounding, the codebook
hyperprior with global mixing, and a mirrored synthesis transform.

Source: Yang et al., Video Coding for Machines: Compact Visual Representation Compression for
Intelligent Collaborative Analytics, arXiv:2110.09241; Hu et al., arXiv:2106.08512; reconstruction:
details of the prior are ours.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from foveal._core.weights import load_weights, save_weights
from foveal.codec.prior.codebook_global import (
    CodebookGlobalPrior,
    IntegerPrior,
    round_straight_through,
)
from foveal.errors import ArgumentError, ShapeError

FORMAT = "foveal-feature-codec-1"
Y_LIMIT = 1 << 15


@dataclass(frozen=True, slots=True)
class CodecConfig:
    """Sizes of a feature codec; stored in its weights file.

    Args:
        in_channels: Channels of the features.
        in_size: Height and width of the features, even.
        latent_channels: Channels N of the latent, of size in_size / 2.
        hidden: Channels of the transforms at the latent's resolution.
        blocks: Residual blocks at the features' resolution, on either side.
        hyper: Hyper-latents z.
        codewords: Log-scale maps K.
        levels: Scales L of the table.
    """

    in_channels: int = 112
    in_size: int = 14
    latent_channels: int = 48
    hidden: int = 128
    blocks: int = 2
    hyper: int = 12
    codewords: int = 16
    levels: int = 64

    def __post_init__(self) -> None:
        """Check the sizes, which may come from an untrusted file."""
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            low, high = (0, 16) if item.name == "blocks" else (1, 4096)
            if type(value) is not int or not low <= value <= high:
                raise ArgumentError(
                    f"CodecConfig: {item.name} is {value!r}, must be an integer in {low}..{high}; "
                    "change it"
                )
        if self.in_size % 2 or self.in_size > 256 or self.levels < 2:
            raise ArgumentError(
                f"CodecConfig: in_size is {self.in_size} and levels {self.levels}, must be even up "
                "to 256 and at least 2; change them"
            )


class ResidualBlock(nn.Module):
    """x + conv(leaky_relu(conv(x))), 3x3, without normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the block's output, of the shape of `x`."""
        return x + self.second(functional.leaky_relu(self.first(x), 0.1))


class FeatureCodec(nn.Module):
    """Analysis, prior and synthesis for features of one fixed shape.

    A model can code only after `finalise`, which `load` implies; training code works before it.

    Args:
        config: Sizes. Default: stride-16 features of EfficientNet-Lite0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: CodecConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or CodecConfig()
        self.register_buffer("mean", torch.zeros(c.in_channels))
        self.register_buffer("std", torch.ones(c.in_channels))
        self.analysis = nn.Sequential(
            *[ResidualBlock(c.in_channels) for _ in range(c.blocks)],
            nn.Conv2d(c.in_channels, c.hidden, 3, stride=2, padding=1),
            ResidualBlock(c.hidden),
            nn.Conv2d(c.hidden, c.latent_channels, 1),
        )
        self.synthesis = nn.Sequential(
            nn.Conv2d(c.latent_channels, c.hidden, 3, padding=1),
            ResidualBlock(c.hidden),
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(c.hidden, c.in_channels, 3, padding=1),
            *[ResidualBlock(c.in_channels) for _ in range(c.blocks)],
        )
        self.prior = CodebookGlobalPrior(
            channels=c.latent_channels,
            size=self.latent_size,
            hyper=c.hyper,
            codewords=c.codewords,
            levels=c.levels,
        )
        self._integer: IntegerPrior | None = None
        self._model_id = b""

    @property
    def latent_size(self) -> int:
        """Height and width of the latent."""
        return self.config.in_size // 2

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of the latent of one image: channels, height, width."""
        return (self.config.latent_channels, self.latent_size, self.latent_size)

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """Shape of the features of one image: channels, height, width."""
        return (self.config.in_channels, self.config.in_size, self.config.in_size)

    @property
    def integer_prior(self) -> IntegerPrior:
        """The integer tables.

        Raises:
            ArgumentError: the model has none yet.
        """
        if self._integer is None:
            raise ArgumentError(
                "FeatureCodec: model has no integer tables, must be finalised; call "
                "model.finalise() after training or load a model file"
            )
        return self._integer

    @property
    def model_id(self) -> bytes:
        """First 4 bytes of the SHA-256 of everything that the meaning of a stream depends on."""
        _ = self.integer_prior
        return self._model_id

    @torch.no_grad()
    def fit_normalisation(self, features: Float[Tensor, "b c h w"]) -> None:
        """Set the per-channel mean and standard deviation from training features."""
        self.mean.copy_(features.mean(dim=(0, 2, 3)))
        self.std.copy_(features.std(dim=(0, 2, 3)).clamp_min(1e-3))

    def normalise(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the features with zero mean and unit variance per channel."""
        return (features - self.mean[:, None, None]) / self.std[:, None, None]

    def analyse(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n u v"]:
        """Return the unrounded latent."""
        return self.analysis(self.normalise(features))

    def synthesise(self, y: Float[Tensor, "b n u v"]) -> Float[Tensor, "b c h w"]:
        """Return features from a rounded latent."""
        return self.synthesis(y) * self.std[:, None, None] + self.mean[:, None, None]

    def forward(
        self, features: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b"], Float[Tensor, "b"]]:
        """Return decoded features and the estimated bits of y and z per image, differentiable."""
        y = self.analyse(features)
        y_bits, z_bits = self.prior.bits(y)
        return self.synthesise(round_straight_through(y)), y_bits, z_bits

    @torch.no_grad()
    def symbols(
        self, features: Float[Tensor, "b c h w"]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the integers z [b, hyper] and y [b, elements] that a stream would hold.

        Raises:
            ArgumentError: `features` is not a finite floating-point tensor.
            ShapeError: `features` has not the model's shape.
        """
        if not features.dtype.is_floating_point:
            raise ArgumentError(
                f"encode: features has dtype {features.dtype}, must be floating-point; cast it"
            )
        if features.ndim != 4 or tuple(features.shape[1:]) != self.feature_shape:
            raise ShapeError(
                f"encode: features has shape {tuple(features.shape)}, must be "
                f"(b, {', '.join(map(str, self.feature_shape))}); add a batch axis or use the "
                "model of that layer"
            )
        if features.shape[0] == 0:
            raise ShapeError("encode: features has batch 0, must be at least 1; skip empty batches")
        if not bool(torch.isfinite(features).all()):
            raise ArgumentError(
                "encode: features has NaN or infinite values, must be finite; check the recogniser"
            )
        y = self.analyse(features.to(self.mean.device, self.mean.dtype))
        z = torch.round(self.prior.analyse(y)).to(torch.int64)
        y_int = torch.round(y).clamp(-Y_LIMIT, Y_LIMIT).to(torch.int64)
        return z.cpu().numpy(), y_int.flatten(1).cpu().numpy()

    @torch.no_grad()
    def finalise(self) -> "FeatureCodec":
        """Round the weights to fp16 as stored, build the integer tables, and return the model."""
        for value in self.state_dict().values():
            value.copy_(value.half().to(value.dtype))
        self._integer = self.prior.export()
        self._set_id()
        return self.eval()

    def _set_id(self) -> None:
        digest = hashlib.sha256(json.dumps(self._file_config(), sort_keys=True).encode())
        for name, value in sorted(self._file_tensors().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.contiguous().numpy().tobytes())
        self._model_id = digest.digest()[:4]

    def _file_config(self) -> dict[str, Any]:
        return {"format": FORMAT, **dataclasses.asdict(self.config)}

    def _file_tensors(self) -> dict[str, Tensor]:
        tensors = {f"net.{k}": v.detach().half().cpu() for k, v in self.state_dict().items()}
        tensors.update({f"int.{k}": v for k, v in self.integer_prior.to_tensors().items()})
        return tensors

    def save(self, path: str | Path) -> None:
        """Write the finalised model: fp16 weights and integer tables.

        Raises:
            ArgumentError: the model was not finalised.
        """
        save_weights(Path(path), self._file_tensors(), self._file_config())

    @classmethod
    def load(cls, path: str | Path) -> "FeatureCodec":
        """Read a model written by `save`; the integer tables are read, not computed.

        Raises:
            ArgumentError: the file is not a feature codec or is inconsistent.
        """
        config, tensors = load_weights(Path(path))
        names = [item.name for item in dataclasses.fields(CodecConfig)]
        if config.get("format") != FORMAT or not all(name in config for name in names):
            raise ArgumentError(
                f"FeatureCodec.load: format is {config.get('format')!r}, must be {FORMAT!r} with "
                "all sizes; give a file written by FeatureCodec.save"
            )
        with torch.device("meta"):  # the sizes are the file's word: no memory before they fit
            model = cls(CodecConfig(**{name: config[name] for name in names}))
        state = {k[4:]: v.float() for k, v in tensors.items() if k.startswith("net.")}
        try:
            model.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise ArgumentError(
                f"FeatureCodec.load: path is {str(path)!r}, whose tensors do not fit its "
                "configuration; write the file again"
            ) from error
        model._integer = IntegerPrior.from_tensors(
            {k[4:]: v for k, v in tensors.items() if k.startswith("int.")}
        )
        prior, c = model._integer, model.config
        elements = c.latent_channels * model.latent_size**2
        if (prior.hyper, prior.elements) != (c.hyper, elements):
            raise ArgumentError(
                f"FeatureCodec.load: tables are for {prior.hyper} and {prior.elements} symbols, "
                f"must be {c.hyper} and {elements}; write the file again"
            )
        model._set_id()
        return model.eval()


def rate_task_loss(
    model: FeatureCodec,
    features: Float[Tensor, "b c h w"],
    head: Callable[[Tensor], Tensor],
    *,
    trade_off: float,
    alpha: float = 1.0,
    beta: float = 2.0,
    pixels: int = 224 * 224,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Return rate/px + trade_off * (alpha * normalised MSE + beta * KL) and its parts.

    The KL goes from the recogniser's own softmax on the uncompressed features (nats), so that no
    labels are needed; the normalised MSE is that of the per-channel normalised features.

    Args:
        model: A codec in training.
        features: Uncompressed features.
        head: The frozen rest of the recogniser, differentiable in its input.
        trade_off: lambda, bits per pixel per unit of distortion.
        alpha: Weight of the normalised MSE.
        beta: Weight of the KL divergence.
        pixels: Pixels per image, for the rate term.

    Returns: The loss and detached scalars `y_bits`, `z_bits` (per image), `mse`, `kl`.
    """
    decoded, y_bits, z_bits = model(features)
    mse = (model.normalise(decoded) - model.normalise(features)).square().mean()
    with torch.no_grad():
        wanted = functional.log_softmax(head(features), dim=1)
    got = functional.log_softmax(head(decoded), dim=1)
    kl = functional.kl_div(got, wanted, log_target=True, reduction="batchmean")
    rate = (y_bits + z_bits).mean() / pixels
    parts = {"y_bits": y_bits.mean(), "z_bits": z_bits.mean(), "mse": mse, "kl": kl}
    loss = rate + trade_off * (alpha * mse + beta * kl)
    return loss, {name: value.detach() for name, value in parts.items()}
