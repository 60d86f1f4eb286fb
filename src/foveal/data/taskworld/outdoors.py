"""Things of streets: people, vehicles, trees, posts. A vehicle heads along +y at yaw 0."""

from foveal.data.taskworld import paints
from foveal.data.taskworld.build import Build, Place


def person(b: Build, at: Place, moves: bool = True) -> None:
    """Legs, trunk and head."""
    d = b.dice
    n = b.begin(4, at, 0.3)
    if n < 0:
        return
    high = d.between(1.5, 1.95)
    coat, legs = b.paint(paints.cloth(d)), b.paint(paints.cloth(d))
    tone = d.between(0.08, 0.55)
    skin = b.paint(paints.plain(d, (round(tone, 3), round(tone * 0.68, 3), round(tone * 0.5, 3))))
    stride = d.between(0.06, 0.11)
    for side in (-1, 1):
        b.capsule(
            (side * stride, 0, 0.24 * high), 0.085, 0.24 * high - 0.085, "person", legs, n, at
        )
    r = d.between(0.17, 0.23)
    b.capsule((0, 0, 0.66 * high), r, 0.82 * high - 0.66 * high - r * 0.4, "person", coat, n, at)
    b.capsule((0, 0, high - 0.11), 0.11, 0.02, "person", skin, n, at)
    if moves:
        b.movers.append((n, d.between(0.7, 1.8), at[2]))


def car(b: Build, at: Place, moves: bool = True) -> None:
    """Body, cabin and wheels."""
    d = b.dice
    n = b.begin(4, at, 1.7)
    if n < 0:
        return
    body = b.paint(paints.plain(d, paints.color(d, 0.05, 0.8, 0.9)))
    glass = b.paint(paints.plain(d, (0.05, 0.06, 0.07)))
    long, wide, high = d.between(1.8, 2.3), d.between(0.8, 0.95), d.between(0.3, 0.4)
    b.box((0, 0, 0.25 + high), (wide, long, high), "vehicle", body, n, at)
    cabin = d.between(0.45, 0.7) * long
    b.box(
        (0, d.between(-0.35, 0.1), 0.25 + 2 * high + 0.28),
        (wide - 0.08, cabin, 0.28),
        "vehicle",
        glass,
        n,
        at,
    )
    for side in (-1, 1):
        b.cylinder(
            (0, side * long * 0.62, 0.32), 0.32, wide + 0.02, "vehicle", glass, n, at, lying=True
        )
    if moves:
        b.movers.append((n, d.between(2, 6), at[2]))


def truck(b: Build, at: Place, moves: bool = True) -> None:
    """A bus or van: one tall body with a band of windows, or a load and a cabin."""
    d = b.dice
    n = b.begin(4, at, 2.6)
    if n < 0:
        return
    dark = b.paint(paints.plain(d, (0.05, 0.05, 0.06)))
    body = b.paint(d.pick((paints.plain, paints.sign, paints.stripes))(d))
    long, high = d.between(2.4, 3.4), d.between(1.0, 1.4)
    b.box((0, -0.3, 0.5 + high), (1.1, long, high), "vehicle", body, n, at)
    b.box(
        (0, long + 0.3, 0.4 + high * 0.75),
        (1.05, 0.65, high * 0.75),
        "vehicle",
        dark if d.chance(0.4) else b.paint(paints.plain(d)),
        n,
        at,
    )
    for side in (-0.65, 0.85):
        b.cylinder((0, side * long, 0.45), 0.45, 1.12, "vehicle", dark, n, at, lying=True)
    if moves:
        b.movers.append((n, d.between(2, 5), at[2]))


def bicycle(b: Build, at: Place) -> None:
    """Two wheels and a bar."""
    d = b.dice
    n = b.begin(3, at, 0.5)
    if n < 0:
        return
    dark, bar = b.paint(paints.plain(d, (0.05, 0.05, 0.05))), b.paint(paints.plain(d))
    for side in (-1, 1):
        b.cylinder((0, side * 0.52, 0.34), 0.34, 0.025, "vehicle", dark, n, at, lying=True)
    b.box((0, 0, 0.68), (0.03, 0.5, 0.06), "vehicle", bar, n, at)


def tree(b: Build, at: Place) -> None:
    """Trunk and crown."""
    d = b.dice
    n = b.begin(3, at, 0.4)
    if n < 0:
        return
    high, green = d.between(1.6, 3.2), b.paint(paints.leaves(d))
    b.cylinder(
        (0, 0, high / 2), d.between(0.1, 0.22), high / 2, "plant", b.paint(paints.stone(d)), n, at
    )
    r = d.between(0.8, 1.5)
    b.capsule((0, 0, high + r * 0.6), r, d.between(0, 0.5), "plant", green, n, at)
    b.capsule((r * 0.5, r * 0.3, high + r * 1.3), r * 0.7, 0, "plant", green, n, at)


def bush(b: Build, at: Place) -> None:
    """A low plant, round or clipped."""
    d = b.dice
    n = b.begin(1, at, 0.5)
    if n < 0:
        return
    r, green = d.between(0.35, 0.6), b.paint(paints.leaves(d))
    if d.chance(0.5):
        b.box((0, 0, r * 0.8), (d.between(0.5, 1.1), 0.3, r * 0.8), "plant", green, n, at)
    else:
        b.capsule((0, 0, r * 0.7), r, 0.0, "plant", green, n, at)


