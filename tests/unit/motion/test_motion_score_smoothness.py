"""Scores of smoothness by hand: jerk of sines, hinges past their limits, cycles that close."""

import numpy as np
import pytest

from foveal import motion
from foveal.motion.metrics import fit, smoothness

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


def _about(axis, angles):
    out = np.zeros((len(angles), 4))
    out[:, 0], out[:, 1 + axis] = np.cos(angles / 2), np.sin(angles / 2)
    return out


@pytest.mark.parametrize("fps", RATES)
def test_jerk_of_a_sine_by_hand(fps):
    times, rate = _times(4.0, fps), 2 * np.pi
    scores = motion.score(_figure(times, fps, (0, 0, 0.05 * np.sin(rate * times))))
    assert scores["jerk"] == pytest.approx(0.05 * rate**3 * 2 / np.pi, rel=0.03)
    # |cos| is below sin(0.95 pi / 2) for 95 % of the time
    highest = 0.05 * rate**3 * np.sin(0.95 * np.pi / 2)
    assert scores["jerk_p95"] == pytest.approx(highest, rel=0.03)


@pytest.mark.parametrize("fps", RATES)
def test_jerk_of_a_swinging_joint_by_hand(fps):
    times, rate = _times(4.0, fps), 2 * np.pi
    swing = 0.6 + 0.05 * np.sin(rate * times)
    scores = motion.score(_figure(times, fps, left_elbow_flexion=swing))
    arms = 0.263 + (0.263 + 0.086)  # from the elbow to the wrist and to the knuckles
    assert scores["jerk"] == pytest.approx(
        arms / 23 * 0.05 * rate**3 * 2 / np.pi, rel=0.04
    )  # of 23 bodies two move


def test_shaking_is_jerky():
    times = _times(2.0, 60.0)
    smooth = 0.05 * np.sin(2 * np.pi * times)
    shaken = smooth + 0.002 * np.random.default_rng(0).standard_normal(len(times))
    calm, rough = (motion.score(_figure(times, 60.0, (0, 0, z)))["jerk"] for z in (smooth, shaken))
    assert rough > 5 * calm


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_of_polynomials_are_exact_up_to_the_ends(fps, order):
    times = _times(0.5, fps)
    cubic = np.polynomial.Polynomial([0.3, -0.7, 1.1, 0.9])
    got = fit.derivative(cubic(times), fps, order=order, degree=3)
    np.testing.assert_allclose(got, cubic.deriv(order)(times), atol=1e-7)


def test_windows_have_a_length_in_time_and_at_least_five_frames():
    assert [fit.half_window(fps) for fps in (10.0, 30.0, 60.0, 120.0)] == [2, 2, 4, 7]
    first, size = fit.windows(12, 60.0)
    assert size == 9
    assert first.tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 3]
    assert fit.windows(3, 60.0)[1] == 3
    assert fit.derivative(np.zeros(3), 60.0, order=3, degree=3) is None


@pytest.mark.parametrize("fps", RATES)
def test_spin_of_a_turn_that_gains_speed(fps):
    times = _times(0.5, fps)
    speed, change = fit.spin(_about(2, 0.4 * times + 1.5 * times**2), fps)
    np.testing.assert_allclose(speed[:, 2], 0.4 + 3.0 * times, atol=1e-6)
    np.testing.assert_allclose(change[:, 2], 3.0, atol=1e-5)
    np.testing.assert_allclose(speed[:, :2], 0.0, atol=1e-9)
    # signs of quaternions mean nothing
    flipped = _about(2, 0.4 * times + 1.5 * times**2) * np.where(times > 0.2, -1, 1)[:, None]
    np.testing.assert_allclose(fit.spin(flipped, fps)[0], speed, atol=1e-9)


