"""Scenes of layers that each move by themselves, with the exact optical flow between frames.

scenes = moving_layers(8, size=(256, 256), displacement=24.0, seed=0)     # .frames .flow .valid
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from foveal.errors import ArgumentError, ShapeError

Textures: TypeAlias = Float[Tensor, "n 3 height width"] | UInt8[Tensor, "n 3 height width"]
Cutouts: TypeAlias = Float[Tensor, "m 4 rows columns"] | UInt8[Tensor, "m 4 rows columns"]

PURE = 0.95
"""Least share of a pixel that one layer must have for its motion to be checked."""
_SHIFT, _TURN, _GROW = 0.7, 0.15, 0.15
"""How the greatest displacement is shared out between translation, rotation and scale."""
_WAVES = 4
_LEAST_SIDE = 16
_BACKGROUND_SCALE = (0.85, 1.6)
_PATCH_SCALE = (0.7, 1.6)
_RADIUS = (0.35, 0.85)


@dataclass(frozen=True, slots=True)
class Layers:
    """What moves, and how. A point u of a layer's texture lies at c + s R(angle) u.

    Origins are the middles of texture and frame; x to the right, y down, in pixels. Each frame adds
    `velocity` to the center, `spin` to the angle, and multiplies the scale by exp(`growth`). Layer
    0 is the background, which goes on in mirrors; the last layer is in front.

    Attributes:
        background: Texture of layer 0, in [0, 1].
        patches: Of the other layers: color times alpha, and alpha.
        center: In the first frame, pixels.
        velocity: Pixels a frame.
        angle: Radians, from x to y.
        spin: Radians a frame.
        scale: Pixels of the frame over pixels of the texture.
        growth: Natural logarithm of the scale of one frame over that of the one before.
        source: Number of the texture that each layer was cut from; -1: procedural, or a cut-out.
    """

    background: Float[Tensor, "b 3 side_v side_u"]
    patches: Float[Tensor, "b shapes 4 patch patch"]
    center: Float[Tensor, "b layers 2"]
    velocity: Float[Tensor, "b layers 2"]
    angle: Float[Tensor, "b layers"]
    spin: Float[Tensor, "b layers"]
    scale: Float[Tensor, "b layers"]
    growth: Float[Tensor, "b layers"]
    source: Int64[Tensor, "b layers"]

    def pose(self, frame: int) -> "Layers":
        """Return the layers as they lie in a later frame."""
        return dataclasses.replace(
            self,
            center=self.center + frame * self.velocity,
            angle=self.angle + frame * self.spin,
            scale=self.scale * (frame * self.growth).exp(),
        )


@dataclass(frozen=True, slots=True)
class MovingScenes:
    """Frames and the motion between them.

    Attributes:
        frames: sRGB in [0, 1].
        flow: From each frame to the next: right and down, in pixels, of the layer that has the
            largest share of the pixel.
        valid: The pixel is of one layer (`PURE` of it), which is there in the next frame too:
            neither hidden nor outside.
        source: Number of the texture of the background; -1: procedural.
    """

    frames: Float[Tensor, "b t 3 h w"]
    flow: Float[Tensor, "b t1 2 h w"]
    valid: Bool[Tensor, "b t1 h w"]
    source: Int64[Tensor, "b"]


def moving_layers(
    batch: int,
    *,
    size: tuple[int, int] = (256, 256),
    num_frames: int = 2,
    num_shapes: int = 5,
    displacement: float = 24.0,
    textures: Textures | None = None,
    cutouts: Cutouts | None = None,
    backgrounds: Sequence[int] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> MovingScenes:
    """Draw scenes and render them; see `draw_layers` for the arguments, `Layers` for the motion.

    The flow is exact: of the affine motion itself, not found in the pictures.

    Returns: Scenes on `device`. The same seed gives the same bits on one kind of device.

    Cost: linear in batch x frames x (shapes + 1) x pixels, in time and memory.
    """
    layers = draw_layers(
        batch,
        size=size,
        num_frames=num_frames,
        num_shapes=num_shapes,
        displacement=displacement,
        textures=textures,
        cutouts=cutouts,
        backgrounds=backgrounds,
        seed=seed,
        device=device,
    )
    return render_layers(layers, size=size, num_frames=num_frames)


def draw_layers(
    batch: int,
    *,
    size: tuple[int, int] = (256, 256),
    num_frames: int = 2,
    num_shapes: int = 5,
    displacement: float = 24.0,
    textures: Textures | None = None,
    cutouts: Cutouts | None = None,
    backgrounds: Sequence[int] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Layers:
    """Draw textures, outlines and motions of scenes.

    Args:
        batch: Scenes.
        size: Height and width of the frames, in pixels.
        num_frames: Frames that `displacement` is to hold for, at least 2.
        num_shapes: Layers before the background, at least 1.
        displacement: No pixel moves further from a frame to the next; > 0, pixels. Speeds are
            uniform up to it.
        textures: What layers are cut from: [0, 1], or 8 bit; None: procedural ones.
        cutouts: Color (not times alpha) and alpha, likewise; half of the shapes then are of these,
            the others blobs of texture. None: blobs only.
        backgrounds: Which texture lies behind each scene; None: drawn.
        seed: Of everything that is drawn.
        device: Where the layers are made.

    Raises:
        ArgumentError: a value is out of range, or textures hold NaN or values out of [0, 1].
        ShapeError: textures or cut-outs have another shape.
    """
    height, width = size
    _check(batch, size, num_frames, num_shapes, displacement, seed)
    if backgrounds is not None and textures is None:
        raise ArgumentError(
            "moving_layers: backgrounds is given without textures, must be numbers of these; give "
            "textures, or none"
        )
    for name, given, channels in (("textures", textures, 3), ("cutouts", cutouts, 4)):
        _check_pixels(name, given, channels)
    random = torch.Generator(device).manual_seed(seed)

    def draw(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=random, device=device)

    patch = max(_LEAST_SIDE, min(size) // 2)
    side = max(size) + 2 * math.ceil(displacement)
    if textures is None:
        behind = procedural_textures(batch, side, random)
        pixels = procedural_textures(batch * num_shapes, patch, random)
        source = torch.full((batch, num_shapes + 1), -1, device=device)
    else:
        textures = textures.to(device)
        source = torch.randint(
            len(textures), (batch, num_shapes + 1), generator=random, device=device
        )
        if backgrounds is not None:
            source[:, 0] = _numbers(backgrounds, batch, len(textures), device)
        behind = _as_float(textures[source[:, 0]])
        places = draw(batch * num_shapes, 2)
        pixels = _crops(textures, source[:, 1:].flatten(), places, patch)
    alpha = _blobs(draw(batch * num_shapes, 2 * _WAVES + 1), patch)
    patches = torch.cat([pixels * alpha, alpha], 1)
    if cutouts is not None:
        chosen = torch.randint(len(cutouts), (batch * num_shapes,), generator=random, device=device)
        given = _as_float(cutouts.to(device)[chosen])
        given = torch.cat([given[:, :3] * given[:, 3:], given[:, 3:]], 1)
        given = F.interpolate(given, (patch, patch), mode="bilinear", antialias=True)
        taken = draw(batch * num_shapes) < 0.5
        patches = torch.where(taken[:, None, None, None], given, patches)
        source[:, 1:] = source[:, 1:].masked_fill(taken.view(batch, num_shapes), -1)
    scale = draw(batch, num_shapes + 1, low=_PATCH_SCALE[0], high=_PATCH_SCALE[1])
    scale[:, 0] = draw(batch, low=_BACKGROUND_SCALE[0], high=_BACKGROUND_SCALE[1])
    # Farthest point of a layer from its center, in the last frame that something moves from: the
    # corner of a patch that grew as fast as it may, or that of the frame.
    reach = scale * patch / math.sqrt(2)
    reach = reach * (1 + _GROW * displacement / reach) ** (num_frames - 2)
    reach[:, 0] = math.hypot(height, width) / 2 + (num_frames - 2) * displacement
    speed, turn, grow = (
        share * displacement * draw(batch, num_shapes + 1) for share in (_SHIFT, _TURN, _GROW)
    )
    heading = draw(batch, num_shapes + 1, high=2 * math.pi)
    sign = draw(2, batch, num_shapes + 1).sub(0.5).sign()
    spread = draw(batch, num_shapes + 1, 2, low=-0.5, high=0.5)
    center = spread * torch.tensor([width, height], device=device)
    center[:, 0] = 0
    angle = draw(batch, num_shapes + 1, high=2 * math.pi)
    angle[:, 0] = draw(batch, low=-0.2, high=0.2)
    return Layers(
        background=behind,
        patches=patches.view(batch, num_shapes, 4, patch, patch),
        center=center,
        velocity=speed[..., None] * torch.stack([heading.cos(), heading.sin()], -1),
        angle=angle,
        spin=sign[1] * turn / reach,
        scale=scale,
        growth=sign[0] * torch.log1p(grow / reach),
        source=source,
    )


def render_layers(
    layers: Layers, *, size: tuple[int, int] = (256, 256), num_frames: int = 2
) -> MovingScenes:
    """Render frames of moving layers, and the flow between them.

    Layers are sampled bilinearly and laid over each other by their alpha.

    Args:
        layers: What moves.
        size: Height and width of the frames, in pixels.
        num_frames: At least 2.

    Raises: ArgumentError: a value is out of range.
    """
    _check(len(layers.background), size, num_frames, layers.patches.shape[1], 1.0, 0)
    height, width = size
    device = layers.center.device
    x = torch.arange(width, device=device) + 0.5 - width / 2
    y = torch.arange(height, device=device) + 0.5 - height / 2
    points = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1])  # (2, h, w): right, down
    poses = [layers.pose(i) for i in range(num_frames)]
    drawn = [_draw(pose, points) for pose in poses]
    flows: list[Tensor] = []
    valid: list[Tensor] = []
    for i in range(num_frames - 1):
        share, label = drawn[i][1].max(1, keepdim=True)
        moved = _move(poses[i], poses[i + 1], points)
        flow = moved.gather(1, label[:, :, None].expand(-1, -1, 2, -1, -1))[:, 0]
        target = points + flow
        half = torch.tensor([width, height], device=device).view(2, 1, 1) / 2
        grid = (target / half).permute(0, 2, 3, 1)
        # Outside of the next frame no layer has a share.
        later = F.grid_sample(drawn[i + 1][1], grid, align_corners=False).gather(1, label)[:, 0]
        flows.append(flow)
        valid.append((share[:, 0] >= PURE) & (later >= PURE))
    return MovingScenes(
        frames=torch.stack([frame for frame, _ in drawn], 1),
        flow=torch.stack(flows, 1),
        valid=torch.stack(valid, 1),
        source=layers.source[:, 0],
    )


def procedural_textures(
    count: int, side: int, generator: torch.Generator
) -> Float[Tensor, "count 3 side side"]:
    """Return colored noise of several octaves, in [0, 1], on the generator's device.

    Args:
        count: Textures.
        side: In pixels.
        generator: Of the noise.
    """
    device = generator.device
    total = torch.zeros(count, 3, side, side, device=device)
    cells = 3
    while cells <= side // 3:
        noise = torch.randn(count, 3, cells, cells, generator=generator, device=device)
        strength = torch.rand(count, 3, 1, 1, generator=generator, device=device)
        noise = F.interpolate(noise, (side, side), mode="bicubic")
        total += strength * noise
        cells *= 2
    shade = torch.randn(count, 3, 1, 1, generator=generator, device=device)
    return torch.sigmoid(1.5 * (total + 0.7 * shade))


def _draw(layers: Layers, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return a frame (b, 3, h, w) and each layer's share of its pixels (b, layers, h, w)."""
    shapes = layers.patches.shape[1]
    turned = _turned(points - layers.center[..., None, None], -layers.angle)
    inside = turned / layers.scale[..., None, None, None]  # in pixels of the texture
    half = torch.tensor(layers.background.shape[:1:-1], device=points.device).view(2, 1, 1) / 2
    grid = (inside[:, 0] / half).permute(0, 2, 3, 1)
    behind = F.grid_sample(layers.background, grid, padding_mode="reflection", align_corners=False)
    grid = (inside[:, 1:] / (layers.patches.shape[-1] / 2)).flatten(0, 1).permute(0, 2, 3, 1)
    before = F.grid_sample(layers.patches.flatten(0, 1), grid, align_corners=False)
    before = before.unflatten(0, (-1, shapes))
    alpha = torch.cat([torch.ones_like(behind[:, None, 0]), before[:, :, 3]], 1)
    # What the layers in front of each let through.
    through = (1 - alpha).flip(1).cumprod(1).flip(1)
    through = torch.cat([through[:, 1:], torch.ones_like(through[:, :1])], 1)
    frame = through[:, :1] * behind + (through[:, 1:, None] * before[:, :, :3]).sum(1)
    return frame.clamp(0, 1), alpha * through


