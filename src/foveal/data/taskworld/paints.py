"""Materials drawn at random: what surfaces are painted with."""

from foveal.data.taskworld.world import Dice, Material

Color = tuple[float, float, float]
DETAIL = 1.6
"""Global amount of fine texture, tied to the bits of photographs; see `docs/taskworld.md`."""


def color(dice: Dice, low: float, high: float, saturation: float) -> Color:
    """A color of brightness in [low, high) and a saturation up to a limit, linear; often warm."""
    hue = dice.between(0.1, 0.9) if dice.chance(0.5) else 6 * dice.unit()
    strength, value = saturation * dice.unit() * dice.unit() ** 0.5, dice.between(low, high)
    parts: list[float] = []
    for n in (5, 3, 1):
        k = (n + hue) % 6
        parts.append(round(value * (1 - strength * max(0.0, min(k, 4 - k, 1.0))), 4))
    return (parts[0], parts[1], parts[2])


def near(dice: Dice, base: Color, spread: float) -> Color:
    """A color that differs a little in every part, and as a whole."""
    whole = dice.between(1 - spread, 1 + spread)
    parts = [
        round(min(0.95, max(0.01, c * whole * dice.between(1 - spread / 3, 1 + spread / 3))), 4)
        for c in base
    ]
    return (parts[0], parts[1], parts[2])


def _make(
    dice: Dice,
    first: Color,
    second: Color,
    *,
    gap: Color = (0.0, 0.0, 0.0),
    cell: tuple[float, float] = (1.0, 1.0),
    shift: float = 0.0,
    joint: float = 0.0,
    tone: float = 0.0,
    parity: float = 0.0,
    glyph: float = 0.0,
    window: bool = False,
    noise: tuple[float, float] = (2.0, 2.0),
    blend: float = 0.0,
    sharp: float = 1.0,
    grain: float = 0.3,
    glow: float = 0.0,
) -> Material:
    def cut(x: float) -> float:
        return round(x, 4)

    return Material(
        first, second, gap, (cut(cell[0]), cut(cell[1])), cut(shift), cut(joint), cut(tone),
        cut(parity), cut(glyph), window, (cut(noise[0]), cut(noise[1])), cut(blend), cut(sharp),
        cut(grain * DETAIL), cut(glow), int(65536 * dice.unit()),
    )  # fmt: skip


def plain(dice: Dice, base: Color | None = None) -> Material:
    """Plaster, paint, metal: one color and a little noise."""
    base = base or color(dice, 0.1, 0.8, 0.9)
    wave = dice.between(2, 10)
    return _make(
        dice, base, near(dice, base, 0.3), noise=(wave, wave), blend=dice.between(0, 0.4),
        sharp=dice.between(1, 3), grain=dice.between(0.08, 0.4),
    )  # fmt: skip


def bricks(dice: Dice) -> Material:
    """Bricks or blocks in mortar."""
    base, mortar = color(dice, 0.12, 0.6, 0.65), color(dice, 0.15, 0.7, 0.15)
    height = dice.between(0.07, 0.3)
    return _make(
        dice, base, near(dice, base, 0.5), gap=mortar, cell=(height * dice.between(2, 3.2), height),
        shift=0.5, joint=dice.between(0.008, 0.02), tone=dice.between(0.2, 0.6), noise=(6, 6),
        blend=0.5, grain=dice.between(0.2, 0.45),
    )  # fmt: skip


def planks(dice: Dice) -> Material:
    """Boards with grain along them."""
    base = color(dice, 0.08, 0.6, 0.65)
    width = dice.between(0.07, 0.25)
    return _make(
        dice, base, near(dice, base, 0.6), gap=near(dice, (0.05, 0.04, 0.03), 0.4),
        cell=(width * dice.between(5, 12), width), shift=-1, joint=dice.between(0.003, 0.01),
        tone=dice.between(0.2, 0.6), noise=(2, dice.between(14, 30)), blend=dice.between(0.3, 0.9),
        sharp=2, grain=dice.between(0.2, 0.45),
    )  # fmt: skip


def tiles(dice: Dice, size: float | None = None) -> Material:
    """Square tiles with joints."""
    base = color(dice, 0.15, 0.8, 0.5)
    size = size or dice.between(0.15, 0.8)
    return _make(
        dice, base, near(dice, base, 0.4), gap=color(dice, 0.08, 0.6, 0.1), cell=(size, size),
        joint=dice.between(0.006, 0.02), tone=dice.between(0.05, 0.35), noise=(4, 4), blend=0.6,
        sharp=dice.between(1, 3), grain=dice.between(0.1, 0.4),
    )  # fmt: skip


def checks(dice: Dice, low: float = 0.05, high: float = 0.5) -> Material:
    """Two colors in turn."""
    size = dice.scale(low, high)
    return _make(
        dice, color(dice, 0.4, 0.85, 0.6), color(dice, 0.04, 0.35, 0.9), cell=(size, size),
        parity=dice.between(0.7, 1), tone=0.15, noise=(5, 5), grain=dice.between(0.1, 0.35),
    )  # fmt: skip


