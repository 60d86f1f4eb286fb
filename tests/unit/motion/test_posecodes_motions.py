"""A motion made by formula for every action of the list: all its facts can hold at once."""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from foveal import motion
from foveal.motion.posecodes.actions import action_facts, check

_spec = importlib.util.spec_from_file_location(
    "posecodes_builder", Path(__file__).with_name("test_posecodes_builder.py")
)
assert _spec is not None
assert _spec.loader is not None
BUILDER = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(BUILDER)
NEUTRAL, STYLES, gait = BUILDER.NEUTRAL, BUILDER.STYLES, BUILDER.gait
make_clip, key, stand, feet_at = BUILDER.make_clip, BUILDER.key, BUILDER.stand, BUILDER.feet_at


def _warm_up():
    up = {"shoulder_flexion": 168, "shoulder_abduction": 14, "elbow_flexion": 8}
    return make_clip([stand(), *[k for _ in range(3) for k in (key(0.8, **up), key(0.8))]])


def _curls():
    top = {"right_elbow_flexion": 125, "right_shoulder_flexion": 5}
    return make_clip([stand(), *[k for _ in range(3) for k in (key(0.8, **top), key(0.8))]])


def _sit(back=-0.42, seat=0.54):
    low = (back, 0, seat - 0.93)
    arms = {"shoulder_flexion": 30, "elbow_flexion": 60}
    return [
        stand(), key(0.7, pelvis=(-0.2, 0, -0.2), tilt=35, shoulder_flexion=40),
        key(0.7, pelvis=low, tilt=15, **arms), key(0.8, pelvis=low, tilt=-2, **arms),
        key(0.5, pelvis=low, tilt=-2, **arms),
    ]  # fmt: skip


def _eat():
    plate, mouth = (0.35, -0.12, 1.05), (0.19, -0.04, 1.52)
    keys = [stand(), key(0.7, right=plate, neck_bend=8)]
    for _ in range(3):
        keys += [key(0.7, right=mouth, start=(60, 12, -40, 120)), key(0.7, right=plate)]
    return make_clip(keys)


def _steer():
    def wheel(angle):
        c, s = 0.2 * np.cos(np.radians(angle)), 0.2 * np.sin(np.radians(angle))
        left, right = (0.42, c, 1.15 + s), (0.42, -c, 1.15 - s)
        return key(0.7, left=left, right=right)

    return make_clip([stand(), *[wheel(a) for a in (0, 35, -35, 35, -35, 0)]])


def _phone():
    ear = {"right": (0.03, -0.17, 1.56), "start": (60, 60, -40, 140)}
    return make_clip([stand(), key(0.8, **ear), key(1.5, **ear), stand(0.8)])


def _throw():
    back = key(0.6, right=(-0.2, -0.4, 1.6), chest_turn=-15, start=(60, 90, -60, 80))
    over = key(0.14, right=(0.25, -0.3, 1.75), start=(120, 40, -20, 40))
    front = key(0.12, right=(0.6, -0.1, 1.35), chest_turn=15, start=(90, 0, 0, 10))
    return make_clip([stand(), back, over, front, key(0.5, right=(0.4, 0.0, 0.8)), stand()])


def _handball():
    feet = [feet_at(), feet_at(right=(0.4, 0, 0)), feet_at(left=(0.8, 0, 0), right=(0.4, 0, 0))]
    up = [feet_at(right=(0.2, 0, 0.12)), feet_at(left=(0.4, 0, 0.12), right=(0.4, 0, 0))]
    back = {"chest_turn": -22, "spine_turn": -10, "start": (60, 90, -60, 80)}
    end = feet[2]
    return make_clip([
        stand(),
        key(0.25, pelvis=(0.1, 0, -0.04), feet=up[0], shoulder_flexion=10),
        key(0.25, pelvis=(0.25, 0, -0.06), feet=feet[1], right=(0.3, -0.45, 1.4)),
        key(0.25, pelvis=(0.42, 0, -0.05), feet=up[1], right=(0.15, -0.5, 1.6), **back),
        key(0.25, pelvis=(0.6, 0, -0.1), feet=end, right=(0.33, -0.45, 1.62), **back),
        key(0.1, pelvis=(0.64, 0, -0.1), feet=end, right=(0.85, -0.3, 1.7), chest_turn=0),
        key(0.1, pelvis=(0.67, 0, -0.1), feet=end, right=(1.25, -0.1, 1.3), chest_turn=20),
        key(0.5, pelvis=(0.7, 0, -0.1), feet=end, right=(1.0, 0.1, 0.9), chest_turn=20),
    ])  # fmt: skip


