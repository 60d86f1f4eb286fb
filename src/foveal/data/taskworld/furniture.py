"""Things of rooms, each built at a place and turned: its front looks along -y at yaw 0."""

from foveal.data.taskworld import paints
from foveal.data.taskworld.build import Build, Place


def bed(b: Build, at: Place, width: float = 1.5) -> None:
    """Frame, mattress, pillows and a headboard at +y."""
    d = b.dice
    n = b.begin(5, at)
    if n < 0:
        return
    half, long, high = width / 2, d.between(0.95, 1.1), d.between(0.2, 0.32)
    wood, sheet, pillow = (b.paint(f(d)) for f in (paints.wood, paints.cloth, paints.cloth))
    b.box((0, 0, high / 2), (half, long, high / 2), "furniture", wood, n, at)
    thick = d.between(0.09, 0.14)
    b.box((0, -0.02, high + thick), (half - 0.03, long - 0.05, thick), "furniture", sheet, n, at)
    back = d.between(0.4, 0.6)
    b.box((0, long + 0.03, back), (half + 0.04, 0.04, back), "furniture", wood, n, at)
    top = high + 2 * thick + 0.06
    if width > 1.2:
        for side in (-1, 1):
            b.box(
                (side * half / 2, long - 0.3, top),
                (half * 0.4, 0.18, 0.06),
                "furniture",
                pillow,
                n,
                at,
            )
    else:
        b.box((0, long - 0.3, top), (half * 0.7, 0.18, 0.06), "furniture", pillow, n, at)


def bunk(b: Build, at: Place) -> None:
    """Two beds over each other."""
    d = b.dice
    n = b.begin(6, at)
    if n < 0:
        return
    wood, sheet, other = (b.paint(f(d)) for f in (paints.wood, paints.cloth, paints.cloth))
    high = d.between(1.3, 1.55)
    for z, cover in ((0.35, sheet), (high, other)):
        b.box((0, 0, z), (0.48, 1.0, 0.06), "furniture", wood, n, at)
        b.box((0, 0, z + 0.14), (0.45, 0.96, 0.08), "furniture", cover, n, at)
    for side in (-1, 1):
        b.box(
            (0, side * 1.03, high / 2 + 0.15),
            (0.5, 0.035, high / 2 + 0.15),
            "furniture",
            wood,
            n,
            at,
        )


def table(b: Build, at: Place, width: float, depth: float, high: float = 0.74) -> None:
    """A top on two panels, or a round top on a foot."""
    d = b.dice
    n = b.begin(3, at)
    if n < 0:
        return
    wood, foot = b.paint(paints.wood(d)), b.paint(paints.plain(d))
    if abs(width - depth) < 0.25 and d.chance(0.6):
        b.cylinder((0, 0, high - 0.02), width / 2, 0.02, "furniture", wood, n, at)
        b.cylinder((0, 0, high / 2), 0.05, high / 2, "furniture", foot, n, at)
        b.cylinder((0, 0, 0.02), width / 4, 0.02, "furniture", foot, n, at)
        return
    b.box((0, 0, high - 0.025), (width / 2, depth / 2, 0.025), "furniture", wood, n, at)
    for side in (-1, 1):
        where = (side * (width / 2 - 0.08), 0, high / 2 - 0.025)
        b.box(where, (0.025, depth / 2 - 0.05, high / 2 - 0.025), "furniture", foot, n, at)


def chair(b: Build, at: Place) -> None:
    """Seat, back and a foot or panels; the back at +y."""
    d = b.dice
    n = b.begin(3, at, 0.25)
    if n < 0:
        return
    cover, foot = b.paint(paints.cloth(d)), b.paint(paints.plain(d))
    high, half = d.between(0.42, 0.5), d.between(0.2, 0.25)
    b.box((0, 0, high), (half, half, 0.035), "furniture", cover, n, at)
    b.box(
        (0, half - 0.02, high + 0.28),
        (half, 0.025, d.between(0.18, 0.27)),
        "furniture",
        cover,
        n,
        at,
    )
    if d.chance(0.5):
        b.cylinder((0, 0, high / 2), 0.03, high / 2, "furniture", foot, n, at)
    else:
        b.box(
            (0, 0, high / 2 - 0.02),
            (half - 0.04, half - 0.04, high / 2 - 0.02),
            "furniture",
            foot,
            n,
            at,
        )


