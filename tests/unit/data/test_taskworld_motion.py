"""Moving scenes: flow by hand, against the next frame, and tracks."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from foveal.data import taskworld
from foveal.data.taskworld import paints
from foveal.data.taskworld.motion import Clip
from foveal.data.taskworld.world import (
    BOX,
    CAPSULE,
    CLASSES,
    MAX_COUNT,
    Camera,
    Dice,
    Light,
    Scene,
    Solid,
)  # fmt: skip
from foveal.errors import ArgumentError, UnsupportedError

GOLDEN = Path(__file__).parents[2] / "golden" / "taskworld"
SIZE, FOV = 64, math.radians(60)
WALL, ITEM = CLASSES.index("wall"), CLASSES.index("item")
REST = (0.0, 0.0, 0.0, 0.0)
SCALE = SIZE / 2 / math.tan(FOV / 2)


def hand_made(cameras, poses, *, half=(0.5, 0.5, 0.5), kind=BOX) -> Clip:
    """A box 4 m ahead before a wall 9 m ahead."""
    dice = Dice("motion")
    solids = (
        Solid(BOX, (0.0, 10.0, 0.0), 0.0, False, (60.0, 1.0, 60.0), WALL, -1, 0, True),
        Solid(kind, (0.0, 4.0, 0.0), 0.0, False, half, ITEM, 0, 0, True),
    )  # fmt: skip
    light = Light((0.0, -1.0, 1.0), True, (1.0, 1.0, 1.0), (0.5, 0.5, 0.5), 0.0, 0.3)
    scene = Scene(
        taskworld.VERSION, "train", 0, 0, 0, cameras[0], light, solids,
        (paints.plain(dice), paints.sky(dice)), 1,
    )  # fmt: skip
    return Clip(scene, tuple(cameras), ((0.0, 4.0),), tuple((p,) for p in poses))


def camera(x=0.0, y=0.0, yaw=0.0) -> Camera:
    return Camera((x, y, 0.0), yaw, 0.0, 0.0, FOV)


def test_a_camera_that_steps_aside_by_hand():
    frames = list(taskworld.render_clip(hand_made([camera(), camera(0.2)], [REST, REST]), SIZE))
    flow, depth = frames[0].flow, frames[0].labels.depth[0]
    assert torch.allclose(flow[0], -0.2 * SCALE / depth, atol=1e-3)
    assert float(flow[1].abs().max()) < 1e-4
    assert float(frames[1].flow.abs().max()) < 1e-4
    assert bool(frames[1].visible.all())


def test_a_camera_that_turns_by_hand():
    frames = list(taskworld.render_clip(hand_made([camera(), camera(yaw=0.1)], [REST, REST]), SIZE))
    x = (torch.arange(SIZE) + 0.5 - SIZE / 2) / SCALE
    row = SIZE // 2
    expected = ((x.atan() - 0.1).tan() - x) * SCALE
    inside = (x.atan() - 0.1).tan() > -math.tan(FOV / 2)
    assert torch.allclose(frames[0].flow[0, row], expected, atol=1e-2)
    assert torch.equal(frames[0].visible[row], inside)


def test_a_box_that_moves_and_turns_by_hand():
    turned = (0.3, 0.0, 0.0, 0.2)
    frames = list(taskworld.render_clip(hand_made([camera(), camera()], [REST, turned]), SIZE))
    thing = frames[0].labels.object_id[0]
    wall = thing < 0
    assert float(frames[0].flow[:, wall].abs().max()) < 1e-3
    row, column = SIZE // 2 + 3, SIZE // 2 + 4
    u, v = (column + 0.5 - SIZE / 2) / SCALE, (row + 0.5 - SIZE / 2) / SCALE
    x, y, z = u * 3.5, -0.5, -v * 3.5  # from the middle of the box
    c, s = math.cos(0.2), math.sin(0.2)
    ahead = 4 + s * x + c * y
    to = ((c * x - s * y + 0.3) / ahead, -z / ahead)
    expected = torch.tensor([(to[0] - u) * SCALE, (to[1] - v) * SCALE])
    assert torch.allclose(frames[0].flow[:, row, column], expected, atol=1e-3)
    # What the box covers then is hidden, and nothing of the wall beside is.
    assert not bool(frames[0].visible[row, SIZE // 2 + 11])
    assert bool(frames[0].visible[row, 4])


def test_tracks_by_hand():
    poses = [REST, (0.4, 0.0, 0.0, 0.0), (30.0, 0.0, 0.0, 0.0)]
    frames = list(taskworld.render_clip(hand_made([camera()] * 3, poses), SIZE))
    half = 0.5 * SCALE / 3.5
    left, right = round(SIZE / 2 - half), round(SIZE / 2 + half)
    assert frames[0].boxes[0].tolist() == [left, left, right, right]
    assert frames[1].boxes[0, 1].item() == left
    assert frames[1].boxes[0, 0].item() > left
    assert [bool(f.seen[0]) for f in frames] == [True, True, False]
    assert frames[2].boxes[0].tolist() == [0, 0, 0, 0]
    assert [float(f.hidden[0]) for f in frames] == [0, 0, 0]
    assert not bool(frames[0].seen[1:].any())


def test_what_stands_behind_is_hidden():
    clip = hand_made([camera()], [REST])
    front = Solid(BOX, (0.5, 3.0, 0.0), 0.0, False, (0.5, 0.1, 3.0), ITEM, 1, 0, True)
    scene = replace(clip.scene, solids=(*clip.scene.solids, front))
    clip = Clip(scene, clip.cameras, ((0.0, 4.0), (0.5, 3.0)), ((REST, REST),))
    (frame,) = taskworld.render_clip(clip, SIZE)
    assert float(frame.hidden[0]) == pytest.approx(0.5, abs=0.1)
    assert float(frame.hidden[1]) == 0


def test_a_ball_that_rolls_past_the_edge_leaves():
    side = math.tan(FOV / 2) * 4
    poses = [(side - 0.1, 0.0, 0.0, 0.0), (side + 0.5, 0.0, 0.0, 0.0)]
    clip = hand_made([camera()] * 2, poses, half=(0.4, 0.4, 0.0), kind=CAPSULE)
    first, _ = taskworld.render_clip(clip, SIZE)
    ball = first.labels.object_id[0] == 0
    assert int(ball.sum()) > 10
    assert not bool((first.visible & ball)[:, -3:].any())


@pytest.mark.parametrize(("seed", "split"), [(0, "train"), (3, "val"), (5, "shift"), (8, "test")])
def test_the_next_frame_is_this_one_along_the_flow(seed, split):
    clip = taskworld.sample_clip(seed, split, 3)
    frames = list(taskworld.render_clip(clip, 128))
    now, then = frames[0], frames[1]
    grid = torch.arange(128.0)
    x, y = grid + now.flow[0], grid[:, None] + now.flow[1]
    where = torch.stack([x, y], -1)[None] * (2 / 128) + (1 / 128 - 1)
    warped = F.grid_sample(then.labels.image, where, align_corners=False, padding_mode="border")[0]
    error = (warped - now.labels.image[0]).abs().mean(0)
    # Away from edges, where a pixel is a mix; light and the exposure stay.
    calm = (now.labels.occlusion_edge[0] == 0) & now.visible
    assert float(now.visible.float().mean()) > 0.4
    still = (then.labels.image - now.labels.image)[0].abs().mean(0)
    assert float(error[calm].median()) < 0.02
    assert float(error[calm].mean()) < 0.5 * float(still[calm].mean()) + 0.005
    # Depth and class go along.
    index = (y.round().long().clamp(0, 127), x.round().long().clamp(0, 127))
    same = then.labels.segmentation[0][index] == now.labels.segmentation[0]
    assert float(same[calm].float().mean()) > 0.97


def test_drawn_clips_move_and_are_the_same_twice():
    moving = 0
    for seed in range(12):
        clip = taskworld.sample_clip(seed, "train", 16)
        assert clip == taskworld.sample_clip(seed, "train", 16)
        assert clip.scene == taskworld.sample(seed, "train")
        assert clip.cameras[0].position == pytest.approx(clip.scene.camera.position, abs=1e-4)
        assert set(clip.poses[0]) <= {REST}
        shorter = taskworld.sample_clip(seed, "train", 5)
        assert clip.cameras[:5] == shorter.cameras
        assert clip.poses[:5] == shorter.poses
        for a, b in zip(clip.cameras, clip.cameras[1:], strict=False):
            assert math.dist(a.position, b.position) < 0.12
            assert abs(a.yaw - b.yaw) < 0.03
        moving += any(p != REST for p in clip.poses[-1])
        assert len(clip.pivots) <= MAX_COUNT
    assert moving >= 4


@pytest.mark.skipif(
    hasattr(taskworld.fingerprint, "__wrapped__"), reason="slow under a type checker of every call"
)
def test_the_moving_world_is_that_of_its_version():
    golden = json.loads((GOLDEN / "fingerprints.json").read_text())
    found = {s: taskworld.fingerprint_clips(s, range(golden["clips"])) for s in taskworld.SPLITS}
    assert found == golden["clip_fingerprints"]
    with pytest.raises(ArgumentError, match="fingerprint_clips: seeds is empty"):
        taskworld.fingerprint_clips("val", [])


def test_frames_come_one_at_a_time():
    clip = taskworld.sample_clip(0, "val", 200)
    frames = taskworld.render_clip(clip, 32)
    first = next(frames)
    assert first.labels.image.shape == (1, 3, 32, 32)
    assert first.flow.shape == (2, 32, 32)
    assert first.boxes.shape == (MAX_COUNT, 4)


def test_clips_that_do_not_fit_are_named():
    clip = hand_made([camera(), camera()], [REST, REST])
    for text, change in (
        ("Clip: cameras is empty, must hold one", {"cameras": ()}),
        ("Clip: poses has 1 frames, must have 2 as cameras", {"poses": clip.poses[:1]}),
        ("Clip: pivots has 0, must have one for each of 1", {"pivots": ()}),
        ("Clip: poses.1. has 0, must have 1 as pivots do", {"poses": (clip.poses[0], ())}),
    ):
        with pytest.raises(ArgumentError, match=text):
            replace(clip, **change)


def test_bad_input_is_named():
    with pytest.raises(ArgumentError, match="sample_clip: frames is 0, must be from 1"):
        taskworld.sample_clip(0, "train", 0)
    with pytest.raises(ArgumentError, match="sample_clip: split is 'dev', must be one of train"):
        taskworld.sample_clip(0, "dev")
    with pytest.raises(ArgumentError, match="sample_clip: seed is -1, must be a whole number"):
        taskworld.sample_clip(-1)
    clip = taskworld.sample_clip(0, "train", 2)
    with pytest.raises(ArgumentError, match="render_clip: size is 33, must be a multiple of 16"):
        taskworld.render_clip(clip, 33)
    with pytest.raises(UnsupportedError, match="render_clip: device is 'moon', must be one"):
        taskworld.render_clip(clip, 32, "moon")
    with pytest.raises(ArgumentError, match="Clip.at: frame is 2, must be from 0 to 1"):
        clip.at(2)