def stripes(dice: Dice, low: float = 0.04, high: float = 0.3) -> Material:
    """Bands of two colors, upright or level."""
    size, long = dice.scale(low, high), 1000.0
    cell = (size, long) if dice.chance(0.5) else (long, size)
    return _make(
        dice, color(dice, 0.3, 0.8, 0.9), color(dice, 0.05, 0.5, 0.9), cell=cell,
        parity=dice.between(0.5, 1), tone=0.2, noise=(5, 5), grain=dice.between(0.1, 0.4),
    )  # fmt: skip


def sign(dice: Dice, height: float = 0.12) -> Material:
    """Marks like letters."""
    dark, bright = color(dice, 0.02, 0.15, 0.8), color(dice, 0.6, 0.9, 0.4)
    first, second = (bright, dark) if dice.chance(0.6) else (dark, bright)
    return _make(
        dice, first, second, cell=(height * dice.between(0.6, 0.9), height), glyph=1,
        noise=(3, 3), grain=0.12, glow=0.0,
    )  # fmt: skip


def leaves(dice: Dice) -> Material:
    """Foliage: small bright and dark spots."""
    base = color(dice, 0.15, 0.5, 0.0)
    tint = dice.pick(((0.45, 0.8, 0.25), (0.75, 0.75, 0.2), (0.85, 0.5, 0.2), (0.3, 0.6, 0.35)))
    bright = near(dice, (base[0] * tint[0], base[1] * tint[1], base[2] * tint[2]), 0.2)
    dark = near(dice, (bright[0] * 0.25, bright[1] * 0.3, bright[2] * 0.25), 0.2)
    wave = dice.between(3, 8)
    return _make(
        dice, bright, dark, noise=(wave, wave), blend=1, sharp=dice.between(3, 7),
        grain=dice.between(0.3, 0.6),
    )  # fmt: skip


def cloth(dice: Dice) -> Material:
    """Woven cloth: fine checks, or a pattern."""
    if dice.chance(0.35):
        return checks(dice, 0.03, 0.2)
    if dice.chance(0.4):
        return stripes(dice, 0.03, 0.2)
    base = color(dice, 0.06, 0.75, 1)
    wave = dice.between(4, 14)
    return _make(
        dice, base, near(dice, base, 0.6), noise=(wave, wave), blend=dice.between(0.2, 1),
        sharp=dice.between(1, 4), grain=dice.between(0.2, 0.5),
    )  # fmt: skip


def stone(dice: Dice) -> Material:
    """Rough ground or rock: asphalt, concrete, gravel."""
    base = color(dice, 0.07, 0.5, 0.4)
    wave = dice.between(2, 9)
    return _make(
        dice, base, near(dice, base, 0.4), noise=(wave, wave), blend=dice.between(0.2, 0.7),
        sharp=dice.between(1, 3), grain=dice.between(0.3, 0.7),
    )  # fmt: skip


def facade(dice: Dice) -> Material:
    """A wall with rows of windows."""
    wall, glass = color(dice, 0.12, 0.75, 0.9), color(dice, 0.02, 0.25, 0.6)
    width, height = dice.between(1.6, 3.6), dice.between(2.6, 3.8)
    return _make(
        dice, glass, near(dice, glass, 0.8), gap=wall, cell=(width, height),
        joint=dice.between(0.7, 1.5), tone=0.8, window=True, noise=(1.5, 1.5), blend=0.8, sharp=2,
        grain=dice.between(0.15, 0.45),
    )  # fmt: skip


def glow(dice: Dice, strength: float) -> Material:
    """A lamp, a screen, or the bright outside."""
    base = color(dice, 0.6, 0.95, 0.25)
    return _make(
        dice, base, near(dice, (base[0] * 0.6, base[1] * 0.6, base[2] * 0.6), 0.2),
        noise=(2, 2), blend=0.8, sharp=2, grain=0.1, glow=strength,
    )  # fmt: skip


def sky(dice: Dice) -> Material:
    """Clouds over a clear or a grey sky."""
    clear = near(dice, dice.pick(((0.25, 0.42, 0.8), (0.5, 0.55, 0.65), (0.7, 0.5, 0.4))), 0.25)
    cloud = near(dice, (0.85, 0.85, 0.85), 0.12)
    wave = dice.between(0.7, 2.2)
    return _make(
        dice, clear, cloud, noise=(wave, wave), blend=dice.between(0.2, 1),
        sharp=dice.between(1, 4), grain=0.06, glow=dice.between(1.2, 2.2),
    )  # fmt: skip


def wall(dice: Dice) -> Material:
    """An inner wall."""
    kind = dice.pick((plain, plain, plain, bricks, stripes, tiles, planks, stone))
    return kind(dice)


def floor(dice: Dice) -> Material:
    """An inner floor."""
    return dice.pick((planks, planks, tiles, checks, cloth, stone))(dice)


def wood(dice: Dice) -> Material:
    """What furniture is made of."""
    return dice.pick((planks, planks, plain, plain, tiles))(dice)


def any_of(dice: Dice) -> Material:
    """Anything."""
    return dice.pick((plain, planks, checks, stripes, cloth, sign, stone))(dice)
