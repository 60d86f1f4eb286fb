"""Scores of following a reference and of timing, by hand: lags, falls, bent elbows, key poses."""

from dataclasses import replace

import numpy as np
import pytest

from foveal import motion
from foveal.errors import ArgumentError
from foveal.motion.metrics import tracking

RATES = (30.0, 60.0, 120.0)


def _figure(times, fps, shift=(0.0, 0.0, 0.0), turns=None, contacts=True, keyframes=(), **hinges):
    """The standing figure at times of a motion: its pelvis moved and turned, hinges by name."""
    body = motion.humanoid()
    count = len(times)
    angles = np.zeros((count, len(body.hinges)))
    for name, values in hinges.items():
        angles[:, body.hinge(name)] = values
    still = np.tile([1.0, 0.0, 0.0, 0.0], (count, 1))
    return motion.Clip(
        body,
        fps,
        body.rest_positions[0] + np.stack([np.zeros(count) + s for s in shift], axis=1),
        still if turns is None else turns,
        angles,
        np.full((count, 2), contacts) if isinstance(contacts, bool) else contacts,
        np.array(keyframes, float),
    )


def _times(seconds, fps):
    return np.arange(round(seconds * fps) + 1) / fps


ARM, KNUCKLES = 0.263, 0.263 + 0.086  # from the elbow to the wrist and to the knuckles


def _about(axis, angles):
    out = np.zeros((len(angles), 4))
    out[:, 0], out[:, 1 + axis] = np.cos(angles / 2), np.sin(angles / 2)
    return out


def _swinging(fps, late=0.0, seconds=2.0, size=0.6, **more):
    times = _times(seconds, fps)
    bend = 1.0 + size * np.sin(2 * np.pi * (times - late))
    return _figure(times, fps, left_elbow_flexion=bend, **more)


def test_a_clip_follows_itself():
    clip = _swinging(60.0)
    scores = motion.score(clip, reference=clip)
    assert scores["tracking_error"] == pytest.approx(0.0, abs=1e-12)
    assert scores["tracking_local_error"] == pytest.approx(0.0, abs=1e-12)
    assert scores["tracking_jerk_ratio"] == 1.0
    assert scores["tracking_lag"] == pytest.approx(0.0, abs=1e-9)
    assert scores["tracking_fell"] is False
    assert scores["tracking_success"] is True
    assert motion.score(replace(clip, reference=clip))["tracking_success"] is True


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("late", [0.1, -0.1, 0.037, 0.0])
def test_lag_is_found_between_frames(fps, late):
    clip, reference = _swinging(fps, late), _swinging(fps)
    assert motion.score(clip, reference=reference)["tracking_lag"] == pytest.approx(late, abs=3e-3)


@pytest.mark.parametrize("fps", [25.0, 48.0, 120.0])
def test_a_reference_has_a_frame_rate_of_its_own(fps):
    scores = motion.score(_swinging(60.0, 0.1), reference=_swinging(fps, 0.1))
    assert scores["tracking_error"] < 1e-3
    assert scores["tracking_local_error"] < 1e-3
    assert scores["tracking_lag"] == pytest.approx(0.0, abs=3e-3)
    assert scores["tracking_jerk_ratio"] == pytest.approx(1.0, rel=0.06)


def test_a_late_clip_is_no_success():
    assert motion.score(_swinging(60.0, 0.2), reference=_swinging(60.0))["tracking_success"] is True
    late = motion.score(_swinging(60.0, 0.3), reference=_swinging(60.0))
    assert late["tracking_lag"] == pytest.approx(0.3, abs=0.01)
    assert late["tracking_success"] is False