def _jump_shot():
    air = {"left": (0, 0, 0.22, 0, -30), "right": (0, 0, 0.22, 0, -30)}
    low, low2 = {"left": (0.3, 0.12, 0.85), "right": (0.3, -0.12, 0.85)}, (-0.06, 0, -0.22)
    above = {"left": (0.2, 0.12, 1.98), "right": (0.2, -0.12, 1.98), "start": (150, 10, 0, 50)}
    shot = {"left": (0.2, 0.2, 1.95), "right": (0.2, -0.15, 2.15), "start": (160, 10, 0, 20)}
    return make_clip([
        key(0.0), key(0.5, **low), key(0.5, pelvis=low2, tilt=15, **low),
        key(0.3, pelvis=(0, 0, 0.0), feet=dict.fromkeys(air, (0, 0, 0, 0, 0)),
             left=(0.25, 0.12, 1.75), right=(0.25, -0.12, 1.75), start=(140, 10, 0, 60)),
        key(0.15, pelvis=(0, 0, 0.19), feet=air, **above),
        key(0.12, pelvis=(0, 0, 0.19), feet=air, **shot),
        key(0.2, pelvis=(0, 0, -0.02), **{k: v for k, v in shot.items() if k != "right"},
             right=(0.3, -0.15, 1.7)),
        key(0.3, pelvis=(-0.05, 0, -0.15), tilt=10), stand(0.5),
    ])  # fmt: skip


def _kick():
    on = (0.0, 0.085, -0.02)

    def leg(hip, knee, dt, **more):
        bent = {"right_hip_flexion": hip, "right_knee_flexion": knee, "elbow_flexion": 80}
        return key(dt, pelvis=on, feet={"left": (0, 0, 0)}, shoulder_flexion=30, **bent, **more)

    return make_clip([
        stand(), leg(80, 100, 0.3), leg(90, 8, 0.16, tilt=-12), leg(80, 95, 0.25),
        leg(5, 10, 0.3), stand(0.3), stand(0.3),
    ])  # fmt: skip


def _serve():
    toss = {"left": (0.3, 0.2, 1.9), "start": (150, 10, 0, 20)}
    return make_clip([
        stand(), key(0.5, right=(0.1, -0.4, 1.1)),
        key(0.4, right=(-0.2, -0.45, 1.45), chest_turn=-20, **toss),
        key(0.3, right=(-0.22, -0.3, 1.5), left=(0.3, 0.2, 1.7), start=(80, 80, -60, 120)),
        key(0.15, right=(0.15, -0.2, 2.03), start=(170, 10, 0, 10), right_clavicle_elevation=40),
        key(0.15, right=(0.55, 0.0, 1.3), chest_turn=15),
        key(0.25, right=(0.25, 0.15, 0.75), chest_turn=25),
        key(0.4, right=(0.25, 0.15, 0.75), chest_turn=25),
    ])  # fmt: skip


def _forehand():
    return make_clip([
        stand(), key(0.6, right=(-0.2, -0.6, 1.1), chest_turn=-30, spine_turn=-15),
        key(0.16, right=(0.4, -0.4, 1.1), chest_turn=5),
        key(0.14, right=(0.5, 0.05, 1.2), chest_turn=25),
        key(0.2, right=(0.25, 0.25, 1.42), chest_turn=30, spine_turn=10), stand(0.6),
    ])  # fmt: skip


def _lie():
    flat = {"pelvis": (-0.6, 0, 0.6 - 0.93), "tilt": -90, "feet": {}}
    low = (-0.42, 0, 0.59 - 0.93)
    return make_clip([
        stand(), key(0.8, pelvis=low, tilt=5), key(0.6, pelvis=low, tilt=0),
        key(1.0, **flat), key(0.8, **flat),
    ])  # fmt: skip


