"""SACC's concave tone curve: one monotone concave curve a channel, predicted from a thumbnail."""

from pathlib import Path
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from foveal._core import weights
from foveal.errors import ArgumentError, ShapeError

NUM_KNOTS = 255
THUMBNAIL = 16
FLOOR = 1e-8
"""Least mass of a curve. What the curvature lacks of it is given to the last knot."""

Mode: TypeAlias = Literal["closed", "published"]


def integrate(
    curvature: Float[Tensor, "b knots 3"], *, mode: Mode = "closed"
) -> Float[Tensor, "b 3 levels"]:
    """Turn non-negative curvatures into normalised concave curves.

    The first derivative is the suffix sum of the curvature, the curve is its prefix sum, and the
    whole is divided by its last value: g(0) = 0, g(1) = 1, g concave, increasing and g(x) >= x.

    Args:
        curvature: u >= 0, minus the second derivative at the knots t_j = j / knots.
        mode: "closed": a curvature of all zeros gives the identity, since the last knot gets what
            the mass sum_j u_j t_j lacks of `FLOOR`. "published": divided by the maximum + 1e-10, as
            released; there such a curvature makes a black image.

    Returns: curves at the levels 0, 1/knots, ..., 1; fp32 for narrower curvatures.

    Source: Wang et al., "Unsupervised Illumination Adaptation for Low-Light Vision" (SACC).
    """
    _check_mode("integrate", mode)
    if curvature.dtype in (torch.float16, torch.bfloat16):
        curvature = curvature.float()
    slopes = curvature.flip(1).cumsum(1).flip(1).transpose(1, 2)
    curve = F.pad(slopes.cumsum(2), (1, 0))
    if mode == "published":
        return curve / (curve.amax(2, keepdim=True) + 1e-10)
    last = curve[..., -1:]
    lacking = (FLOOR * curvature.shape[1] - last).clamp_min(0)
    identity = torch.linspace(0, 1, curve.shape[-1], device=curve.device, dtype=curve.dtype)
    return (curve + lacking * identity) / (last + lacking)


def closed_form(
    x: Float[Tensor, "b 3 n"], curvature: Float[Tensor, "b knots 3"]
) -> Float[Tensor, "b 3 n"]:
    """Evaluate g(x) = sum_j u_j min(x, t_j) / sum_j u_j t_j, term by term.

    The definition that `apply_curve(image, integrate(curvature))` computes fast: equal at every x,
    not only at the knots. Differentiable in both. Cost: `knots` operations a value.

    Args:
        x: Values in [0, 1].
        curvature: u >= 0; see `integrate`.
    """
    u = curvature.transpose(1, 2)
    t = torch.arange(1, u.shape[-1] + 1, device=u.device, dtype=u.dtype) / u.shape[-1]
    mass = (u * t).sum(-1, keepdim=True)
    lacking = (FLOOR - mass).clamp_min(0)
    raised = (u[:, :, None] * torch.minimum(x.clamp(0, 1)[..., None], t)).sum(-1)
    return (raised + lacking * x.clamp(0, 1)) / (mass + lacking)


def apply_curve(
    image: Float[Tensor, "b 3 height width"],
    curve: Float[Tensor, "b 3 levels"],
    *,
    mode: Mode = "closed",
) -> Float[Tensor, "b 3 height width"]:
    """Apply curves, exact for any bit depth and differentiable in both.

    Args:
        image: sRGB in [0, 1]; values outside are clipped, NaN stays NaN.
        curve: Values at equally spaced levels; one curve for the batch, or one an image.
        mode: "closed" joins the levels by lines, which is the closed form itself. "published"
            takes the level below, as released: 8 bit only, and no gradient to the pixels.

    Returns: dtype of `image`; fp16 and bf16, which cannot tell levels apart, are computed in fp32.

    Raises:
        ShapeError: a shape is wrong, or batch sizes disagree.

    Source: as `integrate`.
    """
    _check_mode("apply_curve", mode)
    if image.ndim != 4 or image.shape[1] != 3:
        raise ShapeError(
            f"apply_curve: image has shape {tuple(image.shape)}, must be (b, 3, height, width)"
        )
    if curve.ndim != 3 or curve.shape[0] not in (1, image.shape[0]) or curve.shape[1] != 3:
        raise ShapeError(
            f"apply_curve: curve has shape {tuple(curve.shape)}, must be (1 or "
            f"{image.shape[0]}, 3, levels)"
        )
    wide = torch.promote_types(torch.promote_types(image.dtype, curve.dtype), torch.float32)
    curve = curve.to(wide).expand(image.shape[0], -1, -1)
    position = image.flatten(2).to(wide).clamp(0, 1) * (curve.shape[-1] - 1)
    index = position.detach().floor().nan_to_num(0).long()
    if mode == "published":
        return curve.gather(2, index).view_as(image).to(image.dtype)
    index = index.clamp_max(curve.shape[-1] - 2)
    low, high = curve.gather(2, index), curve.gather(2, index + 1)
    return torch.lerp(low, high, position - index).view_as(image).to(image.dtype)


def _check_mode(where: str, mode: str) -> None:
    if mode not in ("closed", "published"):
        raise ArgumentError(f"{where}: mode is {mode!r}, must be 'closed' or 'published'")


