"""Drawn bodies: silhouettes, depth, light and paint by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from foveal.data import figures
from foveal.data.figure_looks import draw_cameras, draw_looks
from foveal.data.figure_rays import FAR, hit_box, hit_capsule, maps
from foveal.data.figures import Cameras, Looks, Solids, render
from foveal.errors import ArgumentError, ShapeError

WHITE, RED, GREEN, BLUE = (1.0, 1.0, 1.0), (1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)


def solids(*rows, clips: int = 1, frames: int = 1) -> Solids:
    """Rows of (center, size, is_box); unturned."""
    centers = torch.tensor([r[0] for r in rows], dtype=torch.float32).expand(clips, frames, -1, -1)
    turns = torch.eye(3).expand(clips, frames, len(rows), 3, 3)
    sizes = torch.tensor([r[1] for r in rows]).expand(clips, -1, -1)
    return Solids(centers, turns, sizes, tuple(r[2] for r in rows))


def ball(x: float, y: float, z: float, radius: float = 0.5):
    return ((x, y, z), (radius, radius, 0.0), False)


def cameras(azimuth=0.0, elevation=0.0, distance=10.0, fov=0.5, target=(0.0, 0.0, 5.0), clips=1):
    def column(x):
        return torch.full((clips,), float(x))

    return Cameras(
        column(azimuth), column(elevation), column(distance), column(fov),
        torch.tensor(target).expand(clips, 3),
    )  # fmt: skip


def looks(*colors, clips: int = 1, sun=(0.0, 0.0, 0.0), sky=WHITE, light=(0.0, 0.0, 1.0)) -> Looks:
    """Plain colors of the solids, of the floor and of the wall."""
    m = len(colors)
    paint = torch.tensor(colors, dtype=torch.float32)[:, None].expand(m, 2, 3)
    return Looks(
        material=torch.arange(m - 2).expand(clips, -1),
        pattern=torch.zeros(clips, m, dtype=torch.long),
        waves=torch.zeros(clips, m, 3, 3),
        phases=torch.zeros(clips, m, 3),
        edge=torch.ones(clips, m),
        colors=paint.expand(clips, m, 2, 3),
        light=torch.tensor(light).expand(clips, 3),
        sun=torch.tensor(sun).expand(clips, 3),
        sky=torch.tensor(sky).expand(clips, 3),
        wall=torch.full((clips,), 3.0),
        wall_azimuth=torch.zeros(clips),
        behind=torch.zeros(clips, dtype=torch.long),
    )


BLACK_ROOM = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def draw(s, c, k, side=64, **options) -> torch.Tensor:
    return render(s, c, k, height=side, width=side, **options)


def test_a_ball_is_as_large_as_its_tangents() -> None:
    """Seen from 10 m a ball of 0.5 m covers the angles below asin(0.05)."""
    frame = draw(solids(ball(0, 0, 5)), cameras(), looks(WHITE, *BLACK_ROOM), 200)[0, 0, 0]
    seen = frame > 0.5
    radius = math.tan(math.asin(0.05)) / math.tan(0.25) * 100
    assert int(seen[100].sum()) == pytest.approx(2 * radius, abs=1.01)
    assert int(seen[:, 100].sum()) == pytest.approx(2 * radius, abs=1.01)
    assert int(seen.sum()) == pytest.approx(math.pi * radius**2, rel=0.02)
    rows, columns = torch.nonzero(seen, as_tuple=True)
    assert float(rows.float().mean()) == pytest.approx(99.5, abs=0.3)
    assert float(columns.float().mean()) == pytest.approx(99.5, abs=0.3)


def test_a_capsule_is_a_cylinder_with_two_balls() -> None:
    upright = (((0.0, 0.0, 5.0)), (0.2, 0.2, 0.5), False)
    seen = draw(solids(upright), cameras(), looks(WHITE, *BLACK_ROOM), 200)[0, 0, 0] > 0.5
    meter = 100 / (10 * math.tan(0.25))
    assert int(seen[:, 100].sum()) == pytest.approx(1.4 * meter, abs=1.1)
    assert int(seen[100].sum()) == pytest.approx(0.4 * meter, abs=1.1)
    top = int(torch.nonzero(seen.any(1))[0])
    assert int(seen[top + 1].sum()) < 0.3 * meter  # round, not flat
    lying = replace(
        solids(upright), turns=torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])[None, None, None]
    )
    flat = draw(lying, cameras(), looks(WHITE, *BLACK_ROOM), 200)[0, 0, 0] > 0.5
    assert int(flat[100].sum()) == pytest.approx(1.4 * meter, abs=1.1)


def test_distances_by_hand_also_along_the_axis() -> None:
    def hit(start, ray, radius=0.5, half=1.0):
        m, d = torch.tensor(start), torch.tensor(ray)
        n = torch.tensor([0.0, 0, 1])
        size = torch.tensor([[[radius, radius, half]]])
        parts = [(d * n).sum(), (d * m).sum(), (m * n).sum(), (m * m).sum()]
        return float(hit_capsule(*(p.view(1, 1, 1) for p in parts), size))

    assert hit((5.0, 0, 0), (-1.0, 0, 0)) == pytest.approx(4.5)
    assert hit((5.0, 0, 1.3), (-1.0, 0, 0)) == pytest.approx(5 - 0.4)
    assert hit((0.0, 0, 5), (0.0, 0, -1)) == pytest.approx(3.5)
    assert hit((0.0, 0, -5), (0.0, 0, 1)) == pytest.approx(3.5)
    assert hit((0.3, 0, 5), (0.0, 0, -1)) == pytest.approx(3.6)
    assert hit((0.6, 0, 5), (0.0, 0, -1)) == FAR
    assert hit((5.0, 0, 0), (1.0, 0, 0)) == FAR
    assert hit((0.0, 5, 1.6), (0.0, -1, 0)) == FAR
    box = torch.tensor([[[1.0, 2, 3]]])
    for start, ray, want in (
        ((5.0, 0, 0), (-1.0, 0, 0), 4.0),
        ((0.0, 5, 0), (0.0, -1, 0), 3.0),
        ((0.0, 2.5, 9), (0.0, 0, -1), FAR),
        ((0.0, 0, 9), (0.0, 0, 1), FAR),
    ):
        found = hit_box(
            maps(torch.tensor(start).view(1, 1, 1, 3)), maps(torch.tensor(ray).view(1, 1, 1, 3)),
            box,
        )  # fmt: skip
        assert float(found) == pytest.approx(want)


def test_rays_agree_with_points_on_the_surface() -> None:
    """Fields of distance, sampled along each ray, say the same."""
    g = torch.Generator().manual_seed(0)
    start = torch.randn(500, 3, generator=g) * 2
    start = start / start.norm(dim=-1, keepdim=True) * 3
    ray = torch.nn.functional.normalize(-start + torch.randn(500, 3, generator=g), dim=-1)
    along = torch.linspace(0, 8, 4001)
    points = start[:, None] + along[:, None] * ray[:, None]
    inside = points - torch.tensor([0.0, 0, 1]) * points[..., 2:].clamp(-0.7, 0.7)
    for near, found in (
        (
            inside.norm(dim=-1) < 0.4,
            hit_capsule(
                ray[None, None, :, 2], (ray * start).sum(-1)[None, None], start[None, None, :, 2],
                (start * start).sum(-1)[None, None], torch.tensor([[[0.4, 0.4, 0.7]]]),
            ),
        ),
        (
            (points.abs() < torch.tensor([0.3, 0.5, 0.9])).all(-1),
            hit_box(
                maps(start[None, None]), maps(ray[None, None]), torch.tensor([[[0.3, 0.5, 0.9]]])
            ),
        ),
    ):  # fmt: skip
        met = near.any(1)
        first = along[near.int().argmax(1)]
        hits = found[0, 0] < FAR
        assert int((met != hits).sum()) <= 2  # grazing rays fall between samples
        assert 50 < int(met.sum()) < 450
        both = met & hits
        assert float((first - found[0, 0])[both].abs().max()) < 0.05


def test_the_nearer_hides_the_farther_in_any_order() -> None:
    near, far = ball(2, 0, 5, 0.3), ball(-2, 0, 5, 0.6)
    for rows, colors in (((near, far), (RED, GREEN)), ((far, near), (GREEN, RED))):
        frame = draw(solids(*rows), cameras(), looks(*colors, *BLACK_ROOM))[0, 0]
        assert frame[:, 32, 32].tolist() == [pytest.approx(0.87, abs=0.05), 0, 0]
        assert bool((frame[1] > 0.5).any())  # the larger one looks out behind
    back = draw(
        solids(near, far), cameras(azimuth=math.pi), looks(RED, GREEN, *BLACK_ROOM)
    )[0, 0]  # fmt: skip
    assert back[:, 32, 32].tolist() == [0, pytest.approx(0.87, abs=0.05), 0]


def test_cameras_turn_around_the_target() -> None:
    """A ball on the side of y stands right of the middle from x, and left of it from -x."""
    body, paint = solids(ball(0, 1, 5, 0.3)), looks(WHITE, *BLACK_ROOM)

    def middle(**options) -> tuple[float, float]:
        seen = draw(body, cameras(**options), paint, 101)[0, 0, 0] > 0.5
        rows, columns = torch.nonzero(seen, as_tuple=True)
        return float(columns.float().mean()) - 50, 50 - float(rows.float().mean())

    meter = 50.5 / (10 * math.tan(0.25))
    assert middle() == pytest.approx((meter, 0), abs=0.5)
    assert middle(azimuth=math.pi) == pytest.approx((-meter, 0), abs=0.5)
    assert middle(azimuth=math.pi / 2) == pytest.approx((0, 0), abs=0.5)
    x, y = middle(target=(0.0, 1.0, 4.0))
    assert (x, y) == pytest.approx((0, meter), abs=0.5)
    x, y = middle(azimuth=math.pi / 2, elevation=1.0)  # from above, nearer than the target: lower
    assert x == pytest.approx(0, abs=0.5)
    assert y < -0.3 * meter


def test_sun_and_sky_light_what_faces_them() -> None:
    paint = looks(WHITE, *BLACK_ROOM, sun=RED, sky=(0, 0, 0.0), light=(0.0, 0.0, 2.0))
    frame = draw(solids(ball(0, 0, 5)), cameras(), paint, 100)[0, 0]
    assert not bool((frame[1:] > 0).any())
    column = frame[0, :, 50]
    assert float(column[42]) > 0.8
    assert float(column[56:].max()) < 0.05
    # A side that faces the sun at an angle a gets its cosine.
    slope = looks(WHITE, *BLACK_ROOM, sun=WHITE, sky=(0, 0, 0.0), light=(1.0, 0.0, 1.0))
    cube = solids(((0.0, 0.0, 5.0), (1.0, 1.0, 1.0), True))
    value = float(draw(cube, cameras(), slope, 64)[0, 0, 0, 32, 32])
    assert ((value + 0.055) / 1.055) ** 2.4 == pytest.approx(math.sqrt(0.5), abs=1e-3)


def test_shadows_fall_where_the_sun_is_hidden() -> None:
    body = solids(ball(0, 0, 1.5, 0.4), ((5.0, 5.0, 1.5), (0.4, 0.4, 0.4), True))
    paint = looks(WHITE, WHITE, WHITE, WHITE, sun=WHITE, sky=(0, 0, 0.0), light=(0.0, 1.0, 1.0))
    for target in ((0.0, -1.5, 0.0), (5.0, 3.5, 0.0)):  # 45 degrees: as far as it is high
        c = cameras(elevation=1.2, distance=12.0, target=target, fov=0.4)
        lit = draw(body, c, paint, shadows=False)[0, 0, 0]
        dark = draw(body, c, paint)[0, 0, 0]
        assert float(lit[32, 32]) > 0.5
        assert float(dark[32, 32]) == 0
        assert float(dark[32, 2]) == pytest.approx(float(lit[32, 2]))


def test_paint_moves_with_the_body() -> None:
    g = torch.Generator().manual_seed(3)
    paint = looks(WHITE, *BLACK_ROOM)
    m = paint.pattern.shape[1]
    paint = replace(
        paint, waves=torch.randn(1, m, 3, 3, generator=g) * 9, edge=torch.full((1, m), 5.0),
        colors=torch.rand(1, m, 2, 3, generator=g),
    )  # fmt: skip
    cube = ((0.0, 0.0, 5.0), (0.8, 0.8, 0.8), True)
    away = ((0.0, 3.0, 8.0), (0.8, 0.8, 0.8), True)
    frames = []
    for number in range(4):
        kind = replace(paint, pattern=torch.full((1, m), number))
        here = draw(solids(cube), cameras(), kind)
        there = draw(solids(away), cameras(target=(0.0, 3.0, 8.0)), kind)
        torch.testing.assert_close(here, there, atol=2e-3, rtol=0)
        frames.append(here)
    assert float(frames[0][0, 0, :, 24:40, 24:40].std((1, 2)).max()) < 1e-3
    assert all(float(x[0, 0, :, 24:40, 24:40].std((1, 2)).max()) > 0.02 for x in frames[1:])


def test_a_photograph_stands_behind() -> None:
    photo = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    paint = looks(RED, GREEN, BLUE, light=(0.0, 0.0, 1.0), sun=(0.3, 0.3, 0.3), sky=(0.6, 0.6, 0.6))
    c = cameras(target=(0.0, 0.0, 0.7), distance=4.0, elevation=0.2, fov=0.8)
    body = solids(ball(0, 0, 0.7, 0.3))
    shown = [
        draw(body, c, replace(paint, behind=torch.tensor([i]), backdrop=photo))[0, 0]
        for i in range(3)
    ]
    assert all(float(x[0, 32, 32]) > 0.5 and float(x[2, 32, 32]) < 0.01 for x in shown)
    torch.testing.assert_close(shown[2][:, :8], photo[0, :, :8])  # the wall
    torch.testing.assert_close(shown[1][:, :8], photo[0, :, :8])
    assert float(shown[0][2, :8].min()) > 0.2
    torch.testing.assert_close(shown[2][:, 62, 2], photo[0, :, 62, 2])  # a floor in the sun
    assert float(shown[1][1, 62, 2]) > 0.5
    assert float(shown[1][0, 62, 2]) < 0.01
    hidden = (shown[2] < photo[0] - 0.02).all(0)
    assert int(hidden[40:].sum()) > 20  # the shadow


def test_clips_do_not_depend_on_their_batch(monkeypatch) -> None:
    g = torch.Generator().manual_seed(5)
    c = draw_cameras(3, g)
    k = draw_looks([0, 1], 3, g, azimuth=c.azimuth)
    rows = (ball(0, 0, 1), ((0.0, 0.5, 1.0), (0.2, 0.3, 0.4), True))
    body = solids(*rows, clips=3, frames=2)
    whole = draw(body, c, k, 24)
    assert whole.shape == (3, 2, 3, 24, 24)
    assert float(whole.min()) >= 0
    assert float(whole.max()) <= 1
    assert float(whole.std()) > 0.02
    monkeypatch.setattr("foveal.data.figures._PIXELS", 1)
    torch.testing.assert_close(draw(body, c, k, 24), whole)


def test_a_long_clip_is_drawn_in_parts(monkeypatch) -> None:
    """No more rays at once than are allowed, and the frames stay where they are."""
    g = torch.Generator().manual_seed(6)
    c = draw_cameras(2, g)
    k = draw_looks([0], 2, g, azimuth=c.azimuth)
    body = solids(ball(0, 0, 1, 0.3), clips=2, frames=7)
    steps = torch.linspace(-0.6, 0.6, 7)[None, :, None].expand(2, 7, 1)
    body = replace(body, centers=torch.stack([*body.centers.unbind(-1)[:2], 1 + steps], -1))
    whole = draw(body, c, k, 16)
    drawn: list[int] = []

    def count(part, *given):
        drawn.append(part.centers.shape[0] * part.centers.shape[1])
        return whole_draw(part, *given)

    whole_draw = figures._draw
    monkeypatch.setattr(figures, "_draw", count)
    monkeypatch.setattr(figures, "_PIXELS", 3 * 16 * 16)
    torch.testing.assert_close(draw(body, c, k, 16), whole)
    assert drawn == [3, 3, 1, 3, 3, 1]
    assert float((whole[:, 1:] - whole[:, :-1]).abs().amax((2, 3, 4)).min()) > 0.02


def test_more_samples_mean_the_light() -> None:
    body, c, k = solids(ball(0, 0, 5)), cameras(), looks(WHITE, *BLACK_ROOM)
    fine = draw(body, c, k, 32, samples=4)[0, 0, 0]
    rough = draw(body, c, k, 128)[0, 0, 0]
    linear = torch.where(rough > 0.04045, ((rough + 0.055) / 1.055) ** 2.4, rough / 12.92)
    mean = torch.nn.functional.avg_pool2d(linear[None], 4)[0]
    back = torch.where(mean > 0.0031308, 1.055 * mean ** (1 / 2.4) - 0.055, mean * 12.92)
    torch.testing.assert_close(fine, back, atol=1e-4, rtol=0)


def test_seeds_repeat_and_ranges_hold() -> None:
    def both(seed):
        g = torch.Generator().manual_seed(seed)
        c = draw_cameras(
            200, g, azimuth_degrees=((-60.0, -35.0), (35.0, 60.0)), distance=(2.0, 3.0)
        )
        return c, draw_looks([0, 0, 1], 200, g, azimuth=c.azimuth)

    (a, ka), (b, kb), (other, _) = both(1), both(1), both(2)
    assert torch.equal(a.azimuth, b.azimuth)
    assert torch.equal(ka.colors, kb.colors)
    assert torch.equal(ka.waves, kb.waves)
    assert not torch.equal(a.azimuth, other.azimuth)
    degrees = np.degrees(a.azimuth.numpy())
    assert bool(((abs(degrees) >= 34.9) & (abs(degrees) <= 60.1)).all())
    assert 60 < int((degrees > 0).sum()) < 140
    assert bool(((a.distance >= 2) & (a.distance <= 3)).all())
    assert len(torch.unique(ka.pattern)) == 4
    assert ka.material.shape == (200, 3)


def test_bad_arguments_are_named() -> None:
    body, c, k = solids(ball(0, 0, 1)), cameras(), looks(WHITE, *BLACK_ROOM)
    g = torch.Generator().manual_seed(0)
    with pytest.raises(ArgumentError, match="height is 0"):
        render(body, c, k, height=0, width=8)
    with pytest.raises(ArgumentError, match="samples is 0"):
        draw(body, c, k, samples=0)
    with pytest.raises(ShapeError, match="looks.material names 1 solids, must name 2"):
        draw(solids(ball(0, 0, 1), ball(0, 0, 2)), c, k)
    with pytest.raises(ShapeError, match="azimuth has 2 clips, must have 1"):
        draw(body, cameras(clips=2), k)
    with pytest.raises(ShapeError, match="backdrop has shape"):
        draw(body, c, replace(k, backdrop=torch.zeros(1, 3, 8, 9)))
    with pytest.raises(ArgumentError, match="centers has NaN"):
        solids(ball(math.nan, 0, 1))
    with pytest.raises(ArgumentError, match="sizes has values <= 0"):
        solids(ball(0, 0, 1, 0.0))
    with pytest.raises(ArgumentError, match="elevation is"):
        cameras(elevation=1.6)
    with pytest.raises(ArgumentError, match="backdrop is None"):
        replace(k, behind=torch.tensor([1]))
    with pytest.raises(ArgumentError, match="light is 0"):
        replace(k, light=torch.zeros(1, 3))
    with pytest.raises(ArgumentError, match="material has numbers"):
        replace(k, material=torch.tensor([[3]]))
    for number in (-1, 4):
        with pytest.raises(ArgumentError, match="pattern has numbers out of 0 to 3"):
            replace(k, pattern=torch.full((1, 3), number))
    with pytest.raises(ArgumentError, match="behind has numbers out of 0 to 2"):
        replace(k, behind=torch.tensor([3]))
    with pytest.raises(ArgumentError, match="light has NaN"):
        replace(k, light=torch.full((1, 3), math.nan))
    with pytest.raises(ArgumentError, match="backdrop has NaN"):
        replace(k, backdrop=torch.full((1, 3, 8, 8), math.nan))
    with pytest.raises(ArgumentError, match="wall or wall_azimuth is out of range"):
        replace(k, wall=torch.zeros(1))
    with pytest.raises(ArgumentError, match="azimuth has NaN"):
        cameras(azimuth=math.nan)
    with pytest.raises(ArgumentError, match="target has NaN"):
        cameras(target=(0.0, 0.0, math.inf))
    with pytest.raises(ArgumentError, match="count is 0"):
        draw_cameras(0, g)
    with pytest.raises(ArgumentError, match="azimuth_degrees is"):
        draw_cameras(1, g, azimuth_degrees=((3.0, 1.0),))
    for wide in ((0.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(ArgumentError, match="azimuth_degrees is"):
            draw_cameras(1, g, azimuth_degrees=(wide,))
    with pytest.raises(ArgumentError, match="distance is"):
        draw_cameras(1, g, distance=(3.0, 1.0))
    with pytest.raises(ArgumentError, match="materials is"):
        draw_looks([], 1, g)
    with pytest.raises(ArgumentError, match="photo_fraction is 2"):
        draw_looks([0], 1, g, photo_fraction=2.0)
    with pytest.raises(ArgumentError, match="azimuth has 2"):
        draw_looks([0], 1, g, azimuth=torch.zeros(2))
    with pytest.raises(ArgumentError, match="backdrops has 2"):
        draw_looks([0], 1, g, backdrops=torch.zeros(2, 3, 8, 8))


def test_wrong_shapes_are_named() -> None:
    body = solids(ball(0, 0, 1))
    with pytest.raises(ShapeError, match="turns has shape"):
        replace(body, turns=torch.zeros(1, 1, 3, 3))
    with pytest.raises(ShapeError, match="centers has shape"):
        replace(body, centers=torch.zeros(1, 1, 0, 3))
    with pytest.raises(ShapeError, match="is_box has 2"):
        replace(body, is_box=(True, False))
    with pytest.raises(ShapeError, match="wall has 2 clips, must have 1"):
        replace(looks(WHITE, *BLACK_ROOM), wall=torch.ones(2))
    with pytest.raises(ShapeError, match="distance has 2 clips, must have 1"):
        replace(cameras(), distance=torch.ones(2))
    with pytest.raises(ShapeError, match="target has shape"):
        replace(cameras(), target=torch.zeros(1, 2))