@pytest.mark.parametrize("fps", RATES)
def test_errors_by_hand(fps):
    times = _times(0.5, fps)
    reference = _figure(times, fps)
    clip = _figure(times, fps, (0.3, 0.4, 0.0), left_elbow_flexion=np.pi / 2)
    scores = motion.score(clip, reference=reference)
    # of 22 bodies but the root two are off, by the chord of a right angle
    assert scores["tracking_local_error"] == pytest.approx(
        np.sqrt(2) * (ARM + KNUCKLES) / 22, rel=1e-9
    )
    moved = _figure(times, fps, (0.3, 0.4, 0.0))
    assert motion.score(moved, reference=reference)["tracking_error"] == pytest.approx(0.5)
    assert motion.score(moved, reference=reference)["tracking_local_error"] == pytest.approx(0.0)
    assert scores["tracking_lag"] is None  # nothing moves
    assert scores["tracking_jerk_ratio"] is None  # neither has any


def test_an_error_of_a_tenth_of_a_meter_is_no_success():
    times = _times(0.5, 60.0)
    reference = _figure(times, 60.0)

    def crouched(angle):
        bends = {f"{s}_shoulder_flexion": angle for s in ("left", "right")}
        return motion.score(_figure(times, 60.0, **bends), reference=reference)

    # both arms swung forward: elbows, wrists, knuckles go along a chord
    chord = 2 * (0.275 + 0.538 + 0.624) * 2 * np.sin(0.5) / 22
    assert crouched(1.0)["tracking_local_error"] == pytest.approx(chord)
    assert crouched(0.6)["tracking_success"] is True
    assert chord > 0.1
    assert crouched(1.0)["tracking_success"] is False


def test_jerk_is_compared():
    reference = _swinging(60.0, size=0.02)
    twice = motion.score(_swinging(60.0, size=0.038), reference=reference)
    assert twice["tracking_jerk_ratio"] == pytest.approx(1.9, rel=0.02)
    assert twice["tracking_success"] is True
    more = motion.score(_swinging(60.0, size=0.044), reference=reference)
    assert more["tracking_jerk_ratio"] == pytest.approx(2.2, rel=0.02)
    assert more["tracking_success"] is False


@pytest.mark.parametrize("fps", RATES)
def test_falls_are_found_when_they_happen(fps):
    times = _times(1.0, fps)
    reference = _figure(times, fps)
    for drop, falls in ((0.29, False), (-0.29, False), (0.31, True), (-0.31, True)):
        clip = _figure(times, fps, (0, 0, np.where(times > 0.499, -drop, 0.0)))
        assert motion.score(clip, reference=reference)["tracking_fell"] is falls
        assert tracking.fall_time(clip, reference) == (pytest.approx(0.5) if falls else None)
    for tilt, falls in ((0.88, False), (-0.88, False), (0.92, True), (-0.92, True)):
        turns = _about(0, np.where(times > 0.499, tilt, 0.0))
        clip = _figure(times, fps, turns=turns)
        scores = motion.score(clip, reference=reference)
        assert scores["tracking_fell"] is falls
        assert tracking.fall_time(clip, reference) == (pytest.approx(0.5) if falls else None)
    turned = _figure(times, fps, turns=_about(2, 2.0 * times))  # turning is not falling
    assert motion.score(turned, reference=reference)["tracking_fell"] is False


def test_a_fall_is_no_success_however_small_the_error():
    times = _times(1.0, 60.0)
    clip = _figure(times, 60.0, (0, 0, np.where(times > 0.8, -0.31, 0.0)))
    scores = motion.score(clip, reference=_figure(times, 60.0))
    assert scores["tracking_local_error"] < 1e-9
    assert scores["tracking_success"] is False


def test_a_clip_that_ends_early_is_no_success():
    reference = _swinging(60.0)
    assert motion.score(_swinging(60.0, seconds=1.95), reference=reference)["tracking_success"]
    short = motion.score(_swinging(60.0, seconds=1.8), reference=reference)
    assert short["tracking_local_error"] == pytest.approx(0.0, abs=1e-9)
    assert short["tracking_success"] is False