def _reach():
    shelf = {"right": (0.42, -0.2, 1.6), "start": (120, 10, 0, 30)}
    return make_clip([stand(), key(0.8, **shelf), key(0.6, **shelf)])


def _stones():
    at, z = {"left": 0.0, "right": 0.0}, 0.1
    keys = [key(0.0, pelvis=(0, 0, z - 0.03), feet=dict.fromkeys(at, (0, 0, z)))]
    for i, side in enumerate(("left", "right", "left")):
        mid, goal = 0.25 + 0.5 * i, 0.5 * (i + 1)
        swing = {s: (x, 0, z) for s, x in at.items()} | {side: (mid, 0, z + 0.12)}
        keys.append(key(0.35, pelvis=(mid - 0.1, 0, z - 0.06), feet=swing))
        at[side] = goal
        feet = {s: (x, 0, z) for s, x in at.items()}
        keys.append(key(0.35, pelvis=(goal - 0.15, 0, z - 0.1), feet=feet))
    feet = dict.fromkeys(at, (1.5, 0, z))
    keys.append(key(0.35, pelvis=(1.45, 0, z - 0.06), feet=feet | {"right": (1.3, 0, z + 0.1)}))
    return make_clip([*keys, key(0.35, pelvis=(1.5, 0, z - 0.01), feet=feet)])


def _climb(rises, run=0.3):
    at = {"left": (0.0, 0, 0.0), "right": (0.0, 0, 0.0)}
    keys = [key(0.0)]
    for side, x, z in rises:
        old = at[side]
        mid = {side: (0.5 * (old[0] + x), 0, z + 0.08)}
        keys.append(key(0.4, pelvis=(old[0] + 0.02, 0, min(at["left"][2], at["right"][2]) - 0.05),
                         feet=at | mid))  # fmt: skip
        at[side] = (x, 0, z)
        low = min(at["left"][2], at["right"][2])
        keys.append(key(0.4, pelvis=(x - 0.1, 0, low - 0.04), feet=dict(at)))
    x, _, z = at["left"]
    return make_clip([*keys, key(0.5, pelvis=(x, 0, z - 0.01), feet=dict(at)), key(
        0.3, pelvis=(x, 0, z - 0.01), feet=dict(at))])  # fmt: skip


def _arms_set():
    up = {"shoulder_flexion": 168, "shoulder_abduction": 12, "elbow_flexion": 8}
    out = {"shoulder_abduction": 88, "elbow_flexion": 5}
    return make_clip([stand(), key(0.8, **up), key(0.8, **out), stand(0.8)])


def _lunge_set():
    over = key(0.4, feet=feet_at(right=(0.2, 0, 0.1)), pelvis=(0.0, 0, -0.08))
    low = key(0.5, feet=feet_at(left=(-0.1, 0, 0), right=(0.6, 0, 0)), pelvis=(0.25, 0, -0.25))
    return make_clip([stand(), over, low, over, stand(0.4)])


def _low_high_set():
    down = {"pelvis": (-0.12, 0, -0.35), "tilt": 50, "spine_bend": 30, "chest_bend": 20}
    return make_clip([
        stand(), key(0.8, left=(0.3, 0.15, 0.15), **down),
        key(1.4, right=(0.2, -0.2, 2.0), start=(160, 10, 0, 10)), stand(0.8),
    ])  # fmt: skip


def _turning(total, step=30, dt=0.3):
    keys, yaw = [key(0.0)], {"left": 0.0, "right": 0.0}
    angles = np.arange(step, total + 1, step)

    def feet(lifted=None):
        out = {}
        for side, angle in yaw.items():
            y = 0.09 if side == "left" else -0.09
            a = -np.radians(angle)
            place = (-np.sin(a) * y, np.cos(a) * y - y)
            out[side] = (*place, 0.06 if side == lifted else 0.0, -angle)
        return out

    for angle in angles:
        for side in ("right", "left"):
            yaw[side] = angle - (step / 2 if side == "right" else 0)
            keys.append(
                key(dt / 2, turn=-(angle - step / 2), feet=feet(side), pelvis=(0, 0, -0.03))
            )
            yaw[side] = angle
            keys.append(key(dt / 2, turn=-angle, feet=feet(), pelvis=(0, 0, -0.03)))
    return make_clip([*keys, key(0.4, turn=-float(angles[-1]), feet=feet())])


