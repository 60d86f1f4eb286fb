"""The fixed action list by the scripted provider: facts written before the poses judge them."""

from functools import cache

import numpy as np
import pytest

from foveal import motion
from foveal.motion.between import in_between, key_poses
from foveal.motion.clip import Clip
from foveal.motion.director.library import MOTIONS
from foveal.motion.director.library.keysets import KEYSETS
from foveal.motion.director.library.scenes import DEFAULTS
from foveal.motion.metrics import foot_skate, ground_penetration, limit_violation
from foveal.motion.posecodes import check, table
from foveal.motion.posecodes.actions import action_facts, shows
from foveal.motion.skeleton import Side

FACTS = action_facts()
SCRIPTED = [name for name in FACTS if name not in KEYSETS]
CASES: list[tuple[str, Side]] = [
    (name, side)
    for name in SCRIPTED
    for side in (("right", "left") if FACTS[name].sided else ("right",))
]
ALSO_SHOWS = {  # what is an action is also the more general one
    **{name: {"walk"} for name in SCRIPTED if FACTS[name].group == "style"},
    "sit": {"sit on chair"},
    "sit on chair": {"sit"},
    "handball throw": {"walk"},  # its run-up
}


@cache
def clip_of(name: str, side: Side = "right") -> Clip:
    return motion.generate(f"{name} {side}", track="kinematic")


def given(name: str) -> dict[str, object]:
    out: dict[str, object] = {}
    if FACTS[name].needs:
        out["scene"] = DEFAULTS.get(name)
    if "neutral" in FACTS[name].needs:
        out["neutral"] = clip_of("walk")
    return out


def heights(clip: Clip) -> np.ndarray:
    """The ground under each foot in every frame where it is planted, from the clip itself."""
    soles = [
        clip.skeleton.sole_points(clip.positions, clip.world_rotations, side)[..., 2].min(axis=1)
        for side in ("left", "right")
    ]
    return np.stack(soles, axis=1)


def test_the_list_is_whole() -> None:
    assert set(SCRIPTED) <= {*MOTIONS, *motion.ACTIONS}
    assert set(KEYSETS) == {name for name in FACTS if FACTS[name].group == "in-between"}
    assert {name for name, one in MOTIONS.items() if one.on} == set(DEFAULTS)


@pytest.mark.parametrize(("name", "side"), CASES)
def test_every_fact_of_an_action_holds(name: str, side: Side) -> None:
    clip = clip_of(name, side)
    results = check(clip, name, side=side, **given(name))  # type: ignore[arg-type]
    assert all(result.truth for result in results), table(results)


@pytest.mark.parametrize(("name", "side"), CASES)
def test_feet_stay_where_they_are_and_nothing_sinks_in(name: str, side: Side) -> None:
    clip = clip_of(name, side)
    assert ground_penetration(clip) <= 0.02
    assert foot_skate(clip) <= 0.006
    assert limit_violation(clip) < 1e-9
    for column, foot in enumerate(("left", "right")):
        ankle = clip.positions[:, clip.skeleton.body(f"{foot}_foot")]
        planted = clip.contacts[1:, column] & clip.contacts[:-1, column]
        moved = np.linalg.norm(np.diff(ankle, axis=0), axis=1)[planted]
        assert moved.sum() < 0.05
    # the joints of a person: 30 rad/s is past what a pitcher's shoulder does
    speed = np.abs(np.diff(clip.angles, axis=0)).max() * clip.fps
    assert speed < 45
    assert np.linalg.norm(np.diff(clip.positions, axis=0), axis=-1).max() * clip.fps < 16


@pytest.mark.parametrize("name", SCRIPTED)
def test_an_action_shows_itself_and_no_other(name: str) -> None:
    clip = clip_of(name)
    own = DEFAULTS.get(name)
    shown: set[str] = set()
    for other in SCRIPTED:
        wanted = given(other)
        if own is not None and other in DEFAULTS and set(own) == set(DEFAULTS[other]):
            wanted["scene"] = own
        if shows(clip, other, **wanted):  # type: ignore[arg-type]
            shown.add(other)
    assert shown == {name} | ALSO_SHOWS.get(name, set())


