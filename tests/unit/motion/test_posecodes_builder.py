"""Poses and walks by formula, for the other tests of pose facts, and that they are as told."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from foveal import motion
from foveal.motion import rotations as rot
from foveal.motion.director.commands import FootTarget, Keyframe
from foveal.motion.inbetween import fill, resolve, rest_ankles
from foveal.motion.legs import leg_hinges, solve_leg
from foveal.motion.posecodes.figure import Figure
from foveal.motion.posecodes.gait import gait as number_of
from foveal.motion.posecodes.points import find_point

FPS = 30.0
BODY = motion.humanoid()
ARM = ("shoulder_flexion", "shoulder_abduction", "shoulder_rotation", "elbow_flexion")
FLAT = {"left": (0, 0, 0), "right": (0, 0, 0)}


def make_clip(keys, *, method="smooth"):
    poses = resolve(keys, BODY)
    frames = fill(poses, BODY, fps=FPS, method=method)
    if method == "smooth" and all(len(k.feet) == 2 for k in keys):
        frames = replace(frames, angles=_on_their_way(keys, poses, frames))
    contacts = np.ones((len(frames.times), 2), bool)
    return motion.Clip(
        BODY, FPS, frames.root_positions, frames.root_rotations, frames.angles, contacts,
        poses.times,
    )  # fmt: skip


def _on_their_way(keys, poses, frames):
    """Legs solved in every frame, so that a foot that stays does stay."""
    angles = frames.angles.copy()
    for side in ("left", "right"):
        rows = [[*k.feet[side].position, k.feet[side].yaw, k.feet[side].pitch] for k in keys]
        values = np.array([np.interp(frames.times, poses.times, row) for row in np.transpose(rows)])
        turn = rot.multiply(
            rot.from_axis_angle([0, 0, 1], values[3]), rot.from_axis_angle([0, 1, 0], -values[4])
        )
        solved = solve_leg(
            BODY, side, frames.root_positions, frames.root_rotations,
            rest_ankles(BODY)[side] + values[:3].T, turn,
        )  # fmt: skip
        columns = leg_hinges(BODY, side)
        low, high = BODY.limits[columns].T
        angles[:, columns] = np.clip(solved, low, high)
    return angles


@cache
def _arm(side, target, pelvis, tilt, turn, trunk, start):
    """Arm angles (degrees) that bring the palm to a place in the start frame."""
    names = [f"{side}_{name}" for name in ARM]
    limits = np.degrees(BODY.limits[[BODY.hinge(name) for name in names]]).T

    columns = [BODY.hinge(name) for name in names]
    still = Keyframe(0.0, "", {n: np.radians(v) for n, v in trunk}, pelvis, np.radians(turn),
                   np.radians(tilt))  # fmt: skip
    pose = resolve([still], BODY)
    body, local = find_point(BODY, f"{side} hand")

    def palms(values):
        angles = np.repeat(pose.angles, len(values), 0)
        angles[:, columns] = np.radians(values)
        root = np.repeat(pose.root_rotations, len(values), 0)
        at, world = BODY.forward(pose.root_positions, BODY.local_rotations(root, angles))
        return at[:, body] + rot.rotate(world[:, body], local)

    guess = np.clip(np.array(start, float), limits[0] + 1, limits[1] - 1)
    values = guess.copy()
    for _ in range(40):  # damped Gauss-Newton, all differences in one batch
        tried = palms(np.vstack([values, values + np.eye(4)]))
        miss = np.array(target) - tried[0]
        if np.linalg.norm(miss) < 5e-3:
            break
        slope = (tried[1:] - tried[0]).T
        step = slope.T @ np.linalg.solve(slope @ slope.T + 1e-6 * np.eye(3), miss)
        values = np.clip(values + np.clip(step, -15, 15), limits[0], limits[1])
    return tuple(zip(names, values, strict=True))


def key(dt, *, pelvis=(0, 0, -0.01), tilt=0, turn=0, feet=FLAT, left=None, right=None,
         start=(40, 10, 0, 60), **degrees):  # fmt: skip
    """A pose: hinges in degrees, feet as shifts with yaw and pitch, palms as places."""
    angles = {}
    for side in ("left", "right"):
        angles |= {f"{side}_shoulder_abduction": 8.0, f"{side}_elbow_flexion": 12.0}
    for name, value in degrees.items():
        sided = name.startswith(("left_", "right_", "spine", "chest", "neck", "head"))
        for full in (name,) if sided else (f"left_{name}", f"right_{name}"):
            angles[full] = value
    trunk = tuple(sorted((n, v) for n, v in angles.items() if not n.endswith(ARM)))
    for side, target in (("left", left), ("right", right)):
        if target is not None:
            angles |= dict(_arm(side, target, pelvis, tilt, turn, trunk, start))
    targets = {}
    for side, values in feet.items():
        x, y, z, yaw, pitch = (*values, 0, 0)[:5]
        targets[side] = FootTarget((x, y, z), np.radians(yaw), np.radians(pitch))
    radians = {name: float(np.radians(value)) for name, value in angles.items()}
    return Keyframe(dt, "", radians, pelvis, np.radians(turn), np.radians(tilt), targets)


def feet_at(**sides):
    return FLAT | sides


def stand(dt=0.5, **more):
    return key(dt, **more)


def gait(
    *, step=0.5, stride=1.2, duty=0.62, lift=0.08, bounce=0.03, sway=0.05, width=0.0, steps=8,
    tilt=0.0, sink=0.05, arms=25.0, elbow=12.0, spread=8.0, lengths=(), spans=(), fly=0.0,
    lean=0.0, **degrees,
):  # fmt: skip
    """A walk or run by formula: `step` s a step, `stride` m a swing, `duty` share on the ground."""
    lengths = list(lengths) or [1.0] * steps
    spans = list(spans) or [1.0] * steps
    edges = np.cumsum([0.0, *(step * s for s in spans[:steps])])
    land, at = [], {"left": 0.0, "right": -stride / 2}
    for i in range(steps):  # odd steps swing the left foot
        side = "right" if i % 2 == 0 else "left"
        land.append((side, at[side], at[side] + stride * lengths[i]))
        at[side] += stride * lengths[i]
    keys = []
    air = 1.0 - duty  # share of the step cycle that a foot swings
    for t in np.arange(0, edges[-1] + 1e-9, 1 / 15):
        feet = {}
        for side in ("left", "right"):
            x = 0.0 if side == "left" else -stride / 2
            z = pitch = 0.0
            for i, (who, a, b) in enumerate(land):
                if who != side:
                    continue
                middle, half = 0.5 * (edges[i] + edges[i + 1]), air * (edges[i + 1] - edges[i])
                u = np.clip((t - middle + half) / (2 * half), 0, 1)
                if u > 0:
                    x = a + (b - a) * (u - np.sin(2 * np.pi * u) / (2 * np.pi))
                    z = lift * np.sin(np.pi * u) ** 2
            feet[side] = (x, width if side == "left" else -width, z, 0, pitch)
        i = min(int(np.searchsorted(edges, t, side="right")) - 1, steps - 1)
        u = (t - edges[i]) / (edges[i + 1] - edges[i])
        swing = (1 if i % 2 == 0 else -1) * np.sin(np.pi * u)  # right foot swings: +1
        x = 0.5 * (feet["left"][0] + feet["right"][0])
        up = -np.cos(2 * np.pi * u) * bounce / 2
        rise = fly * np.sin(np.pi * (u * 2 - 1)) if fly and u > 0.5 else 0.0
        keys.append(
            key(
                1 / 15, pelvis=(x, sway * swing, up - sink + rise), tilt=tilt,
                feet={s: (f[0], f[1], f[2] + rise, *f[3:]) for s, f in feet.items()},
                left_shoulder_flexion=arms * swing * 0.9, right_shoulder_flexion=-arms * swing,
                elbow_flexion=elbow, shoulder_abduction=spread, spine_lean=lean * swing, **degrees,
            )
        )  # fmt: skip
    keys[0] = replace(keys[0], dt=0.0)
    return make_clip(keys, method="linear")


NEUTRAL = {"step": 0.5, "stride": 1.0, "bounce": 0.03, "arms": 20.0, "sink": 0.07}
STYLES = {
    "happy walk": {"step": 0.47, "stride": 1.08, "bounce": 0.05, "arms": 32.0},
    "proud walk": {"chest_bend": -8.0, "neck_bend": -6.0, "stride": 1.0},
    "angry walk": {
        "step": 0.42, "stride": 1.04, "tilt": 5.0, "chest_bend": 5.0, "elbow": 40.0, "lift": 0.09,
    },
    "childlike walk": {"step": 0.38, "stride": 0.8, "bounce": 0.06, "lift": 0.14},
    "depressed walk": {
        "step": 0.6, "stride": 0.9, "tilt": 4.0, "chest_bend": 6.0, "neck_bend": 20.0, "arms": 8.0,
        "bounce": 0.02,
    },
    "drunk walk": {
        "step": 0.6, "sway": 0.1, "width": 0.04, "lean": 10.0, "sink": 0.11,
        "lengths": (1.0, 0.8, 0.7, 1.2, 1.25, 0.75, 0.8, 1.1),
        "spans": (1.0, 1.3, 0.8, 1.2, 0.9, 1.4, 0.8, 1.1),
    },
    "old walk": {
        "step": 0.62, "stride": 0.6, "tilt": 12.0, "spine_bend": 14.0, "sink": 0.11, "lift": 0.045,
        "arms": 10.0,
    },
    "heavy walk": {"step": 0.6, "width": 0.06, "spread": 22.0, "sway": 0.08},
}  # fmt: skip


def test_a_hand_goes_where_it_is_sent():
    clip = make_clip([key(0.0, right=(0.35, -0.12, 1.05), turn=0, chest_turn=10)])
    np.testing.assert_allclose(Figure(clip).point("right hand")[0], (0.35, -0.12, 1.05), atol=6e-3)


def test_feet_that_stay_do_stay():
    clip = make_clip([stand(), key(0.8, pelvis=(-0.1, 0, -0.3), tilt=30), stand()])
    for side in ("left", "right"):
        assert np.ptp(Figure(clip).point(f"{side} heel"), axis=0).max() < 2e-3


@pytest.mark.parametrize(
    ("name", "value", "room"),
    [("speed", 1.0, 0.02), ("stride", 1.0, 0.05), ("cadence", 2.0, 0.01), ("bounce", 0.03, 0.003),
     ("step width", 0.18, 0.005), ("foot lift", 0.08, 0.005), ("asymmetry", 0.0, 0.02),
     ("irregularity", 0.0, 0.02)],
)  # fmt: skip
def test_the_numbers_of_a_walk_are_those_it_was_made_of(name, value, room):
    assert number_of(Figure(gait(**NEUTRAL)), name) == pytest.approx(value, abs=room)


@pytest.mark.parametrize(
    ("change", "name", "factor"),
    [({"step": 1.0}, "cadence", 0.5), ({"step": 1.0}, "speed", 0.5),
     ({"lift": 0.16}, "foot lift", 2), ({"bounce": 0.06}, "bounce", 2),
     ({"width": 0.09}, "step width", 2), ({"sway": 0.1}, "sway", 2),
     ({"arms": 40.0}, "arm swing", 1.9), ({"lift": 0.16}, "footfall", 2)],
)  # fmt: skip
def test_a_number_of_a_walk_follows_what_is_changed(change, name, factor):
    before, after = (number_of(Figure(gait(**(NEUTRAL | more))), name) for more in ({}, change))
    assert after / before == pytest.approx(factor, rel=0.06)