def _move(here: Layers, there: Layers, points: Tensor) -> Tensor:
    """Return how far each point goes if it is of each layer: (b, layers, 2, h, w)."""
    offset = points - here.center[..., None, None]
    ratio = (there.scale / here.scale)[..., None, None, None]
    moved = ratio * _turned(offset, there.angle - here.angle)
    return moved + there.center[..., None, None] - points


def _turned(points: Tensor, angle: Tensor) -> Tensor:
    """Turn points (b, layers, 2, h, w) about the origin, from x to y."""
    cos, sin = angle.cos()[..., None, None], angle.sin()[..., None, None]
    x, y = points.unbind(2)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], 2)


def _blobs(draws: Tensor, side: int) -> Tensor:
    """Return alpha maps (n, 1, side, side) of blobs whose radius waves along the angle."""
    axis = (torch.arange(side, device=draws.device) + 0.5 - side / 2) / (side / 2)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    angle, distance = torch.atan2(y, x), torch.hypot(x, y)
    radius = torch.ones(len(draws), side, side, device=draws.device)
    for k in range(_WAVES):
        strength, phase = draws[:, 2 * k, None, None], draws[:, 2 * k + 1, None, None]
        radius += 0.35 * strength / (k + 1) * torch.cos((k + 1) * angle + 2 * math.pi * phase)
    low, high = _RADIUS
    radius = radius / radius.amax((1, 2), keepdim=True)
    radius = radius * (low + (high - low) * draws[:, -1, None, None])
    return ((radius - distance) * side / 2 + 0.5).clamp(0, 1)[:, None]