def stool(b: Build, at: Place, high: float = 0.65) -> None:
    """A round seat on a foot."""
    d = b.dice
    n = b.begin(2, at, 0.2)
    if n < 0:
        return
    b.cylinder((0, 0, high), 0.18, 0.035, "furniture", b.paint(paints.cloth(d)), n, at)
    b.cylinder((0, 0, high / 2), 0.03, high / 2, "furniture", b.paint(paints.plain(d)), n, at)


def sofa(b: Build, at: Place, width: float = 1.8) -> None:
    """Seat, back, arms."""
    d = b.dice
    n = b.begin(4, at)
    if n < 0:
        return
    cover = b.paint(paints.cloth(d))
    b.box((0, 0, 0.21), (width / 2, 0.4, 0.21), "furniture", cover, n, at)
    b.box((0, 0.36, 0.55), (width / 2, 0.1, d.between(0.25, 0.35)), "furniture", cover, n, at)
    for side in (-1, 1):
        b.box((side * width / 2, 0, 0.32), (0.1, 0.42, 0.32), "furniture", cover, n, at)


def cabinet(
    b: Build, at: Place, width: float, depth: float, high: float, base: float = 0.0
) -> None:
    """A closed body with a top plate; it hangs on the wall if it has a base."""
    d = b.dice
    n = b.begin(2, at)
    if n < 0:
        return
    front = b.paint(d.pick((paints.tiles, paints.planks, paints.plain))(d))
    b.box((0, 0, base + high / 2), (width / 2, depth / 2, high / 2), "storage", front, n, at)
    if base == 0:
        top = b.paint(paints.wood(d))
        b.box(
            (0, -0.015, high + 0.018),
            (width / 2 + 0.01, depth / 2 + 0.02, 0.018),
            "storage",
            top,
            n,
            at,
        )


def shelf(
    b: Build, at: Place, width: float, high: float, depth: float = 0.3, boards: int = 3
) -> None:
    """Two sides, boards, and rows of books or goods on some of them."""
    d = b.dice
    n = b.begin(2 + boards + 2, at)
    if n < 0:
        return
    wood = b.paint(paints.wood(d))
    for side in (-1, 1):
        b.box((side * width / 2, 0, high / 2), (0.02, depth / 2, high / 2), "storage", wood, n, at)
    step = (high - 0.1) / boards
    for i in range(boards):
        b.box((0, 0, 0.1 + i * step), (width / 2, depth / 2, 0.018), "storage", wood, n, at)
    for i in d.order(boards)[:2]:
        goods = b.paint(d.pick((paints.stripes, paints.checks, paints.sign))(d))
        tall = step * d.between(0.25, 0.42)
        wide = width / 2 * d.between(0.4, 0.9)
        off = d.between(-1, 1) * (width / 2 - 0.03 - wide)
        b.box(
            (off, 0.02, 0.12 + i * step + tall),
            (wide, depth / 2 - 0.05, tall),
            "storage",
            goods,
            n,
            at,
        )


def lamp(b: Build, at: Place) -> None:
    """A lamp that stands on the floor."""
    d = b.dice
    n = b.begin(2, at, 0.2)
    if n < 0:
        return
    high = d.between(1.3, 1.8)
    b.cylinder((0, 0, high / 2), 0.025, high / 2, "post", b.paint(paints.plain(d)), n, at)
    shade = b.paint(paints.glow(d, d.between(0.5, 1.5)))
    b.cylinder((0, 0, high), d.between(0.15, 0.25), 0.14, "post", shade, n, at, casts=False)


def pot(b: Build, at: Place, size: float = 1.0) -> None:
    """A plant in a pot."""
    d = b.dice
    n = b.begin(3, at, 0.25 * size)
    if n < 0:
        return
    green = b.paint(paints.leaves(d))
    high = size * d.between(0.35, 0.5)
    b.cylinder((0, 0, high / 2), 0.18 * size, high / 2, "plant", b.paint(paints.any_of(d)), n, at)
    r = size * d.between(0.25, 0.35)
    b.capsule((0, 0, high + r * 0.8), r, 0, "plant", green, n, at)
    b.capsule((0.1 * size, 0.05, high + r * 1.8), r * 0.75, size * 0.1, "plant", green, n, at)


