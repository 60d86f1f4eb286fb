"""Scores of forces and balance by hand: standing, flight, floating, pushes, support polygons."""

from dataclasses import replace

import numpy as np
import pytest

from foveal import motion
from foveal.motion import rotations as rot
from foveal.motion.body import to_mjcf
from foveal.motion.metrics import balance, dynamics
from foveal.motion.posecodes.points import read_scene

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


G, FLOOR = 9.81, read_scene({})
# from the middle of the standing figure: the heels are the nearest border, at x = -0.04
HEEL, TOES = -0.04, 0.125 + 0.047


def _com(clip):
    return clip.skeleton.center_of_mass(clip.positions, clip.world_rotations)[0]


def _about(axis, angles):
    out = np.zeros((len(angles), 4))
    out[:, 0], out[:, 1 + axis] = np.cos(angles / 2), np.sin(angles / 2)
    return out


@pytest.mark.parametrize("fps", RATES)
def test_standing_needs_what_the_ground_gives(fps):
    clip = _figure(_times(0.5, fps), fps)
    scores = motion.score(clip)
    assert scores["residual"] < 1e-9
    assert scores["residual_p95"] < 1e-9
    assert scores["com_margin"] == pytest.approx(_com(clip)[0] - HEEL)
    assert scores["zmp_margin"] == pytest.approx(_com(clip)[0] - HEEL)
    assert scores["com_distance"] == scores["zmp_distance"] == 0.0
    assert scores["com_inside_fraction"] == scores["zmp_inside_fraction"] == 1.0
    needed = dynamics.needed_wrench(clip)
    np.testing.assert_allclose(needed.force, np.tile([0, 0, 70 * G], (clip.num_frames, 1)))
    np.testing.assert_allclose(needed.torque, 0.0, atol=1e-6)


@pytest.mark.parametrize("fps", RATES)
def test_floating_is_carried_by_nothing(fps):
    scores = motion.score(_figure(_times(0.5, fps), fps, (0, 0, 1.0)))
    assert scores["residual"] == pytest.approx(1.0)
    assert scores["residual_force"] == pytest.approx(1.0)
    assert scores["residual_torque"] == pytest.approx(0.0, abs=1e-6)
    assert scores["com_margin"] is scores["com_distance"] is scores["com_inside_fraction"] is None
    assert scores["zmp_margin"] is scores["zmp_distance"] is scores["zmp_inside_fraction"] is None


@pytest.mark.parametrize("fps", RATES)
def test_flight_needs_nothing(fps):
    times = _times(0.6, fps)
    path = (1.2 * times, -0.3 * times, 0.5 + 3 * times - 0.5 * G * times**2)
    assert motion.score(_figure(times, fps, path))["residual_p95"] < 1e-6
    # falling at half of gravity, half of the weight is carried by nothing
    slow = (0, 0, 1.0 - 0.25 * G * times**2)
    assert motion.score(_figure(times, fps, slow))["residual"] == pytest.approx(0.5)
    # speeding up in the air at g to the side of a free fall
    aside = (0.5 * G * times**2, 0, 3.0 - 0.5 * G * times**2)
    assert motion.score(_figure(times, fps, aside))["residual_force"] == pytest.approx(1.0)