def _crops(textures: Tensor, number: Tensor, places: Tensor, side: int) -> Tensor:
    """Cut squares at places in [0, 1) of the textures of given numbers, enlarged if too small."""
    height, width = textures.shape[2:]
    if min(height, width) < side:
        scale = side / min(height, width)
        size = (max(side, round(height * scale)), max(side, round(width * scale)))
        textures = F.interpolate(
            _as_float(textures[number]), size, mode="bilinear", align_corners=False
        )
        number = torch.arange(len(number), device=number.device)
        height, width = size
    top = (places[:, 0] * (height - side + 1)).long()
    left = (places[:, 1] * (width - side + 1)).long()
    step = torch.arange(side, device=textures.device)
    rows = (top[:, None] + step)[:, None, :, None]
    columns = (left[:, None] + step)[:, None, None, :]
    channels = torch.arange(3, device=textures.device)[None, :, None, None]
    return _as_float(textures[number[:, None, None, None], channels, rows, columns])


def _as_float(pixels: Tensor) -> Tensor:
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()


def _numbers(given: Sequence[int], batch: int, count: int, device: str | torch.device) -> Tensor:
    if len(given) != batch or not all(0 <= i < count for i in given):
        raise ArgumentError(
            f"moving_layers: backgrounds is {list(given)[:8]}, must be {batch} numbers of "
            f"{count} textures, from 0"
        )
    return torch.tensor(list(given), device=device)


