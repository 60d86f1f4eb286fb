"""SACC's concave tone curve: one monotone concave curve a channel, predicted from a thumbnail."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from foveal._core import weights
from foveal.errors import ArgumentError, ShapeError

NUM_KNOTS = 255
THUMBNAIL = 16


def integrate(curvature: Float[Tensor, "b knots 3"]) -> Float[Tensor, "b 3 levels"]:
    """Turn non-negative curvatures into normalised concave curves.

    The first derivative is the suffix sum of the curvature, the curve is its prefix sum, and the
    whole is divided by its last value: g(0) = 0, g(1) = 1, g concave and increasing.

    Args:
        curvature: u >= 0, minus the second derivative at the knots j / knots.

    Returns: curves at the levels 0, 1/knots, ..., 1. A curvature of all zeros gives the identity.

    Source: Wang et al., "Unsupervised Illumination Adaptation for Low-Light Vision" (SACC).
    """
    slopes = curvature.flip(1).cumsum(1).flip(1).transpose(1, 2)
    curve = F.pad(slopes.cumsum(2), (1, 0))
    last = curve[..., -1:]
    identity = torch.linspace(0, 1, curve.shape[-1], device=curve.device, dtype=curve.dtype)
    return torch.where(last > 0, curve / last.clamp_min(1e-10), identity)


def apply_curve(
    image: Float[Tensor, "b 3 height width"], curve: Float[Tensor, "b 3 levels"]
) -> Float[Tensor, "b 3 height width"]:
    """Apply piecewise-linear curves, exact for any bit depth and differentiable in both.

    Args:
        image: sRGB in [0, 1].
        curve: Values at equally spaced levels; one curve for the batch, or one an image.

    Raises:
        ShapeError: batch sizes disagree.

    Source: as `integrate`. Differs: linear interpolation, where the released code floors to 8 bit
    and so has no gradient to the pixels. `tests` prove both equal on 8-bit input.
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise ShapeError(
            f"apply_curve: image has shape {tuple(image.shape)}, must be (b, 3, height, width)"
        )
    if curve.shape[0] not in (1, image.shape[0]) or curve.shape[1] != 3:
        raise ShapeError(
            f"apply_curve: curve has shape {tuple(curve.shape)}, must be (1 or "
            f"{image.shape[0]}, 3, levels)"
        )
    curve = curve.expand(image.shape[0], -1, -1)
    position = image.flatten(2).clamp(0, 1) * (curve.shape[-1] - 1)
    index = position.detach().floor().long().clamp_max(curve.shape[-1] - 2)
    low, high = curve.gather(2, index), curve.gather(2, index + 1)
    return torch.lerp(low, high, position - index).view_as(image)


class ConcaveCurve(nn.Module):
    """Predict three concave curves from a 16 x 16 thumbnail; 158,061 parameters, 9.5 M MAC.

    Args:
        thumbnail: "nearest" as the authors do, or "area", which is less noisy.

    Source: Wang et al., "Unsupervised Illumination Adaptation for Low-Light Vision" (SACC): the
    layers, widths, initialisation and integration. Differs: `thumbnail="area"` is our default.
    """

    def __init__(self, *, thumbnail: str = "area") -> None:
        """Make an untrained network: every curve starts near 2x - x^2."""
        super().__init__()
        if thumbnail not in ("nearest", "area"):
            raise ArgumentError(
                f"ConcaveCurve: thumbnail is {thumbnail!r}, must be 'nearest' or 'area'"
            )
        self.thumbnail = thumbnail
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
        model = cls(thumbnail=config.get("thumbnail", ""))
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise ArgumentError(f"ConcaveCurve.load: source is {source} ({error})") from error
        return model.eval().requires_grad_(False)

    def predict(self, image: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b 3 256"]:
        """Return the curves of a batch of sRGB images in [0, 1]."""
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
        return integrate(F.relu(self.fc(pooled)).view(-1, NUM_KNOTS, 3))

    def predict_clip(self, frames: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "1 3 256"]:
        """Return one curve for a whole clip: the frames are stacked along the height."""
        stacked = frames.transpose(0, 1).flatten(1, 2)[None]
        return self.predict(stacked)

    def forward(
        self, image: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 height width"]:
        """Return brightened images, each by its own curve."""
        return apply_curve(image, self.predict(image))


def num_multiply_adds() -> int:
    """Multiply-adds of one prediction; independent of the size of the image."""
    full, half, quarter = THUMBNAIL**2, (THUMBNAIL // 2) ** 2, (THUMBNAIL // 4) ** 2
    convolutions = (3 * 24 + 2 * 24 * 24 + 2 * 48 * 24) * 9 * full
    return convolutions + 24 * 48 * 9 * half + 48 * 96 * 9 * quarter + 96 * NUM_KNOTS * 3