@pytest.mark.parametrize("name", KEYSETS)
def test_user_keyframes_are_kept_and_joined(name: str) -> None:
    keys = KEYSETS[name]()
    clip = in_between(keys)
    results = check(clip, name, keys=key_poses(keys))
    assert all(result.truth for result in results), table(results)
    at = np.round(clip.keyframe_times * clip.fps).astype(int)
    assert np.abs(clip.positions[at] - key_poses(keys).positions).max() < 1e-9
    assert ground_penetration(clip) <= 0.02
    assert foot_skate(clip) <= 0.015
    assert np.linalg.norm(np.diff(clip.positions, axis=0), axis=-1).max() * clip.fps < 8


@pytest.mark.parametrize("gap", [0.4, 0.6, 0.8, 1.0])
def test_stones_are_crossed_at_every_gap_of_the_list(gap: float) -> None:
    scene = {
        f"stone {i + 1}": {"box": [[gap * i - 0.175, -0.4, -0.1], [gap * i + 0.175, 0.4, 0.1]]}
        for i in range(4)
    }
    provider = motion.Scripted(scene=scene)
    clip = motion.generate("cross the stepping stones", provider=provider, track="kinematic")
    results = check(clip, "stepping stones", scene=scene, side="right")
    assert all(result.truth for result in results), table(results)


def test_the_figure_goes_to_a_seat_that_is_elsewhere() -> None:
    chair = {"seat": {"box": [[1.2, 0.5, 0.0], [1.7, 1.0, 0.42]]}}
    provider = motion.Scripted(scene=chair)
    clip = motion.generate("sit down", provider=provider, track="kinematic")
    results = check(clip, "sit on chair", scene=chair)
    assert all(result.truth for result in results), table(results)
    pelvis = clip.positions[-1, clip.skeleton.body("pelvis")]
    assert 1.2 < pelvis[0] < 1.7
    assert 0.5 < pelvis[1] < 1.0


def test_a_plan_is_the_same_every_time() -> None:
    for words in ("walk drunkenly", "tennis serve", "crawl"):
        first, second = (motion.generate(words, track="kinematic") for _ in range(2))
        assert first.positions.tobytes() == second.positions.tobytes()


def test_linear_in_fill_is_the_papers_baseline() -> None:
    """Straight lines between keyframes at 20 fps: jerky where the smooth one is not."""
    smooth = motion.generate("drink", track="kinematic", fps=20)
    linear = motion.generate("drink", track="kinematic", fps=20, method="linear")
    hand = smooth.skeleton.body("right_hand")

    def roughness(clip: Clip) -> float:
        change = np.diff(clip.positions[:, hand], n=2, axis=0)
        return float(np.linalg.norm(change, axis=1).max())

    assert linear.num_frames == smooth.num_frames
    assert linear.receipt is not None
    assert linear.receipt.details["method"] == "linear"
    assert roughness(linear) > 1.5 * roughness(smooth)


@pytest.mark.parametrize("name", ["drink", "balance on one leg", "bow", "pick up from floor"])
def test_the_ground_pushes_from_within_the_feet_in_slow_phases(name: str) -> None:
    """The zero moment point c - h c'' / g of a centre of mass below 0.25 m/s, to 2.5 cm."""
    clip = clip_of(name)
    com = clip.skeleton.center_of_mass(clip.positions, clip.world_rotations)
    velocity = np.gradient(com, 1 / clip.fps, axis=0)
    push = np.gradient(velocity, 1 / clip.fps, axis=0)
    point = com[:, :2] - (com[:, 2:] / (9.81 + push[:, 2:])) * push[:, :2]
    slow = np.linalg.norm(velocity, axis=1) < 0.25
    outside = []
    for frame in np.flatnonzero(slow):
        soles = [
            clip.skeleton.sole_points(clip.positions, clip.world_rotations, side)[frame, :, :2]
            for column, side in enumerate(("left", "right"))
            if clip.contacts[frame, column]
        ]
        points = np.concatenate(soles)
        low, high = points.min(axis=0), points.max(axis=0)
        outside.append(np.maximum(low - point[frame], point[frame] - high).max())
    assert len(outside) > 60
    assert np.mean(np.array(outside) < 0.025) > 0.95