def _crawl():
    keys, pose = [stand()], {"tilt": 85, "feet": {}}
    lift = 0.06

    def at(x, up):
        hands = {s: (x + 0.53, 0.18 if s == "left" else -0.18, 0.03 + (lift if s == up else 0))
                 for s in ("left", "right")}  # fmt: skip
        return key(0.4, pelvis=(x, 0, 0.5 - 0.93), hip_flexion=85, knee_flexion=90, neck_bend=-30,
                    wrist_rotation=-80, wrist_flexion=-75, start=(85, 0, 0, 10), **hands,
                    **pose)  # fmt: skip

    keys += [key(1.0, pelvis=(0, 0, -0.3), tilt=60, feet={}, hip_flexion=60, knee_flexion=80)]
    return make_clip([*keys, *[at(0.1 * i, "left" if i % 2 else "right") for i in range(7)]])


def _side_step():
    keys, at = [stand()], {"left": 0.0, "right": 0.0}
    for i in range(2):
        goal = -0.3 * (i + 1)
        for side in ("right", "left"):
            old = at[side]
            lifted = {s: (0, y, 0) for s, y in at.items()} | {side: (0, 0.5 * (old + goal), 0.06)}
            at[side] = goal
            keys += [
                key(0.25, pelvis=(0, 0.5 * (old + goal), -0.04), feet=lifted),
                key(0.25, pelvis=(0, 0.5 * sum(at.values()), -0.06),
                     feet={s: (0, y, 0) for s, y in at.items()}),
            ]  # fmt: skip
    return make_clip(keys)


def _hop():
    keys = [stand(), key(0.5, pelvis=(0, -0.08, -0.08), feet={"right": (0, 0, 0)},
                           left_knee_flexion=100, left_hip_flexion=40)]  # fmt: skip
    for _ in range(4):
        for dt, z, foot in ((0.15, -0.1, 0.0), (0.2, 0.02, 0.08), (0.2, -0.1, 0.0)):
            keys.append(key(dt, pelvis=(0, -0.08, z), feet={"right": (0, 0, foot)},
                             left_knee_flexion=100, left_hip_flexion=40))  # fmt: skip
    return make_clip([*keys, stand(0.5)])


def _pick_up():
    low = {"pelvis": (-0.12, 0, -0.4), "tilt": 50, "spine_bend": 25, "chest_bend": 15}
    return make_clip([
        stand(), key(0.9, right=(0.3, -0.15, 0.12), **low),
        key(0.2, right=(0.3, -0.15, 0.1), **low),
        key(0.9, right=(0.4, -0.15, 1.05)), key(0.4, right=(0.4, -0.15, 1.05)),
    ])  # fmt: skip


def _balance():
    up = {"pelvis": (0, -0.08, -0.02), "feet": {"right": (0, 0, 0)}, "left_hip_flexion": 60,
          "left_knee_flexion": 80, "shoulder_abduction": 60}  # fmt: skip
    return make_clip([stand(), key(0.8, **up), key(2.0, **up), stand(0.8)])


def box(x0, x1, y0, y1, z0, z1):
    return {"box": [[x0, y0, z0], [x1, y1, z1]]}


SCENES = {
    "seat": {"seat": box(-0.65, -0.2, -0.3, 0.3, 0.0, 0.45)},
    "bed": {"bed": box(-1.7, 0.5, -0.5, 0.5, 0.2, 0.49)},
    "shelf": {"shelf": box(0.4, 0.7, -0.6, 0.6, 1.47, 1.5)},
    "low box": {"box": box(0.2, 0.9, -0.5, 0.5, 0, 0.12)},
    "box": {"box": box(0.2, 0.9, -0.5, 0.5, 0, 0.3)},
    "stairs": {f"step {i}": box(0.3 * i - 0.1, 0.3 * i + 0.2, -0.5, 0.5, 0, 0.16 * i)
               for i in (1, 2, 3)},
    "stones": {f"stone {i}": box(0.5 * i - 0.65, 0.5 * i - 0.3, -0.4, 0.4, -0.1, 0.1)
               for i in (1, 2, 3, 4)},
}  # fmt: skip


