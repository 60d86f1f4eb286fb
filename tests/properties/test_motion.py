"""Properties of rotations, in-fill and keyframe checks, for any input that hypothesis finds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.director.commands import MAX_DT, MIN_DT, FootTarget, Keyframe, validate
from foveal.motion.inbetween import METHODS, fill, resolve
from foveal.motion.skeleton import humanoid

unit = st.floats(-1.0, 1.0, width=32)
quaternions = (
    st.tuples(unit, unit, unit, unit)
    .filter(lambda q: sum(v * v for v in q) > 0.05)
    .map(lambda q: rot.normalize(np.array(q)))
)
vectors = st.tuples(*[st.floats(-10, 10, width=32)] * 3).map(np.array)
orders = st.sampled_from(["xyz", "xzy", "yxz", "yzx", "zxy", "zyx"])


@given(quaternions, quaternions, vectors)
def test_rotating_twice_is_rotating_by_the_product_and_keeps_lengths(a, b, v):
    twice = rot.rotate(a, rot.rotate(b, v))
    assert np.allclose(rot.rotate(rot.multiply(a, b), v), twice, atol=1e-9)
    assert math.isclose(np.linalg.norm(twice), np.linalg.norm(v), abs_tol=1e-9)
    assert np.allclose(rot.rotate(rot.conjugate(a), rot.rotate(a, v)), v, atol=1e-9)


@given(quaternions, orders)
def test_matrix_and_euler_give_the_rotation_back(q, order):
    matrix = rot.to_matrix(q)
    again = rot.from_matrix(matrix)
    assert abs(abs(np.dot(again, q)) - 1.0) < 1e-9
    angles = rot.euler_from_matrix(matrix, order)
    built = np.array([1.0, 0.0, 0.0, 0.0])
    for letter, angle in zip(order, angles, strict=True):
        built = rot.multiply(built, rot.from_axis_angle(np.eye(3)["xyz".index(letter)], angle))
    # Within 1e-9 of a pole the last angle is dropped: an error of at most about sqrt(2e-9).
    assert np.abs(rot.to_matrix(built) - matrix).max() < 1e-4


@given(quaternions, quaternions, st.floats(0, 1))
def test_slerp_is_unit_symmetric_and_divides_the_arc(a, b, t):
    q = rot.slerp(a, b, t)
    assert math.isclose(np.linalg.norm(q), 1.0, abs_tol=1e-9)
    other = rot.slerp(b, a, 1.0 - t)
    whole = abs(float(np.dot(a, b)))
    if whole > 1e-6:  # half a turn apart both arcs are shortest
        assert abs(abs(float(np.dot(q, other))) - 1.0) < 1e-9
    part = abs(float(np.dot(a, q)))
    wanted = math.cos(t * math.acos(min(1.0, whole)))
    assert abs(part - wanted) < 1e-6


@st.composite
def keyframes(draw):
    skeleton = humanoid()
    out = []
    for i in range(draw(st.integers(1, 5))):
        chosen = draw(st.lists(st.sampled_from(skeleton.hinges), unique=True, max_size=6))
        angles = {h.name: draw(st.floats(h.lower, h.upper)) for h in chosen}
        feet = draw(
            st.dictionaries(
                st.sampled_from(["left", "right"]),
                st.builds(
                    FootTarget,
                    st.tuples(st.floats(-0.3, 0.3), st.floats(-0.1, 0.1), st.floats(0, 0.3)),
                    st.floats(-0.5, 0.5),
                    st.floats(-0.5, 0.5),
                ),
            )
        )
        pelvis = tuple(draw(st.floats(-0.2, 0.2)) for _ in range(3))
        dt = draw(st.floats(MIN_DT, 1.5)) if i else 0.0
        turn = draw(st.floats(-1.0, 1.0))
        out.append(Keyframe(dt, angles=angles, pelvis=pelvis, turn=turn, feet=feet))
    return out


@settings(deadline=None)
@given(keyframes(), st.sampled_from(METHODS), st.integers(5, 60))
def test_in_fill_is_finite_within_limits_and_meets_its_ends(keys, method, fps):
    skeleton = humanoid()
    poses = resolve(keys, skeleton)
    frames = fill(poses, skeleton, fps=fps, method=method)
    low, high = skeleton.limits.T
    assert np.isfinite(frames.root_positions).all()
    assert (frames.angles >= low - 1e-9).all()
    assert (frames.angles <= high + 1e-9).all()
    assert np.allclose(np.linalg.norm(frames.root_rotations, axis=-1), 1.0, atol=1e-9)
    assert np.allclose(frames.root_positions[0], poses.root_positions[0], atol=1e-9)
    # No overshoot: monotone slopes keep every frame between its neighbouring keyframes.
    inside = (poses.root_positions.min(0) - 1e-6, poses.root_positions.max(0) + 1e-6)
    if method == "linear":
        assert (frames.root_positions >= inside[0]).all()
        assert (frames.root_positions <= inside[1]).all()


@given(keyframes())
def test_valid_keyframes_pass_and_print_plainly(keys):
    validate(keys, humanoid())
    for key in keys:
        assert key.to_dict()["angles"] == dict(key.angles)


@given(
    keyframes().filter(lambda keys: len(keys) > 1),
    st.sampled_from(["dt", "nan", "limit", "hinge", "contact", "side"]),
    st.one_of(st.floats(max_value=MIN_DT - 1e-6), st.floats(min_value=MAX_DT + 1e-6)),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)
def test_one_bad_field_is_refused_by_name(keys, kind, dt, bad):
    last = keys[-1]
    changed = {
        "dt": ({"dt": dt}, r"\.dt is"),
        "nan": ({"turn": bad}, "not finite"),
        "limit": ({"angles": {"left_knee_flexion": 9.0}}, "left_knee_flexion"),
        "hinge": ({"angles": {"left_tail": 0.0}}, "left_tail"),
        "contact": ({"contacts": frozenset({"nose"})}, "nose"),
        "side": ({"feet": {"middle": FootTarget()}}, "middle"),
    }
    fields, message = changed[kind]
    base = {"dt": last.dt, "angles": last.angles, "feet": last.feet, "turn": last.turn}
    with pytest.raises(ArgumentError, match=message):
        validate([*keys[:-1], Keyframe(**(base | fields))], humanoid())
