"""Labels of hand-made scenes by hand, and of drawn scenes against each other."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from foveal.data import taskworld
from foveal.data.taskworld import labels as module
from foveal.data.taskworld import paints
from foveal.data.taskworld.labels import count
from foveal.data.taskworld.world import (
    BOX,
    CAPSULE,
    CLASSES,
    CYLINDER,
    Camera,
    Dice,
    Light,
    Scene,
    Solid,
)  # fmt: skip
from foveal.errors import ArgumentError

SIZE, FOV = 64, math.radians(60)


def solid(kind, center, half, *, label="item", thing=0, yaw=0.0, lying=False) -> Solid:
    return Solid(kind, center, yaw, lying, half, CLASSES.index(label), thing, 0, True)


def scene(*solids, position=(0.0, 0.0, 0.0), yaw=0.0, pitch=0.0, roll=0.0) -> Scene:
    """Grey solids under a high sun."""
    dice = Dice("test")
    grey = paints.plain(dice, (0.4, 0.4, 0.4))
    light = Light((0.2, -0.3, 1.0), True, (1.0, 1.0, 1.0), (0.4, 0.4, 0.4), 0.0, 0.3)
    camera = Camera(position, yaw, pitch, roll, FOV)
    return Scene(
        taskworld.VERSION, "train", 0, 3, 0, camera, light, solids, (grey, paints.sky(dice)), 1
    )


def pixel_rays(size=SIZE, fov=FOV):
    """x / z and y / z of the middles of pixels."""
    steps = ((torch.arange(size) + 0.5) * (2 / size) - 1) * math.tan(fov / 2)
    return steps.expand(size, size), steps[:, None].expand(size, size)


def test_a_wall_ahead_has_one_depth_and_faces_the_camera():
    labels = taskworld.render([scene(solid(BOX, (0.0, 5.0, 0.0), (50.0, 1.0, 50.0)))], SIZE)
    assert torch.allclose(labels.depth, torch.full_like(labels.depth, 4.0), atol=1e-5)
    assert bool(labels.valid.all())
    assert torch.allclose(labels.normal[0, :, 3, 5], torch.tensor([0.0, 0.0, -1.0]), atol=1e-6)
    assert float(labels.curvature.abs().max()) == 0
    assert float(labels.occlusion_edge.max()) == 0
    x, y = pixel_rays()
    cosine = (x * x + y * y + 1).rsqrt()
    assert torch.allclose(labels.reshading[0], cosine, atol=1e-5)


def test_the_ground_is_where_its_height_says_and_the_sky_has_no_answer():
    ground = solid(BOX, (0.0, 0.0, -0.5), (900.0, 900.0, 0.5), label="ground", thing=-1)
    labels = taskworld.render([scene(ground, position=(0.0, 0.0, 1.5))], SIZE)
    _, y = pixel_rays()
    below = torch.arange(SIZE) >= SIZE // 2
    expected = (1.5 / y[below]).expand(-1, SIZE)
    assert torch.allclose(labels.depth[0][below], expected, rtol=1e-4)
    assert torch.allclose(
        labels.normal[0][:, below].mean((1, 2)), torch.tensor([0.0, -1.0, 0.0]), atol=1e-5
    )
    sky = ~below
    assert not bool(labels.valid[0][sky].any())
    for value in (labels.depth[0], labels.normal[0], labels.reshading[0], labels.curvature[0]):
        assert float(value[..., sky, :].abs().max()) == 0
    assert set(labels.segmentation[0][sky].unique().tolist()) == {CLASSES.index("sky")}
    assert int(labels.object_count[0]) == 0
    assert set(labels.object_id.unique().tolist()) == {-1}


@pytest.mark.parametrize("yaw", [0.0, 0.7])
def test_a_ball_by_hand(yaw):
    ahead = (5 * math.sin(yaw), 5 * math.cos(yaw), 0.0)
    labels = taskworld.render([scene(solid(CAPSULE, ahead, (1.0, 1.0, 0.0)), yaw=yaw)], SIZE)
    x, y = pixel_rays()
    a = x * x + y * y + 1
    inside = 25 - 24 * a
    met = inside >= 0
    depth = (5 - inside.clamp_min(0).sqrt()) / a
    assert (labels.valid[0] != met).sum() <= 2
    both = labels.valid[0] & (inside > 0.01)
    assert torch.allclose(labels.depth[0][both], depth[both], atol=2e-4)
    normal = torch.stack([x * depth, y * depth, depth - 5])
    assert torch.allclose(labels.normal[0][:, both], normal[:, both], atol=1e-3)
    assert torch.allclose(labels.curvature[0][:, both], torch.ones(2, int(both.sum())))
    assert int(labels.object_count[0]) == 1


@pytest.mark.parametrize(
    ("kind", "half", "bends"),
    [
        (CYLINDER, (0.5, 0.5, 3.0), (2.0, 0.0)),
        (CAPSULE, (0.5, 0.5, 3.0), (2.0, 0.0)),
        (CAPSULE, (0.25, 0.25, 0.0), (4.0, 4.0)),
        (BOX, (0.5, 0.5, 0.5), (0.0, 0.0)),
    ],
    ids=["cylinder", "capsule", "ball", "box"],
)
def test_curvature_by_hand(kind, half, bends):
    labels = taskworld.render([scene(solid(kind, (0.0, 3.0, 0.0), half))], SIZE)
    middle = labels.curvature[0, :, SIZE // 2, SIZE // 2]
    assert torch.allclose(middle, torch.tensor(bends))
    depth = 3 - half[1]
    assert float(labels.depth[0, SIZE // 2, SIZE // 2]) == pytest.approx(depth, abs=4e-3)


def test_lids_of_cylinders_are_flat_and_ends_of_capsules_round():
    for kind, bends in ((CYLINDER, (0.0, 0.0)), (CAPSULE, (1.0, 1.0))):
        column = solid(kind, (0.0, 3.0, -3.0), (1.0, 1.0, 1.0))
        labels = taskworld.render([scene(column, pitch=math.pi / 4)], SIZE)
        top = labels.curvature[0, :, SIZE // 2 - 4, SIZE // 2]
        assert torch.allclose(top, torch.tensor(bends)), kind
    # The view axis meets the ball of the end at (0, 2, -2), where it faces -y of the world.
    side = labels.normal[0, :, SIZE // 2, SIZE // 2]
    assert torch.allclose(side, torch.tensor([0.0, 0.707, -0.707]), atol=0.03)


def test_a_lying_cylinder_points_where_its_yaw_says():
    rod = solid(CYLINDER, (0.0, 3.0, 0.0), (0.2, 0.2, 1.0), lying=True)
    labels = taskworld.render([scene(rod)], SIZE)
    row, column = labels.valid[0].any(1).sum(), labels.valid[0].any(0).sum()
    assert int(column) > 4 * int(row)
    assert torch.allclose(labels.normal[0, 0][labels.valid[0]], torch.tensor(0.0), atol=1e-6)


def test_a_turned_box_shows_two_sides():
    cube = solid(BOX, (0.0, 4.0, 0.0), (1.0, 1.0, 1.0), yaw=math.pi / 4)
    labels = taskworld.render([scene(cube)], SIZE)
    half = math.sqrt(0.5)
    for column, sign in ((SIZE // 2 - 4, -1), (SIZE // 2 + 3, 1)):
        expected = torch.tensor([sign * half, 0.0, -half])
        assert torch.allclose(labels.normal[0, :, SIZE // 2, column], expected, atol=1e-5)


def test_roll_turns_the_picture():
    cube = solid(BOX, (0.0, 4.0, 1.0), (0.3, 0.3, 0.3))
    upright = taskworld.render([scene(cube)], SIZE).valid[0]
    rolled = taskworld.render([scene(cube, roll=math.pi / 2)], SIZE).valid[0]
    assert (rolled != torch.rot90(upright, 1)).sum() <= 4


def test_count_by_hand():
    balls = [
        solid(CAPSULE, (x, 6.0, 0.0), (0.4, 0.4, 0.0), thing=i)
        for i, x in enumerate((-2.0, 0.0, 2.0))
    ]
    hidden = solid(CAPSULE, (0.0, 9.0, 0.0), (0.3, 0.3, 0.0), thing=3)
    labels = taskworld.render([scene(*balls, hidden)], SIZE)
    assert int(labels.object_count[0]) == 3
    assert set(labels.object_id.unique().tolist()) == {-1, 0, 1, 2}
    thing = torch.full((1, 64, 64), -1)
    thing[0, 0, 0] = 5
    assert int(count(thing, 64)) == 0
    thing[0, 0, 1] = 5
    assert int(count(thing, 64)) == 1


def test_occlusion_edges_are_around_what_stands_in_front():
    wall = solid(BOX, (0.0, 9.0, 0.0), (50.0, 1.0, 50.0), thing=-1)
    box = solid(BOX, (0.0, 4.0, 0.0), (1.0, 0.5, 1.0), thing=0)
    edge = taskworld.render([scene(wall, box)], SIZE).occlusion_edge[0]
    half = SIZE / 2 * 1 / (3.5 * math.tan(FOV / 2))
    side = round(SIZE / 2 + half)
    assert float(edge[SIZE // 2, side - 1 : side + 1].max()) > 0.7
    assert float(edge[SIZE // 2, side + 4 :].max()) == 0
    assert float(edge[SIZE // 2, SIZE // 2]) == 0


def test_two_walls_that_meet_in_a_corner_have_no_occlusion_edge():
    left = solid(BOX, (-3.0, 4.0, 0.0), (1.0, 50.0, 50.0))
    back = solid(BOX, (0.0, 7.0, 0.0), (50.0, 1.0, 50.0))
    assert float(taskworld.render([scene(left, back)], SIZE).occlusion_edge.max()) < 1e-3


def test_texture_edges_see_paint_and_not_geometry():
    dice = Dice("paint")
    plain = paints.plain(dice, (0.4, 0.4, 0.4))._replace(grain=0.0, blend=0.0)
    box = scene(solid(BOX, (0.0, 4.0, 0.0), (1.0, 1.0, 1.0), yaw=0.5))
    box = replace(box, materials=(plain, box.materials[1]))
    assert float(taskworld.render([box], SIZE).texture_edge.max()) < 1e-3
    checks = paints.checks(dice)._replace(cell=(0.5, 0.5), grain=0.0, tone=0.0, parity=1.0)
    box = replace(box, materials=(checks, box.materials[1]))
    edge = taskworld.render([box], SIZE).texture_edge[0]
    assert float(edge.max()) > 0.5
    assert 0.02 < float((edge > 0.3).float().mean()) < 0.4
    assert float(edge[~taskworld.render([box], SIZE).valid[0]].max()) == 0


def test_keypoints_are_at_the_seen_corners():
    cube = solid(BOX, (0.0, 4.0, 0.0), (0.7, 0.7, 0.7))
    heat = taskworld.render([scene(cube)], SIZE).keypoints[0]
    scale = SIZE / 2 / math.tan(FOV / 2)
    for x in (-1, 1):
        for y in (-1, 1):
            px, py = (SIZE / 2 - 0.5 + s * scale * 0.7 / 3.3 for s in (x, y))
            assert float(heat[round(py), round(px)]) > 0.25
            back = [round(SIZE / 2 - 0.5 + s * scale * 0.7 / 4.7) for s in (x, y)]
            assert float(heat[back[1], back[0]]) < 0.05
    assert float(heat.max()) <= 1


@pytest.mark.parametrize("split", ["val", "shift"])
def test_normals_are_those_of_the_depth(split):
    """Where neighbors are on one plane, the normal is the product of the steps between them."""
    scenes = [taskworld.sample(i, split) for i in range(6)]
    labels = taskworld.render(scenes, 128)
    for i, one in enumerate(scenes):
        x, y = pixel_rays(128, one.camera.fov)
        z = labels.depth[i]
        points = torch.stack([x * z, y * z, z]).double()
        across = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
        down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
        found = F.normalize(torch.linalg.cross(down, across, dim=0), dim=0).float()
        normal = labels.normal[i]
        # On a plane 1/z is affine in the pixels, whatever its normal.
        inverse = 1 / z.double().clamp_min(1e-3)
        mid = inverse[1:-1, 1:-1]
        bend_x = inverse[1:-1, 2:] + inverse[1:-1, :-2] - 2 * mid
        bend_y = inverse[2:, 1:-1] + inverse[:-2, 1:-1] - 2 * mid
        steady = (bend_x.abs() < 2e-6 * mid) & (bend_y.abs() < 2e-6 * mid)
        steady &= labels.valid[i, 1:-1, 1:-1] & (z[1:-1, 1:-1] < 12)
        assert int(steady.sum()) > 1000
        cosine = (found * normal[:, 1:-1, 1:-1]).sum(0)[steady]
        assert float((cosine > 0.999).float().mean()) > 0.999
        assert float(cosine.median()) > 0.99999


def test_lengths_ranges_and_reshading_of_drawn_scenes():
    scenes = [taskworld.sample(i, "train") for i in range(6)]
    labels = taskworld.render(scenes, SIZE)
    length = labels.normal.norm(dim=1)
    assert torch.allclose(length, labels.valid.float(), atol=1e-4)
    for i, one in enumerate(scenes):
        x, y = pixel_rays(SIZE, one.camera.fov)
        unit = F.normalize(torch.stack([x, y, torch.ones_like(x)]), dim=0)
        cosine = -(unit * labels.normal[i]).sum(0)
        assert float(cosine.min()) > -1e-4
        assert torch.allclose(labels.reshading[i], cosine.clamp_min(0), atol=1e-4)
    for name in ("image", "reshading", "occlusion_edge", "texture_edge", "keypoints"):
        value = getattr(labels, name)
        assert bool(torch.isfinite(value).all())
        assert float(value.min()) >= 0
        assert float(value.max()) <= 1
    for i, one in enumerate(scenes):
        assert int(labels.scene_class[i]) == one.scene_class
        assert int(labels.object_count[i]) <= taskworld.MAX_COUNT


def test_scenes_that_cannot_be_drawn_are_named():
    good = scene(solid(BOX, (0.0, 5.0, 0.0), (1.0, 1.0, 1.0)))
    (box,), (grey, sky), nan = good.solids, good.materials, float("nan")
    for text, change in (
        ("solids is empty, must hold one at least", {"solids": ()}),
        ("sky is 2, must be one of 2 materials", {"sky": 2}),
        ("camera has NaN or infinity", {"camera": good.camera._replace(yaw=nan)}),
        ("camera.fov is 4.0, must be in", {"camera": good.camera._replace(fov=4.0)}),
        ("light has NaN or infinity", {"light": good.light._replace(place=(nan, 0.0, 1.0))}),
        ("solids.0. has NaN", {"solids": (box._replace(center=(math.inf, 0.0, 0.0)),)}),
        ("solids.0..half is .0.0, 1", {"solids": (box._replace(half=(0.0, 1.0, 1.0)),)}),
        ("solids.0..half is .1.0, 1.0, 0", {"solids": (box._replace(half=(1.0, 1.0, 0.0)),)}),
        ("solids.0..kind is 3, must be from 0 to 2", {"solids": (box._replace(kind=3),)}),
        ("solids.0..label is 12, must be", {"solids": (box._replace(label=12),)}),
        ("solids.0..thing is 16, must be from -1", {"solids": (box._replace(thing=16),)}),
        ("solids.0..material is 2, must be", {"solids": (box._replace(material=2),)}),
        ("materials.0. has NaN", {"materials": (grey._replace(grain=nan), sky)}),
        ("materials.0..cell is .0.0, 1", {"materials": (grey._replace(cell=(0.0, 1.0)), sky)}),
    ):
        with pytest.raises(ArgumentError, match=f"Scene: {text}"):
            replace(good, **change)


def test_memory_is_bounded_by_drawing_in_parts(monkeypatch):
    scenes = [taskworld.sample(i, "test") for i in range(5)]
    whole = taskworld.render(scenes, 32)
    calls = []
    draw = module._render

    def counted(some, *rest):
        calls.append(len(some))
        return draw(some, *rest)

    monkeypatch.setattr(module, "_render", counted)
    monkeypatch.setattr(module, "RAYS", 2 * 5 * 32 * 32)
    parts = taskworld.render(scenes, 32)
    assert calls == [2, 2, 1]
    assert torch.allclose(parts.image, whole.image, atol=2e-4)
    assert torch.equal(parts.segmentation, whole.segmentation)


def test_a_batch_is_what_its_scenes_are_alone():
    scenes = [taskworld.sample(i, "test") for i in range(5)]
    together = taskworld.render(scenes, 32)
    for i, one in enumerate(scenes):
        alone = taskworld.render([one], 32)
        for name in ("image", "depth", "normal", "keypoints", "occlusion_edge"):
            assert torch.allclose(getattr(together, name)[i], getattr(alone, name)[0], atol=2e-4)
        assert torch.equal(together.segmentation[i], alone.segmentation[0])