def ball(b: Build, at: Place, radius: float) -> None:
    """A ball on the ground."""
    n = b.begin(1, at, radius)
    if n < 0:
        return
    paint = b.paint(b.dice.pick((paints.checks, paints.stripes, paints.any_of))(b.dice))
    b.capsule((0, 0, radius), radius, 0, "item", paint, n, at)
    b.movers.append((n, b.dice.between(0.4, 1.5), b.dice.between(0, 6.28)))


def thing(b: Build, at: Place, base: float, size: float = 0.12) -> None:
    """Something small that lies or stands on a surface: a box, a can, a globe."""
    d = b.dice
    n = b.begin(1, at)
    if n < 0:
        return
    paint, s, kind = b.paint(paints.any_of(d)), size * d.between(0.6, 1.3), d.count(0, 2)
    if kind == 0:
        h = s * d.between(0.4, 1.2)
        b.box((0, 0, base + h), (s, s * d.between(0.5, 1), h), "item", paint, n, at)
    elif kind == 1:
        h = s * d.between(0.6, 1.6)
        b.cylinder((0, 0, base + h), s * 0.6, h, "item", paint, n, at)
    else:
        b.capsule((0, 0, base + s * 0.8), s * 0.8, 0, "item", paint, n, at)


def monitor(b: Build, at: Place, base: float = 0.74) -> None:
    """A screen on a foot, its face at -y."""
    d = b.dice
    n = b.begin(3, at)
    if n < 0:
        return
    dark, wide = b.paint(paints.plain(d, (0.04, 0.04, 0.045))), d.between(0.24, 0.36)
    b.cylinder((0, 0, base + 0.06), 0.03, 0.06, "item", dark, n, at)
    b.box((0, 0, base + 0.3), (wide, 0.02, 0.19), "item", dark, n, at)
    face = paints.sign(d, 0.03) if d.chance(0.6) else paints.glow(d, 0.7)
    b.box((0, -0.022, base + 0.3), (wide - 0.02, 0.004, 0.17), "item", b.paint(face), n, at)


def bin_(b: Build, at: Place) -> None:
    """A bin."""
    d = b.dice
    n = b.begin(1, at, 0.2)
    if n < 0:
        return
    high = d.between(0.16, 0.4)
    b.cylinder(
        (0, 0, high), d.between(0.13, 0.22), high, "storage", b.paint(paints.any_of(d)), n, at
    )


def crate(b: Build, at: Place, half: float, base: float = 0.0, room: bool = True) -> None:
    """A box of wood or cardboard."""
    d = b.dice
    n = b.begin(1, at, half * 1.2 if room else 0.0)
    if n < 0:
        return
    paint = b.paint(d.pick((paints.planks, paints.plain, paints.sign, paints.stripes))(d))
    high = half * d.between(0.6, 1.2)
    size = (half, half * d.between(0.7, 1.1), high)
    b.box((0, 0, base + high), size, "storage", paint, n, at, turn=d.between(-0.3, 0.3))


def rack(b: Build, at: Place, width: float, high: float) -> None:
    """A tall rack of a warehouse: uprights, decks and loads of several kinds."""
    d = b.dice
    levels = 2 if high < 2.6 else 3
    n = b.begin(2 + 2 * levels, at)
    if n < 0:
        return
    steel = b.paint(paints.plain(d))
    for side in (-1, 1):
        b.box((side * width / 2, 0, high / 2), (0.05, 0.45, high / 2), "storage", steel, n, at)
    for i in range(levels):
        z = 0.12 + i * (high - 0.3) / levels
        b.box((0, 0, z), (width / 2, 0.48, 0.05), "storage", steel, n, at)
        load = b.paint(
            d.pick((paints.planks, paints.sign, paints.checks, paints.plain, paints.tiles))(d)
        )
        wide, tall = width / 2 * d.between(0.5, 0.93), (high / levels) * d.between(0.2, 0.4)
        off = d.between(-1, 1) * (width / 2 - 0.06 - wide)
        b.box((off, 0, z + 0.05 + tall), (wide, d.between(0.3, 0.46), tall), "storage", load, n, at)