def post(b: Build, at: Place) -> None:
    """A street lamp or a sign on a pole."""
    d = b.dice
    n = b.begin(2, at, 0.25)
    if n < 0:
        return
    steel = b.paint(paints.plain(d))
    if d.chance(0.55):
        high = d.between(3.4, 5.5)
        b.cylinder((0, 0, high / 2), 0.07, high / 2, "post", steel, n, at)
        if d.chance(0.5):
            b.capsule((0, 0, high + 0.2), 0.24, 0, "post", b.paint(paints.glow(d, 0.8)), n, at)
        else:
            b.box((0, 0.45, high), (0.12, 0.6, 0.06), "post", steel, n, at)
    else:
        high = d.between(2.0, 2.7)
        b.cylinder((0, 0, high / 2), 0.04, high / 2, "post", steel, n, at)
        face = b.paint(d.pick((paints.sign, paints.stripes, paints.checks))(d))
        b.box(
            (0, -0.05, high - 0.1),
            (d.between(0.25, 0.45), 0.02, d.between(0.2, 0.4)),
            "post",
            face,
            n,
            at,
        )


def bollard(b: Build, at: Place) -> None:
    """A short post."""
    d = b.dice
    n = b.begin(1, at, 0.15)
    if n < 0:
        return
    r, paint = d.between(0.08, 0.16), b.paint(paints.stripes(d, 0.15, 0.4))
    b.capsule((0, 0, 0.4), r, 0.4, "post", paint, n, at)


def bench(b: Build, at: Place) -> None:
    """A seat with a back at +y and two feet."""
    d = b.dice
    n = b.begin(4, at, 0.8)
    if n < 0:
        return
    wood, foot = b.paint(paints.planks(d)), b.paint(paints.stone(d))
    half = d.between(0.7, 1.0)
    b.box((0, 0, 0.44), (half, 0.22, 0.03), "furniture", wood, n, at)
    b.box((0, 0.22, 0.7), (half, 0.03, 0.16), "furniture", wood, n, at)
    for side in (-1, 1):
        b.box((side * half * 0.75, 0.02, 0.22), (0.06, 0.2, 0.22), "furniture", foot, n, at)


def kiosk(b: Build, at: Place) -> None:
    """A stand with a counter and a roof."""
    d = b.dice
    n = b.begin(4, at, 1.4)
    if n < 0:
        return
    body, roof, face = (b.paint(f(d)) for f in (paints.planks, paints.stripes, paints.sign))
    b.box((0, 0, 0.5), (1.1, 0.7, 0.5), "storage", body, n, at)
    b.box((0, 0.6, 1.6), (1.1, 0.08, 0.6), "storage", body, n, at)
    b.box((0, -0.1, 2.25), (1.3, 1.0, 0.06), "storage", roof, n, at)
    b.box((0, -1.12, 2.15), (1.2, 0.02, 0.18), "storage", face, n, at)


def fountain(b: Build, at: Place, radius: float) -> None:
    """Round basins over each other, and a ball or a column on top."""
    d = b.dice
    n = b.begin(4, at, radius)
    if n < 0:
        return
    rock, water = b.paint(d.pick((paints.stone, paints.bricks))(d)), b.paint(paints.stone(d))
    b.cylinder((0, 0, 0.25), radius, 0.25, "item", rock, n, at)
    b.cylinder((0, 0, 0.5), radius * 0.88, 0.03, "item", water, n, at)
    b.cylinder((0, 0, 1.0), radius * 0.16, 0.6, "item", rock, n, at)
    if d.chance(0.5):
        b.cylinder((0, 0, 1.55), radius * 0.45, 0.08, "item", rock, n, at)
    else:
        b.capsule((0, 0, 1.6 + radius * 0.3), radius * 0.3, 0, "item", rock, n, at)


def statue(b: Build, at: Place) -> None:
    """A figure or a pillar on a base."""
    d = b.dice
    n = b.begin(3, at, 1.0)
    if n < 0:
        return
    rock, other = b.paint(paints.stone(d)), b.paint(paints.stone(d))
    base = d.between(0.4, 0.9)
    b.box((0, 0, base), (0.7, 0.7, base), "item", rock, n, at)
    if d.chance(0.5):
        b.capsule((0, 0, 2 * base + 0.9), 0.35, 0.6, "item", other, n, at)
        b.capsule((0, 0, 2 * base + 1.95), 0.22, 0.03, "item", other, n, at)
    else:
        b.cylinder((0, 0, 2 * base + 1.4), 0.3, 1.4, "item", other, n, at)
        b.box((0, 0, 2 * base + 2.9), (0.45, 0.45, 0.12), "item", other, n, at)


def barrier(b: Build, at: Place) -> None:
    """A low wall that closes a way."""
    d = b.dice
    n = b.begin(2, at, 0.7)
    if n < 0:
        return
    paint = b.paint(d.pick((paints.stripes, paints.stone))(d))
    b.box((0, 0, 0.15), (0.8, 0.28, 0.15), "item", paint, n, at)
    b.box((0, 0, 0.6), (0.8, 0.11, 0.32), "item", paint, n, at)


def pillar(b: Build, at: Place, high: float, paint: int, rounded: bool, r: float) -> None:
    """What holds a roof; round or square."""
    n = b.begin(1, at, r + 0.2)
    if n < 0:
        return
    if rounded:
        b.cylinder((0, 0, high / 2), r, high / 2, "post", paint, n, at)
    else:
        b.box((0, 0, high / 2), (r, r, high / 2), "post", paint, n, at)