def test_a_simulated_tumble_needs_nothing():
    """Arms and legs thrown about in free flight, by MuJoCo without motors and ground."""
    import mujoco

    body, fps, every = motion.humanoid(), 120.0, 8
    model = mujoco.MjModel.from_xml_string(to_mjcf(body, timestep=1 / fps / every))
    off = mujoco.mjtDisableBit
    model.opt.disableflags |= int(off.mjDSBL_ACTUATION) | int(off.mjDSBL_CONTACT)
    data = mujoco.MjData(model)
    data.qpos[2] = 3.0
    data.qvel[3:6] = (1.0, 2.0, -1.5)
    data.qvel[6:] = np.random.default_rng(1).uniform(-2.0, 2.0, model.nv - 6)
    rows = []
    for _ in range(48):
        rows.append(data.qpos.copy())
        mujoco.mj_step(model, data, every)
    path = np.array(rows)
    clip = motion.Clip(
        body, fps, path[:, :3], path[:, 3:7], path[:, 7:], np.zeros((48, 2), bool), np.zeros(0)
    )
    assert np.ptp(clip.angles, axis=0).max() > 0.2
    scores = motion.score(clip)
    assert scores["residual"] < 0.02
    assert scores["residual_torque"] < 0.005
    still = motion.Clip(
        body, fps, path[:, :3], path[:, 3:7] * 0 + [1, 0, 0, 0], path[:, 7:],
        np.zeros((48, 2), bool), np.zeros(0),
    )  # fmt: skip
    # limbs that move while the trunk does not turn need a torque from outside
    assert motion.score(still)["residual_torque"] > 10 * scores["residual_torque"]


def test_hinges_are_found_by_name():
    times = _times(0.5, 60.0)
    swing = np.sin(9.0 * times)
    clip = _figure(
        times, 60.0, (0, 0, 1.0), left_hip_flexion=swing, right_elbow_flexion=0.5 + swing
    )
    body = clip.skeleton
    order = sorted(range(len(body.hinges)), key=lambda i: -body.hinges[i].body)
    other = replace(
        clip,
        skeleton=replace(body, hinges=tuple(body.hinges[i] for i in order)),
        angles=clip.angles[:, order],
    )
    wanted, found = dynamics.needed_wrench(clip), dynamics.needed_wrench(other)
    assert np.ptp(wanted.torque[:, 1]) > 5.0
    np.testing.assert_allclose(found.torque, wanted.torque, atol=1e-6)
    np.testing.assert_allclose(found.force, wanted.force, atol=1e-6)


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("push", [0.2, 1.0, -0.3])
def test_a_push_moves_the_zero_moment_point_by_h_a_over_g(fps, push):
    times = _times(0.5, fps)
    clip = _figure(times, fps, (0.5 * push * times**2, 0, 0))
    com = _com(clip)
    place = com[0] - com[2] * push / G
    wanted = min(place - HEEL, TOES - place)
    scores = motion.score(clip)
    assert scores["zmp_margin"] == pytest.approx(wanted, abs=1e-6)
    assert scores["zmp_distance"] == pytest.approx(max(0.0, -wanted), abs=1e-6)
    assert scores["zmp_inside_fraction"] == (1.0 if wanted > 0 else 0.0)
    assert scores["com_margin"] == pytest.approx(com[0] - HEEL)
    if wanted > 0:
        assert scores["residual"] < 1e-6
    else:  # the best trade of a smaller force for a smaller torque leaves a part of both
        moment = -wanted / 1.7  # of the weight, over the height, if all force is kept
        assert 0.7 * moment < scores["residual"] < moment