@cache
def _library(name):
    return motion.generate(name, track="kinematic")


MAKERS = {
    "warm up": _warm_up, "walk": lambda: gait(**NEUTRAL),
    "run": lambda: gait(step=0.3, stride=1.6, duty=0.62, fly=0.09, lift=0.2, elbow=80.0, steps=10,
                        bounce=0.0, tilt=6.0, sink=0.1),
    "jump": lambda: _library("jump"), "drink": lambda: _library("drink"), "lift dumbbell": _curls,
    "sit": lambda: make_clip(_sit()), "eat": _eat, "turn steering wheel": _steer, "phone": _phone,
    "boxing": lambda: _library("punch"), "throw": _throw, "handball throw": _handball,
    "jump shot": _jump_shot, "front kick": _kick, "tennis serve": _serve, "forehand": _forehand,
    **{name: (lambda name=name: gait(**(NEUTRAL | STYLES[name]))) for name in STYLES},
    "sit on chair": lambda: make_clip(_sit()), "lie on bed": _lie, "reach shelf": _reach,
    "stepping stones": _stones,
    "step up 12 cm": lambda: _climb([("right", 0.4, 0.12), ("left", 0.4, 0.12)]),
    "step up 30 cm": lambda: _climb([("right", 0.4, 0.3), ("left", 0.4, 0.3)]),
    "stairs": lambda: _climb([("right", 0.3, 0.16), ("left", 0.6, 0.32), ("right", 0.9, 0.48),
                              ("left", 0.9, 0.48)]),
    "in-between arms": _arms_set, "in-between lunge": _lunge_set,
    "in-between low to high": _low_high_set, "in-between half turn": lambda: _turning(180),
    "bow": lambda: _library("bow"), "wave": lambda: _library("wave"),
    "squat": lambda: _library("squat"), "crawl": _crawl, "turn in place": lambda: _turning(90),
    "side step": _side_step,
    "backward walk": lambda: gait(**(NEUTRAL | {"stride": -0.8})), "hop": _hop,
    "pick up from floor": _pick_up, "balance on one leg": _balance,
}  # fmt: skip
PLACES = {
    "sit on chair": "seat", "lie on bed": "bed", "reach shelf": "shelf",
    "step up 12 cm": "low box", "step up 30 cm": "box", "stairs": "stairs",
    "stepping stones": "stones",
}  # fmt: skip


@cache
def clip_of(name):
    return MAKERS[name]()


def keys_of(clip):
    rows = [0, 20, min(40, clip.num_frames - 1)]
    return motion.Clip(
        clip.skeleton, clip.fps, clip.root_positions[rows], clip.root_rotations[rows],
        clip.angles[rows], clip.contacts[rows], np.array(rows) / clip.fps,
    )  # fmt: skip


def given(action, *more):
    """What an action is judged with: its scene, the neutral walk, and keys from its own clip."""
    scene = {}
    for name in (action, *more):
        scene |= SCENES.get(PLACES.get(name, ""), {})
    keys = keys_of(clip_of(action)) if action.startswith("in-between") else None
    return {"scene": scene, "neutral": clip_of("walk"), "keys": keys}


def test_there_is_a_motion_for_every_action_and_the_list_is_whole():
    assert set(MAKERS) == set(action_facts())
    groups = [entry.group for entry in action_facts().values()]
    counts = {"humanact12": 12, "sport": 5, "style": 8, "scene": 7, "in-between": 4, "other": 10}
    assert {group: groups.count(group) for group in groups} == counts


@pytest.mark.parametrize("name", list(MAKERS))
def test_every_fact_of_an_action_can_hold_at_once(name):
    failures = [r.to_dict() for r in check(clip_of(name), name, **given(name)) if not r.truth]
    assert failures == []
