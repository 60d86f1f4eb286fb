"""The solids of a clip, in the world."""

import numpy as np
import pytest

from foveal import motion
from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.shapes import world_shapes


@pytest.fixture(scope="module")
def clip():
    return motion.generate("wave left", track="kinematic", fps=10)


def test_ends_are_where_the_skeleton_puts_them(clip) -> None:
    shapes = world_shapes(clip)
    count = len(clip.skeleton.shapes)
    assert shapes.centers.shape == (clip.num_frames, count, 3)
    assert shapes.turns.shape == (clip.num_frames, count, 3, 3)
    first, last = shapes.ends()
    at = 0
    for i, shape in enumerate(clip.skeleton.shapes):
        assert shapes.bodies[i] == clip.skeleton.names[shape.body]
        place, turn = clip.positions[:, shape.body], clip.world_rotations[:, shape.body]
        if shape.kind == "box":
            assert shapes.is_box[i]
            np.testing.assert_allclose(shapes.sizes[i], shape.end)
            np.testing.assert_allclose(shapes.turns[:, i], rot.to_matrix(turn))
            np.testing.assert_allclose(shapes.centers[:, i], place + rot.rotate(turn, shape.start))
            continue
        np.testing.assert_allclose(
            first[:, at], place + rot.rotate(turn, np.array(shape.start)), atol=1e-9
        )
        np.testing.assert_allclose(
            last[:, at], place + rot.rotate(turn, np.array(shape.end)), atol=1e-9
        )
        np.testing.assert_allclose(shapes.sizes[i, :2], shape.radius)
        at += 1
    assert at == first.shape[1] == count - sum(shapes.is_box)


def test_turns_are_rotations(clip) -> None:
    turns = world_shapes(clip).turns
    both = turns @ np.swapaxes(turns, -1, -2)
    np.testing.assert_allclose(both, np.broadcast_to(np.eye(3), both.shape), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(turns), 1.0)


def test_mirrored_bodies_wave_with_the_other_hand(clip) -> None:
    shapes = world_shapes(clip)
    other = shapes.mirrored()
    np.testing.assert_allclose(np.linalg.det(other.turns), 1.0)
    for here, there in zip(shapes.ends(), other.ends(), strict=True):
        np.testing.assert_allclose(here * [1, -1, 1], there)
    hand = shapes.bodies.index("left_hand")
    up = shapes.centers[:, hand, 2].argmax()
    assert shapes.centers[up, hand, 1] > 0.1
    assert other.centers[up, hand, 1] < -0.1
    np.testing.assert_allclose(other.mirrored().turns, shapes.turns)


def test_every_nth_frame(clip) -> None:
    some = world_shapes(clip, every=3)
    np.testing.assert_array_equal(some.centers, world_shapes(clip).centers[::3])
    with pytest.raises(ArgumentError, match="every is 0"):
        world_shapes(clip, every=0)