def _check(
    batch: int,
    size: tuple[int, int],
    num_frames: int,
    num_shapes: int,
    displacement: float,
    seed: int,
) -> None:
    for name, value, least in (
        ("batch", batch, 1),
        ("num_frames", num_frames, 2),
        ("num_shapes", num_shapes, 1),
        ("height", size[0], _LEAST_SIDE),
        ("width", size[1], _LEAST_SIDE),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ArgumentError(f"moving_layers: {name} is {value}, must be >= {least}")
    if not 0 < displacement <= max(size):
        raise ArgumentError(
            f"moving_layers: displacement is {displacement}, must be in (0, {max(size)}]: pixels, "
            "at most the longer side"
        )


def _check_pixels(name: str, given: Tensor | None, channels: int) -> None:
    if given is None:
        return
    if given.ndim != 4 or given.shape[1] != channels or 0 in given.shape:
        raise ShapeError(
            f"moving_layers: {name} has shape {tuple(given.shape)}, must be (n, {channels}, "
            "height, width) and not empty"
        )
    if given.dtype == torch.uint8:
        return
    if not given.is_floating_point() or not bool(((given >= 0) & (given <= 1)).all()):
        raise ArgumentError(
            f"moving_layers: {name} is {given.dtype} with values out of [0, 1] or NaN, must be in "
            "[0, 1], or 8 bit"
        )