class ConcaveCurve(nn.Module):
    """Predict three concave curves from a 16 x 16 thumbnail; 158,061 parameters, 9.5 M MAC.

    Args:
        thumbnail: "nearest" as the authors do, or "area", which is less noisy.
        mode: "closed", or "published": see `integrate` and `apply_curve`.
        coupled: One curve for all channels, the mean of the three, which keeps greys grey.

    Source: Wang et al., "Unsupervised Illumination Adaptation for Low-Light Vision" (SACC): the
    layers, widths, initialisation and integration. Differs by default: `thumbnail` and `mode`;
    `ConcaveCurve.published()` differs in nothing.
    """

    def __init__(
        self, *, thumbnail: str = "area", mode: Mode = "closed", coupled: bool = False
    ) -> None:
        """Make an untrained network: every curve starts near 2x - x^2."""
        super().__init__()
        _check_mode("ConcaveCurve", mode)
        if thumbnail not in ("nearest", "area"):
            raise ArgumentError(
                f"ConcaveCurve: thumbnail is {thumbnail!r}, must be 'nearest' or 'area'"
            )
        self.thumbnail = thumbnail
        self.mode: Mode = mode
        self.coupled = coupled
        self.conv1 = nn.Conv2d(3, 24, 3, padding=1)
        self.conv2 = nn.Conv2d(24, 24, 3, padding=1)
        self.conv3 = nn.Conv2d(24, 24, 3, padding=1)
        self.conv4 = nn.Conv2d(48, 24, 3, padding=1)
        self.conv5 = nn.Conv2d(48, 24, 3, padding=1)
        self.down1 = nn.Conv2d(24, 48, 3, stride=2, padding=1)
        self.down2 = nn.Conv2d(48, 96, 3, stride=2, padding=1)
        self.fc = nn.Linear(96, NUM_KNOTS * 3)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(layer.weight, 0.0, 0.02)
                nn.init.constant_(layer.get_parameter("bias"), 0.0)

    @classmethod
    def published(cls) -> "ConcaveCurve":
        """Return the untrained network exactly as released: nearest thumbnail, floored table."""
        return cls(thumbnail="nearest", mode="published")

    @classmethod
    def load(cls, source: str | Path = "sacc-efficientnet-lite0") -> "ConcaveCurve":
        """Load packaged weights by name, or a file by path.

        Raises:
            ArgumentError: no such weights, or they are not of this network.
        """
        path = Path(source)
        if path.suffix != ".safetensors":
            path = weights.packaged(str(source), family="sacc-")
        config, tensors = weights.load_weights(path)
        if config.get("model") != "ConcaveCurve":
            raise ArgumentError(
                f"ConcaveCurve.load: source is {source}, holds {config.get('model')!r}, "
                "must hold 'ConcaveCurve'"
            )
        model = cls(
            thumbnail=config.get("thumbnail", ""),
            mode=config.get("mode", "closed"),
            coupled=bool(config.get("coupled", False)),
        )
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise ArgumentError(f"ConcaveCurve.load: source is {source} ({error})") from error
        return model.eval().requires_grad_(False)

    def save(self, path: str | Path) -> None:
        """Write the weights (.safetensors) and the settings (.json beside it), for `load`."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise ArgumentError(f"ConcaveCurve.save: path is {path}, must end in .safetensors")
        weights.save_weights(path, self.state_dict(), self.config())

    def config(self) -> dict[str, str | bool]:
        """Return the settings that `load` wants beside the weights."""
        return {
            "model": "ConcaveCurve",
            "thumbnail": self.thumbnail,
            "mode": self.mode,
            "coupled": self.coupled,
        }

    def curvature(self, image: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b 255 3"]:
        """Return what the network itself says: u >= 0 of a batch of sRGB images in [0, 1]."""
        size = (THUMBNAIL, THUMBNAIL)
        x = image.clamp(0, 1)
        x = (
            F.interpolate(x, size)
            if self.thumbnail == "nearest"
            else F.adaptive_avg_pool2d(x, size)
        )
        x1 = F.relu(self.conv1(x))
        x2 = F.relu(self.conv2(x1))
        x3 = F.relu(self.conv3(x2))
        x4 = F.relu(self.conv4(torch.cat([x2, x3], 1)))
        x5 = F.relu(self.conv5(torch.cat([x1, x4], 1)))
        pooled = self.down2(self.down1(x5)).mean((2, 3))
        return F.relu(self.fc(pooled)).view(-1, NUM_KNOTS, 3)

    def predict(self, image: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b 3 256"]:
        """Return the curves of a batch of sRGB images in [0, 1]."""
        curve = integrate(self.curvature(image), mode=self.mode)
        return curve.mean(1, keepdim=True).expand(-1, 3, -1) if self.coupled else curve

    def predict_clip(self, frames: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "1 3 256"]:
        """Return one curve for a whole clip: the frames are stacked along the height.

        Source: as `ConcaveCurve`; the released video model does so.
        """
        stacked = frames.transpose(0, 1).flatten(1, 2)[None]
        return self.predict(stacked)

    def forward(
        self, image: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return brightened images, each by its own curve."""
        return apply_curve(image, self.predict(image), mode=self.mode)


def num_multiply_adds() -> int:
    """Multiply-adds of one prediction; independent of the size of the image."""
    full, half, quarter = THUMBNAIL**2, (THUMBNAIL // 2) ** 2, (THUMBNAIL // 4) ** 2
    convolutions = (3 * 24 + 2 * 24 * 24 + 2 * 48 * 24) * 9 * full
    return convolutions + 24 * 48 * 9 * half + 48 * 96 * 9 * quarter + 96 * NUM_KNOTS * 3