def test_another_figure_is_no_reference():
    clip = _swinging(60.0)
    names = ("hips", *clip.skeleton.names[1:])
    other = replace(clip, skeleton=replace(clip.skeleton, names=names))
    text = "score: reference has the bodies hips, spine, .*, must have those of the clip; compare"
    with pytest.raises(ArgumentError, match=text):
        motion.score(clip, reference=other)
    with pytest.raises(ArgumentError, match="score: keys has the bodies hips"):
        motion.score(clip, keys=replace(other, keyframe_times=np.arange(121) / 60))


def test_declared_times_are_compared_in_order():
    clip = _swinging(60.0, keyframes=(0.0, 0.6, 1.5))
    scores = motion.score(clip, keyframe_times=[0.0, 0.5, 1.7])
    assert scores["timing_error"] == pytest.approx(0.1)
    assert scores["timing_error_max"] == pytest.approx(0.2)
    exact = motion.score(clip, keyframe_times=clip.keyframe_times)
    assert exact["timing_error"] == exact["timing_error_max"] == 0.0


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("late", [0.0, 0.1, -0.1])
def test_shown_times_are_measured(fps, late):
    wished = np.array([0.5, 1.0, 1.5])

    def bend(times):  # a ramp: each pose is shown once
        return 0.1 + times

    keys = _figure(wished, 1.0, keyframes=wished, left_elbow_flexion=bend(wished))
    times = _times(2.0, fps)
    clip = _figure(times, fps, left_elbow_flexion=bend(times - late))
    delays = tracking.keyframe_delays(clip, None, keys)
    # poses are as near as the nearest up to 5 mm on average of all bodies: a bend of 0.19 rad
    slack = 0.005 * 23 / (ARM + KNUCKLES)
    assert np.abs(delays - late).max() <= slack + 1 / fps
    assert (np.abs(delays) <= abs(late) + 1e-9).all()
    far = _figure(times, fps, left_elbow_flexion=bend(np.maximum(times - 0.45, 0)))
    missed = motion.score(far, keys=keys)
    assert missed["timing_error"] == pytest.approx(0.45 - slack, abs=1.5 / fps)
    assert missed["timing_error_max"] <= 0.45 + 1e-9


def test_a_pose_that_is_held_is_on_time():
    wished = np.array([0.5, 1.0])
    keys = _figure(wished, 1.0, left_elbow_flexion=np.array([0.0, 1.0]))
    times = _times(1.5, 60.0)
    clip = _figure(times, 60.0, left_elbow_flexion=np.where(times < 0.8, 0.0, 1.0))
    scores = motion.score(clip, keys=keys, keyframe_times=wished)
    assert scores["timing_error"] == pytest.approx(0.0, abs=1e-9)
    late = np.where(times < 1.2, 0.0, 1.0)
    scores = motion.score(
        _figure(times, 60.0, left_elbow_flexion=late), keys=keys, keyframe_times=wished
    )
    assert scores["timing_error_max"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("wished", "text"),
    [
        ([], "keyframe_times is .*, must be finite times in s, at least one; leave it out"),
        ([0.0, np.nan], "keyframe_times is .*, must be finite times in s"),
        ([0.5], "keyframe_times has 1 times, must have 2 as the clip has; give a time for each"),
    ],
    ids=["none", "nan", "count"],
)
def test_times_that_make_no_sense_are_refused(wished, text):
    with pytest.raises(ArgumentError, match=f"score: {text}"):
        motion.score(_swinging(60.0, keyframes=(0.0, 1.0)), keyframe_times=wished)


def test_key_poses_need_times_within_the_clip():
    keys = _figure(np.arange(2), 1.0)
    clip = _swinging(60.0)
    assert "timing_error" not in motion.score(clip, keys=keys)  # they have no times
    with pytest.raises(ArgumentError, match="keyframe_times has 3 times, must have 2 as keys has"):
        motion.score(clip, keys=keys, keyframe_times=[0.0, 1.0, 2.0])
    text = r"keyframe_times is \[0.0, 3.0\], must be in \[0, 2.000\]; give times within the clip"
    with pytest.raises(ArgumentError, match=text):
        motion.score(clip, keys=keys, keyframe_times=[0.0, 3.0])