def test_excess_over_limits_by_hand():
    times = _times(1.0, 60.0)[:-1]
    upper = np.radians(150.0)
    knee = np.where(times < 0.25, upper + 0.1, upper)
    scores = motion.score(_figure(times, 60.0, left_knee_flexion=knee))
    assert scores["limit_violation"] == pytest.approx(0.1)
    assert scores["limit_excess_degrees"] == pytest.approx(np.degrees(0.1))
    assert scores["limit_fraction"] == pytest.approx(0.25)
    below = motion.score(_figure(times, 60.0, right_knee_flexion=np.radians(-3.0)))
    assert below["limit_excess_degrees"] == pytest.approx(3.0)
    assert below["limit_fraction"] == 1.0
    hair = motion.score(_figure(times, 60.0, left_knee_flexion=upper + np.radians(0.05)))
    assert hair["limit_fraction"] == 0.0
    assert hair["limit_excess_degrees"] == pytest.approx(0.05)
    within = motion.score(_figure(times, 60.0, left_knee_flexion=upper))
    assert within["limit_excess_degrees"] == within["limit_fraction"] == 0.0


@pytest.mark.parametrize("fps", RATES)
def test_a_whole_period_closes_and_a_part_of_one_does_not(fps):
    rate, size = 2 * np.pi, 0.08

    def loop(seconds):
        times = _times(seconds, fps)
        return motion.score(_figure(times, fps, (0, 0, size * np.sin(rate * times))), cyclic=True)

    whole = loop(2.0)
    assert whole["loop_pose_gap"] == pytest.approx(0.0, abs=1e-9)
    assert whole["loop_velocity_gap"] == pytest.approx(0.0, abs=0.01)
    # at its start it rises with size * rate / 2; after a quarter it rests at the top
    quarter = motion.score(
        _figure(times := _times(0.5, fps), fps, (0, 0, size * np.sin(rate / 2 * times))),
        cyclic=True,
    )
    assert quarter["loop_pose_gap"] == pytest.approx(size)
    assert quarter["loop_velocity_gap"] == pytest.approx(size * rate / 2, rel=0.02)
    half = loop(0.5)
    assert half["loop_pose_gap"] == pytest.approx(0.0, abs=1e-9)
    assert half["loop_velocity_gap"] == pytest.approx(2 * size * rate, rel=0.02)


def test_travel_and_turns_of_the_root_do_not_open_a_loop():
    times = _times(1.0, 60.0)
    straight = motion.score(_figure(times, 60.0, (1.3 * times, 0.2 * times, 0)), cyclic=True)
    assert straight["loop_pose_gap"] == pytest.approx(0.0, abs=1e-9)
    assert straight["loop_velocity_gap"] == pytest.approx(0.0, abs=1e-6)
    turn = 2.5 * times  # along a circle of 1 m, facing ahead
    around = (np.sin(turn), 1 - np.cos(turn), 0)
    circle = motion.score(_figure(times, 60.0, around, _about(2, turn)), cyclic=True)
    assert circle["loop_pose_gap"] == pytest.approx(0.0, abs=1e-9)
    assert circle["loop_angle_gap_degrees"] == pytest.approx(0.0, abs=1e-4)
    assert circle["loop_velocity_gap"] == pytest.approx(0.0, abs=1e-3)
    # facing one way all the time, the end goes another way: a chord of 2.5 rad at 2.5 m/s
    crab = motion.score(_figure(times, 60.0, around), cyclic=True)
    assert crab["loop_velocity_gap"] == pytest.approx(2 * 2.5 * np.sin(1.25), rel=1e-3)


def test_height_lean_and_joints_open_a_loop():
    times = _times(1.0, 60.0)
    bent = np.radians(20.0) * times
    joint = motion.score(_figure(times, 60.0, right_elbow_flexion=bent), cyclic=True)
    assert joint["loop_angle_gap_degrees"] == pytest.approx(20.0)
    chord = 2 * (0.263 + 0.086) * np.sin(np.radians(10.0))  # of the knuckles
    assert joint["loop_pose_gap"] == pytest.approx(chord)
    lean = motion.score(_figure(times, 60.0, turns=_about(1, bent)), cyclic=True)
    assert lean["loop_angle_gap_degrees"] == pytest.approx(20.0)
    assert smoothness.loop_gap(_figure(times, 60.0, (0, 0, 0.1 * times))).pose == pytest.approx(0.1)
