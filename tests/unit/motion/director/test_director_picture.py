"""The pictures: which side is where, what is green, and that the camera sees what it should."""

import io

import numpy as np
import pytest
from PIL import Image

from foveal.motion.director.apply import apply
from foveal.motion.director.commands_pose import Camera, EndEffectorMove, PelvisWithSupport
from foveal.motion.director.picture import View, contact_sheet, table, views
from foveal.motion.director.pose import moved, points
from foveal.motion.director.scene_facts import load_scene

FLOOR = load_scene(None)
SEAT = load_scene({"seat": {"box": [[-0.75, -0.3, 0.0], [-0.2, 0.3, 0.45]]}})
SIZE = 320
HALF = SIZE // 2


def sheet(skeleton, pose, scene=FLOOR, planted=(), **options) -> np.ndarray:
    return contact_sheet(skeleton, pose, scene, planted, size=SIZE, **options)


def quarter(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    part = picture[row * HALF : (row + 1) * HALF, column * HALF : (column + 1) * HALF]
    return part.astype(int)


def blue(part: np.ndarray) -> np.ndarray:
    return (part[..., 2] - part[..., 0] > 60) & (part[..., 2] > 90)


def orange(part: np.ndarray) -> np.ndarray:
    return (part[..., 0] - part[..., 2] > 70) & (part[..., 1] > 40) & (part[..., 1] < 180)


def green(part: np.ndarray) -> np.ndarray:
    return (part[..., 1] - part[..., 0] > 50) & (part[..., 1] - part[..., 2] > 50)


def middle(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([rows.mean(), columns.mean()])


def test_left_is_blue_and_stands_right_in_the_front_view(skeleton, start) -> None:
    picture = sheet(skeleton, start)
    assert picture.shape == (SIZE, SIZE, 3)
    assert picture.dtype == np.uint8
    front, top = quarter(picture, 0, 0), quarter(picture, 1, 0)
    assert middle(blue(front))[1] > HALF / 2 > middle(orange(front))[1]
    # from above, facing up, its left is left
    assert middle(blue(top))[1] < HALF / 2 < middle(orange(top))[1]
    # from its left side the left limbs hide the right ones
    side = quarter(picture, 0, 1)
    assert blue(side).sum() > 4 * orange(side).sum()


def test_a_raised_hand_is_seen_where_the_scale_says(skeleton, start) -> None:
    target = np.array([0.1, 0.35, 1.75])
    pose = apply(skeleton, start, EndEffectorMove("left hand", tuple(target)), []).pose
    view = views(skeleton, pose)[0]
    right, up, _ = view.axes()
    pixel = view.height / HALF
    column = HALF / 2 + (target - view.center) @ right / pixel
    row = HALF / 2 - (target - view.center) @ up / pixel
    front = quarter(sheet(skeleton, pose), 0, 0)
    window = blue(front)[int(row) - 2 : int(row) + 3, int(column) - 2 : int(column) + 3]
    assert window.mean() > 0.5


def test_what_is_planted_is_green(skeleton, start) -> None:
    none, both = sheet(skeleton, start), sheet(skeleton, start, planted=["left_foot", "right_foot"])
    assert green(quarter(none, 0, 0)).sum() == 0
    assert green(quarter(both, 0, 0)).sum() > 5


def test_the_seat_is_seen_behind(skeleton, start) -> None:
    side, bare = (quarter(sheet(skeleton, start, scene), 0, 1) for scene in (SEAT, FLOOR))
    changed = np.abs(side - bare).sum(axis=2) > 60
    assert changed.sum() > 200
    # it faces left in that view, so behind is right of the middle
    assert middle(changed)[1] > HALF / 2


def test_the_views_turn_with_the_figure(skeleton, start) -> None:
    low = apply(skeleton, start, PelvisWithSupport((-0.05, 0, 0.8)), ["left_foot", "right_foot"])
    turned = moved(low.pose, np.zeros(3), np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)]))
    front = quarter(sheet(skeleton, turned), 0, 0)
    assert middle(blue(front))[1] > HALF / 2 > middle(orange(front))[1]
    assert views(skeleton, turned)[0].axes()[2] == pytest.approx([0, 1, 0], abs=1e-9)


def test_the_camera_replaces_the_diagonal_and_comes_closer(skeleton, start) -> None:
    camera = Camera(180.0, 0.0, "right hand")
    view = views(skeleton, start, camera)[3]
    assert view.axes()[2] == pytest.approx([-1, 0, 0], abs=1e-9)
    assert view.center == pytest.approx(points(skeleton, start)["right hand"])
    assert view.height == pytest.approx(0.5 * views(skeleton, start)[0].height)
    plain, looked = sheet(skeleton, start), sheet(skeleton, start, camera=camera)
    assert np.array_equal(quarter(plain, 0, 0), quarter(looked, 0, 0))
    assert not np.array_equal(quarter(plain, 1, 1), quarter(looked, 1, 1))


def test_all_of_a_long_pose_is_in_the_picture(skeleton, start) -> None:
    pose = start
    for side, y in (("left", 3.0), ("right", -3.0)):
        pose = apply(skeleton, pose, EndEffectorMove(f"{side} hand", (0, y, 1.4)), []).pose
    for view in views(skeleton, pose)[:3]:
        right, up, _ = view.axes()
        for point in points(skeleton, pose).values():
            assert abs((point - view.center) @ right) < view.height / 2
            assert abs((point - view.center) @ up) < view.height / 2


def test_axes_of_a_view_are_orthonormal() -> None:
    right, up, back = View("", 0.7, 0.45, np.zeros(3), 2.0).axes()
    assert np.stack([right, up, back]) @ np.stack([right, up, back]).T == pytest.approx(np.eye(3))
    assert np.cross(right, up) == pytest.approx(back)
    assert up[2] > 0


def test_the_same_pose_gives_the_same_pixels(skeleton, start) -> None:
    first, second = sheet(skeleton, start), sheet(skeleton, start)
    assert np.array_equal(first, second)
    data = io.BytesIO()
    Image.fromarray(first).save(data, "PNG")
    assert np.array_equal(np.asarray(Image.open(data)), first)


def test_the_table_has_two_digits() -> None:
    assert table({"head": np.array([0.012, -0.5, 1.567])}) == "- head: [0.01, -0.50, 1.57]"
