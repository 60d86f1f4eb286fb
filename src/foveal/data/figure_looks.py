"""Random cameras, paint, light and backdrops for `foveal.data.figures`."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal.data.figures import PATTERNS, Cameras, Looks
from foveal.errors import ArgumentError

Range = tuple[float, float]


def draw_cameras(
    count: int,
    generator: torch.Generator,
    *,
    azimuth_degrees: Sequence[Range] = ((-180.0, 180.0),),
    elevation_degrees: Range = (-3.0, 28.0),
    distance: Range = (2.6, 4.4),
    field_of_view_degrees: Range = (38.0, 50.0),
    height: Range = (0.75, 1.0),
    shift: float = 0.25,
    device: str | torch.device = "cpu",
) -> Cameras:
    """Draw cameras around the z axis, uniformly in each range.

    Args:
        count: Cameras.
        generator: On the CPU, so that every device gets the same.
        azimuth_degrees: Ranges; each counts by its width.
        elevation_degrees: See `Cameras`.
        distance: In m.
        field_of_view_degrees: See `Cameras`.
        height: Of the target, m.
        shift: Most shift of the target, sideways and up, m.
        device: Where to.

    Raises:
        ArgumentError: `count` is below 1, or a range is empty.
    """
    _check("draw_cameras", count)
    widths = torch.tensor([high - low for low, high in azimuth_degrees])
    if len(widths) == 0 or not bool(((widths >= 0) & widths.isfinite()).all()):
        raise ArgumentError(
            f"draw_cameras: azimuth_degrees is {tuple(azimuth_degrees)}, must be ranges "
            "(low, high) with low <= high"
        )
    for name, (low, high) in (
        ("elevation_degrees", elevation_degrees), ("distance", distance),
        ("field_of_view_degrees", field_of_view_degrees), ("height", height),
    ):  # fmt: skip
        if not low <= high:
            raise ArgumentError(f"draw_cameras: {name} is {(low, high)}, must be low <= high")

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    chosen = torch.multinomial(widths + 1e-9, count, replacement=True, generator=generator)
    lows = torch.tensor([low for low, _ in azimuth_degrees])[chosen]
    azimuth = lows + widths[chosen] * torch.rand(count, generator=generator)
    moved = [between(-shift, shift), between(-shift, shift), between(*height)]
    moved[2] = moved[2] + between(-shift, shift) / 2
    return Cameras(
        azimuth=azimuth.deg2rad().to(device),
        elevation=between(*elevation_degrees).deg2rad().to(device),
        distance=between(*distance).to(device),
        field_of_view=between(*field_of_view_degrees).deg2rad().to(device),
        target=torch.stack(moved, -1).to(device),
    )


def draw_looks(
    materials: Sequence[int],
    count: int,
    generator: torch.Generator,
    *,
    azimuth: Float[Tensor, "b"] | None = None,
    backdrops: Float[Tensor, "b 3 height width"] | None = None,
    photo_fraction: float = 0.7,
    device: str | torch.device = "cpu",
) -> Looks:
    """Draw paint, light and what is behind, for clips of one kind of body.

    Colors are random in sRGB, most of them muted; half of the body's materials are plain, floor and
    wall seldom. The sun stands 20 to 80 degrees high, on the side of the camera if its azimuth is
    given; sun and sky together expose a white floor to about 0.5 to 1.1, less where the sun is low.

    Args:
        materials: Of each solid, from 0; those of floor and wall are added.
        count: Clips.
        generator: On the CPU, so that every device gets the same.
        azimuth: Of the cameras, one a clip, rad.
        backdrops: Photographs, one a clip.
        photo_fraction: Share of clips that show theirs, in [0, 1].
        device: Where to.

    Raises:
        ArgumentError: `count` is below 1, no solid, a share out of range, or other numbers of
            cameras or backdrops.
    """
    _check("draw_looks", count)
    if len(materials) == 0 or min(materials) < 0:
        raise ArgumentError(
            f"draw_looks: materials is {tuple(materials)}, must be numbers >= 0, one a solid"
        )
    if not 0 <= photo_fraction <= 1:
        raise ArgumentError(f"draw_looks: photo_fraction is {photo_fraction}, must be in [0, 1]")
    for name, given in (("azimuth", azimuth), ("backdrops", backdrops)):
        if given is not None and len(given) != count:
            raise ArgumentError(f"draw_looks: {name} has {len(given)}, must have {count}")
    number = max(materials) + 3

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    # Waves: a random direction of 8 to 80 rad/m (0.08 to 0.8 m long); floor and wall are coarser.
    direction = F.normalize(torch.randn(count, number, 3, 3, generator=generator), dim=-1)
    rate = 8 * (10 ** rand(count, number, 3, 1))
    rate[:, -2:] *= 0.3
    pattern = torch.randint(1, len(PATTERNS), (count, number), generator=generator)
    pattern = pattern * (rand(count, number) < 0.5)
    pattern[:, -2:] = torch.where(
        rand(count, 2) < 0.7,
        torch.randint(1, len(PATTERNS), (count, 2), generator=generator),
        pattern[:, -2:],
    )
    bearing = rand(count) * 2 * math.pi
    if azimuth is not None:
        bearing = azimuth.cpu() + (rand(count) - 0.5) * 2.8
    rise = (20 + 60 * rand(count)).deg2rad()
    light = torch.stack([rise.cos() * bearing.cos(), rise.cos() * bearing.sin(), rise.sin()], -1)
    level = 0.5 + 0.6 * rand(count, 1)
    share = 0.3 + 0.5 * rand(count, 1)
    tint = 1 + 0.15 * (2 * rand(count, 2, 3) - 1)
    sun = level * share * tint[:, 0] / rise.sin()[:, None].clamp_min(0.5)
    colors, strength = rand(count, number, 2, 3), 0.8 * rand(count, number, 1, 1)
    gray = colors.mean(-1, keepdim=True)
    gray = 0.5 + (gray - 0.5) * 1.5  # a mean of three is seldom dark or bright
    behind = torch.zeros(count, dtype=torch.long)
    if backdrops is not None:
        shown = rand(count) < photo_fraction
        behind = torch.where(shown, torch.randint(1, 3, (count,), generator=generator), behind)
    return Looks(
        material=torch.tensor(list(materials)).expand(count, -1).to(device),
        pattern=pattern.to(device),
        waves=(direction * rate).to(device),
        phases=(rand(count, number, 3) * 2 * math.pi).to(device),
        edge=(10 ** (1.5 * rand(count, number))).to(device),
        colors=torch.lerp(gray, colors, strength).clamp(0, 1).pow(2.2).to(device),
        light=light.to(device),
        sun=sun.to(device),
        sky=(level * (1 - share) * tint[:, 1]).to(device),
        wall=(1.0 + 2.0 * rand(count)).to(device),
        wall_azimuth=((rand(count) - 0.5) * 1.2).to(device),
        behind=behind.to(device),
        backdrop=None if backdrops is None else backdrops.to(device),
    )


def _check(where: str, count: int) -> None:
    if count < 1:
        raise ArgumentError(f"{where}: count is {count}, must be >= 1")
