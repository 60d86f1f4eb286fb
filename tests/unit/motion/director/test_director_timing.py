"""Per-part timing: clocks by hand, and what the in-fill makes of them."""

import numpy as np
import pytest

from foveal.errors import ArgumentError
from foveal.motion.director.commands import Keyframe, Timing
from foveal.motion.director.parts import PARTS, hinges_of, part_of_bodies
from foveal.motion.director.timing import clock, part_times
from foveal.motion.inbetween import fill, resolve

U = np.linspace(0.0, 1.0, 201)


def jerk_curve(u):
    return u**3 * (10 - 15 * u + 6 * u**2)


def test_the_whole_interval_smoothly_is_the_plain_clock() -> None:
    assert clock(Timing(), U) == pytest.approx(U)


def test_a_late_part_waits_and_an_early_one_rests() -> None:
    v = clock(Timing(0.25, 0.75), U)
    assert (v[U <= 0.25] == 0).all()
    assert (v[U >= 0.75] == 1).all()
    assert v[100] == pytest.approx(0.5)


def test_eases_lean_to_their_side() -> None:
    assert clock(Timing(ease="slow_start"), np.array([0.5])) == pytest.approx(0.5**1.6)
    assert clock(Timing(ease="slow_end"), np.array([0.5])) == pytest.approx(1 - 0.5**1.6)


def test_even_is_a_constant_speed_between_its_ramps() -> None:
    gone = jerk_curve(clock(Timing(ease="even"), U))
    speed = np.diff(gone) / np.diff(U)
    middle = (U[:-1] > 0.13) & (U[1:] < 0.87)
    # ramps of an eighth: the constant speed is 1 / (1 - 1/8)
    assert speed[middle] == pytest.approx(8 / 7, rel=1e-4)
    assert speed[0] < 0.1
    assert gone[0] == pytest.approx(0, abs=1e-9)
    assert gone[-1] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("ease", ["smooth", "slow_start", "slow_end", "even"])
def test_clocks_rise_from_0_to_1(ease) -> None:
    v = clock(Timing(0.1, 0.9, ease), U)
    assert v[0] == pytest.approx(0, abs=1e-6)
    assert v[-1] == pytest.approx(1, abs=1e-6)
    assert (np.diff(v) >= -1e-12).all()


@pytest.mark.parametrize(
    ("start", "end", "ease", "text"),
    [
        (-0.1, 1.0, "smooth", "start, end is -0.1, 1.0, must be in"),
        (0.5, 0.55, "smooth", "at least 0.1 between them"),
    ],
)
def test_wrong_timing_is_named(start, end, ease, text) -> None:
    with pytest.raises(ArgumentError, match=text):
        Timing(start, end, ease)


def test_an_unknown_ease_is_named() -> None:
    with pytest.raises(ArgumentError, match="ease is 'bouncy', must be one of"):
        Timing(ease="bouncy")


def keys(**timing) -> list[Keyframe]:
    bent = {"left_elbow_flexion": 1.0, "right_elbow_flexion": 1.0, "neck_bend": 0.3}
    more = {"left_elbow_flexion": 2.0, "right_elbow_flexion": 2.0, "neck_bend": 0.6}
    return [
        Keyframe(0.0),
        Keyframe(1.0, angles=bent, pelvis=(0.2, 0.0, 0.0), timing=timing),
        Keyframe(1.0, angles=more, pelvis=(0.4, 0.0, 0.0)),
    ]


def filled(skeleton, plan):
    return fill(resolve(plan, skeleton), skeleton, fps=20, method="smooth", keyframes=plan)


def test_only_the_timed_part_has_another_clock(skeleton) -> None:
    plain = filled(skeleton, keys())
    late = filled(skeleton, keys(left_arm=Timing(0.5, 1.0)))
    arm = hinges_of(skeleton, "left_arm")
    rest = [i for i in range(plain.angles.shape[1]) if i not in arm]
    assert np.array_equal(plain.angles[:, rest], late.angles[:, rest])
    assert np.array_equal(plain.root_positions, late.root_positions)
    left = late.angles[:, skeleton.hinge("left_elbow_flexion")]
    assert left[:11] == pytest.approx(0.0)  # it waits for half a second
    assert left[15] == pytest.approx(0.5)  # halfway at three quarters, as by minimum jerk
    assert left[20] == pytest.approx(1.0)
    # and it rests at the key, where a part without timing goes on
    assert abs(left[21] - left[20]) < 0.01
    right = late.angles[:, skeleton.hinge("right_elbow_flexion")]
    assert right[21] - right[20] > 0.03


def test_the_pelvis_carries_the_root(skeleton) -> None:
    late = filled(skeleton, keys(pelvis=Timing(0.5, 1.0)))
    assert late.root_positions[:11, 0] == pytest.approx(0.0)
    assert late.root_positions[20, 0] == pytest.approx(0.2)


def test_knots_of_timed_intervals_are_where_parts_rest() -> None:
    plan = keys(head=Timing(0.0, 0.5))
    times, at = np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.25, 0.75, 1.5])
    ((part, warped, rest),) = part_times(plan, times, at)
    assert part == "head"
    assert warped == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert rest.tolist() == [True, True, False]
    assert list(part_times([], times, at)) == []


def test_every_body_belongs_to_a_part(skeleton) -> None:
    assert set(part_of_bodies(skeleton)) == set(PARTS)
    named = dict(zip(skeleton.names, part_of_bodies(skeleton), strict=True))
    assert named["pelvis"] == "pelvis"
    assert named["chest"] == "trunk"
    assert named["head"] == named["neck"] == "head"
    assert named["left_hand"] == "left_arm"
    assert named["right_toes"] == named["right_thigh"] == "right_leg"
    assert sorted(i for p in PARTS for i in hinges_of(skeleton, p)) == list(
        range(len(skeleton.hinges))
    )
