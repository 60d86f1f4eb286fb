"""Measures by hand, checks against motions that do not show them, GLB node by node."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from foveal import motion
from foveal.motion import metrics
from foveal.motion.export.glb import to_glb

FRAMES, FPS = 12, 30.0


def _standing(positions=None, rotations=None, contacts=True):
    """The standing figure, its pelvis moved or turned a frame at a time."""
    clip = motion.generate("stand", track="kinematic")
    shift = np.zeros((FRAMES, 3)) if positions is None else positions
    return replace(
        clip,
        root_positions=clip.root_positions[:1] + shift,
        root_rotations=np.repeat(clip.root_rotations[:1], FRAMES, 0)
        if rotations is None
        else rotations,
        angles=np.repeat(clip.angles[:1], FRAMES, 0),
        contacts=np.full((FRAMES, 2), contacts),
        fps=FPS,
    )


def _about(axis: int, angles) -> np.ndarray:
    out = np.zeros((FRAMES, 4))
    out[:, 0], out[:, 1 + axis] = np.cos(np.asarray(angles) / 2), np.sin(np.asarray(angles) / 2)
    return out


def test_jerk_of_a_cubic_is_its_third_derivative():
    shift = np.zeros((FRAMES, 3))
    shift[:, 1] = 0.7 * (np.arange(FRAMES) / FPS) ** 3
    assert metrics.mean_jerk(_standing(shift)) == pytest.approx(0.7 * 6)


def test_skate_is_the_speed_of_the_slowest_planted_point():
    shift = np.zeros((FRAMES, 3))
    shift[:, 0] = 0.3 * np.arange(FRAMES) / FPS
    assert metrics.foot_skate(_standing(shift)) == pytest.approx(0.3)
    assert metrics.foot_skate(_standing(shift, contacts=False)) == 0.0
    turning = _standing(rotations=_about(2, 1.5 * np.arange(FRAMES) / FPS))
    speeds = []
    for side in ("left", "right"):
        sole = turning.skeleton.sole_points(turning.positions, turning.world_rotations, side)
        radius = np.linalg.norm(sole[0, :, :2] - turning.root_positions[0, :2], axis=-1)
        speeds.append(2 * radius.min() * np.sin(0.75 / FPS) * FPS)
    assert metrics.foot_skate(turning) == pytest.approx(np.mean(speeds))


def test_penetration_counts_the_whole_body_and_not_the_soles_alone():
    assert metrics.ground_penetration(_standing()) < 1e-3
    sunk = np.zeros((FRAMES, 3))
    sunk[5, 2] = -0.2
    assert metrics.ground_penetration(_standing(sunk)) == pytest.approx(0.2, abs=1e-3)
    on_its_head = _standing(rotations=_about(0, np.full(FRAMES, np.pi)))
    pelvis = on_its_head.root_positions[0, 2]
    above = on_its_head.skeleton.height - pelvis  # of the pelvis, when standing
    assert metrics.ground_penetration(on_its_head) == pytest.approx(max(0, above - pelvis), abs=0.1)
    lower = replace(on_its_head, root_positions=on_its_head.root_positions - [0.0, 0.0, 0.5])
    gain = metrics.ground_penetration(lower) - metrics.ground_penetration(on_its_head)
    assert 0.3 < gain <= 0.5 + 1e-9


@pytest.mark.parametrize("name", [name for name in motion.ACTIONS if name != "stand"])
def test_a_figure_that_stands_shows_no_action(name):
    clip = motion.generate("stand", track="kinematic")
    for side in ("left", "right"):
        scores = motion.score(replace(clip, actions=((name, side),)))
        assert scores["predicate_failures"] >= 1, name


def test_a_raised_hand_that_keeps_still_does_not_wave():
    clip = motion.generate("wave", track="kinematic")
    _, side = clip.actions[0]
    hand = clip.positions[:, clip.skeleton.body(f"{side}_hand")]
    frame = int(hand[:, 2].argmax())
    still = replace(
        clip,
        root_positions=np.repeat(clip.root_positions[frame : frame + 1], FRAMES, 0),
        root_rotations=np.repeat(clip.root_rotations[frame : frame + 1], FRAMES, 0),
        angles=np.repeat(clip.angles[frame : frame + 1], FRAMES, 0),
        contacts=np.ones((FRAMES, 2), bool),
    )
    failed = [name for name, passed in motion.score(still)["predicates"].items() if not passed]
    assert any("hand" in name or "wave" in name for name in failed)


def test_glb_nodes_stand_where_our_bodies_do():
    clip = motion.generate("bow and then turn", track="kinematic")
    data = to_glb(clip)
    size = struct.unpack_from("<I", data, 12)[0]
    document, blob = json.loads(data[20 : 20 + size]), data[28 + size :]

    def values(index: int, width: int) -> np.ndarray:
        accessor = document["accessors"][index]
        start = document["bufferViews"][accessor["bufferView"]]["byteOffset"]
        return np.frombuffer(blob, "<f4", accessor["count"] * width, start).reshape(-1, width)

    animation, frame = document["animations"][0], clip.num_frames // 2
    nodes = [dict(node) for node in document["nodes"]]
    for channel in animation["channels"]:
        path = channel["target"]["path"]
        output = animation["samplers"][channel["sampler"]]["output"]
        nodes[channel["target"]["node"]][path] = values(output, 4 if path == "rotation" else 3)[
            frame
        ]

    def matrix(q) -> np.ndarray:  # glTF: x, y, z, w
        x, y, z, w = q
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        return np.eye(3) + 2 * w * cross + 2 * cross @ cross

    found = {}

    def walk(index: int, place: np.ndarray, turn: np.ndarray) -> None:
        node = nodes[index]
        place = place + turn @ np.asarray(node["translation"], float)
        turn = turn @ matrix(np.asarray(node["rotation"], float))
        found[node["name"]] = place
        for child in node.get("children", []):
            walk(child, place, turn)

    walk(document["scenes"][0]["nodes"][0], np.zeros(3), np.eye(3))
    for i, name in enumerate(clip.skeleton.names):
        x, y, z = clip.positions[frame, i]
        np.testing.assert_allclose(found[name], [y, z, x], atol=1e-4, err_msg=name)