def test_a_push_to_the_left_moves_it_to_the_right():
    times = _times(0.5, 60.0)
    clip = _figure(times, 60.0, (0, 0.5 * 0.5 * times**2, 0))
    points, touches = dynamics.touching_points(clip, FLOOR)
    needed = dynamics.needed_wrench(clip)
    places = balance.pressure_points(clip, needed, points, touches) - clip.root_positions[:, :2]
    com = _com(clip)
    np.testing.assert_allclose(places[:, 1], -com[2] * 0.5 / G, atol=1e-6)
    np.testing.assert_allclose(places[:, 0], com[0], atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_trunk_thrown_over_moves_the_zero_moment_point_back(axis):
    times = _times(0.1, 60.0)
    angle = 0.5 * 4.0 * (times - 0.05) ** 2  # about the centre of mass, at 4 rad/s^2
    still = _figure(times, 60.0)
    com, turns = _com(still), _about(axis, angle)
    shift = com + rot.rotate(turns, still.root_positions - com) - still.root_positions
    clip = _figure(times, 60.0, tuple(shift.T), turns)
    points, touches = dynamics.touching_points(still, FLOOR)
    needed = dynamics.needed_wrench(clip)
    where = still.positions[0] + still.skeleton.centers - com
    inertia = still.skeleton.masses @ (where[:, 2] ** 2 + where[:, 1 - axis] ** 2)
    assert needed.torque[:, axis] == pytest.approx(4.0 * inertia, rel=0.1)
    moved = balance.pressure_points(clip, needed, points, touches) - com[:2]
    # thrown forward (about +y) it is pushed behind, thrown to the right (+x) at the left
    sign = -1.0 if axis == 1 else 1.0
    assert moved[:, 1 - axis] == pytest.approx(sign * 4.0 * inertia / (70 * G), rel=0.1)
    assert moved[:, axis] == pytest.approx(0.0, abs=2e-3)


def test_a_floor_at_another_height_changes_nothing():
    times = _times(0.5, 60.0)
    push = 0.5 * 0.2 * times**2
    low = motion.score(_figure(times, 60.0, (push, 0, 0)))
    high = motion.score(_figure(times, 60.0, (push, 0, 1.5)), scene={"floor": {"height": 1.5}})
    assert high["zmp_margin"] == pytest.approx(low["zmp_margin"], abs=1e-9)
    assert high["residual"] == pytest.approx(0.0, abs=1e-6)


def test_hardly_any_weight_on_the_ground_has_no_pressure_point():
    times = _times(0.1, 60.0)
    for share, told in ((0.2, False), (0.3, True)):
        clip = _figure(times, 60.0, (0, 0, -0.5 * (1 - share) * G * times**2))
        assert (motion.score(clip)["zmp_margin"] is not None) is told


def test_worst_and_mean_are_told_apart():
    times = _times(1.0, 60.0)
    # a fall that gains its acceleration: 1 - t of the weight is carried by nothing
    scores = motion.score(_figure(times, 60.0, (0, 0, 3.0 - G * times**3 / 6)))
    assert scores["residual"] == pytest.approx(0.5, abs=0.01)
    assert scores["residual_p95"] == pytest.approx(0.95, abs=0.03)
    raised = 1.5 * times  # arms to the front: the weight goes forward, away from the heels
    arms = _figure(times, 60.0, left_shoulder_flexion=raised, right_shoulder_flexion=raised)
    scores = motion.score(arms)
    assert scores["com_margin"] == pytest.approx(_com(arms)[0] - HEEL)
    com = arms.skeleton.center_of_mass(arms.positions, arms.world_rotations)
    assert com[-1, 0] > com[0, 0] + 0.01


def test_a_landing_is_explained_by_the_contact_that_follows():
    times = _times(1.0, 60.0)
    left = np.maximum(0.5 - times, 0.0)
    height = 3.5 * left - 0.5 * G * left**2  # a flight that comes down at 3.5 m/s, and stops
    assert height.min() == 0.0
    clip = _figure(times, 60.0, (0, 0, height))
    points, touches = dynamics.touching_points(clip, FLOOR)
    bare = np.hypot(*dynamics.residuals(clip, dynamics.needed_wrench(clip), points, touches))
    assert bare.max() > 0.5
    scores = motion.score(clip)
    assert scores["residual"] < 0.3 * bare.mean()


def test_friction_ends_at_the_cone():
    times = _times(0.5, 60.0)

    def left(push):
        clip = _figure(times, 60.0)
        needed = dynamics.Wrench(
            np.tile([push * 70 * G, 0.0, 70 * G], (31, 1)), np.zeros((31, 3)), np.zeros((31, 3))
        )
        points = np.zeros((31, 1, 3))
        force, torque = dynamics.residuals(clip, needed, points, np.ones((31, 1), bool))
        assert torque.max() < 1e-9
        return force.max()

    assert left(0.99) < 1e-9
    # from (2, 1) the nearest point of the cone's edge (1, 1) is (1.5, 1.5)
    assert left(2.0) == pytest.approx(np.hypot(0.5, 0.5))
    assert left(-2.0) == pytest.approx(np.hypot(0.5, 0.5))


def test_the_ground_does_not_pull():
    times = _times(0.5, 60.0)
    down = _figure(times, 60.0, (0, 0, -0.5 * 2.5 * G * times**2))
    needed = dynamics.needed_wrench(down)
    assert needed.force[:, 2] == pytest.approx(-1.5 * 70 * G)
    points, touches = dynamics.touching_points(down, FLOOR)
    force, _ = dynamics.residuals(down, needed, points, touches)
    assert force == pytest.approx(1.5)


def test_contacts_count_as_long_as_an_acceleration_reaches():
    flags = np.zeros((12, 1), bool)
    flags[6] = True
    assert np.flatnonzero(dynamics.widened(flags, 60.0)).tolist() == list(range(2, 11))
    assert dynamics.widened(flags[6:8], 60.0).all()


@pytest.mark.parametrize("degrees", [6.0, 12.0])
def test_leaning_over_the_toes_by_hand(degrees):
    times, theta = _times(0.3, 60.0), np.radians(degrees)
    toe = np.array([TOES, 0.0, 0.02])  # center of the ball that it rolls over
    pelvis = motion.humanoid().rest_positions[0]
    turn = np.array(
        [[np.cos(theta), 0, np.sin(theta)], [0, 1, 0], [-np.sin(theta), 0, np.cos(theta)]]
    )
    shift = toe + turn @ (pelvis - toe) - pelvis
    clip = _figure(times, 60.0, tuple(shift), _about(1, np.full(len(times), theta)))
    arm = _com(_figure(times, 60.0)) - toe
    com = TOES + np.cos(theta) * arm[0] + np.sin(theta) * arm[2]
    scores = motion.score(clip)
    # the heels are up by 0.21 m times the sine, more than 2 cm; balls and toes carry
    ball = TOES - np.cos(theta) * (TOES - 0.11)
    outside = max(ball - com, com - TOES)
    assert outside > 0.005
    assert scores["com_margin"] == pytest.approx(-outside)
    assert scores["com_distance"] == pytest.approx(outside)
    assert scores["com_inside_fraction"] == 0.0
    assert 0.7 * outside / 1.7 < scores["residual"] < outside / 1.7


def test_a_seat_carries_whom_the_floor_does_not():
    clip = _figure(_times(0.3, 60.0), 60.0, (0, 0, 1.0))
    under = 1.0 + 0.93 - 0.09
    seat = {"seat": {"box": [[-0.3, -0.3, 1.0], [0.3, 0.3, under]]}}
    scores = motion.score(clip, scene=seat)
    assert scores["com_inside_fraction"] == 1.0
    assert scores["residual"] < 1e-9
    assert motion.score(clip)["residual"] == pytest.approx(1.0)


def test_distances_to_polygons_by_hand():
    square = balance.hull(np.array([[0, 0], [2, 0], [1, 1], [2, 2], [0, 2], [1, 0], [0, 0]]))
    assert square.tolist() == [[0, 0], [2, 0], [2, 2], [0, 2]]
    assert balance.margin(np.array([1.0, 1.5]), square) == pytest.approx(0.5)
    assert balance.margin(np.array([1.0, 2.5]), square) == pytest.approx(-0.5)
    assert balance.margin(np.array([5.0, 6.0]), square) == pytest.approx(-5.0)
    line = balance.hull(np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.0]]))
    assert balance.margin(np.array([0.5, 0.3]), line) == pytest.approx(-0.3)
    assert balance.margin(np.array([4.0, 4.0]), line) == pytest.approx(-5.0)
    point = balance.hull(np.array([[1.0, 1.0], [1.0, 1.0]]))
    assert balance.margin(np.array([4.0, 5.0]), point) == pytest.approx(-5.0)
    nothing = balance.margins(np.zeros((2, 2)), np.zeros((2, 3, 3)), np.zeros((2, 3), bool))
    assert np.isnan(nothing).all()
