"""The figure's measures by hand: proportions, masses, symmetry, hinges, limits, hands."""

import numpy as np
import pytest

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.posecodes.points import find_point
from foveal.motion.skeleton import SIDES, Shape, centers_of, humanoid

BODY = humanoid()
LIMBS = (
    "clavicle", "upper_arm", "forearm", "hand", "fingers", "thigh", "shin", "foot", "toes",
)  # fmt: skip


def twin(name):
    """The name of the same body or hinge on the other side."""
    side, _, rest = name.partition("_")
    return {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)


def pose(body=BODY, **degrees):
    """World positions (bodies, 3) and rotations (bodies, 4) of one pose."""
    angles = np.zeros((1, len(body.hinges)))
    for name, value in degrees.items():
        angles[0, body.hinge(name)] = np.radians(value)
    local = body.local_rotations(np.array([[1.0, 0, 0, 0]]), angles)
    positions, world = body.forward(body.offsets[:1], local)
    return positions[0], world[0]


def place(name, body=BODY, **degrees):
    """Where a point is, m."""
    positions, world = pose(body, **degrees)
    i, local = find_point(body, name)
    return positions[i] + rot.rotate(world[i], local)


def test_bodies_are_named_in_plain_words_and_parents_come_first():
    assert BODY.num_bodies == 23
    sided = {f"{side}_{name}" for side in SIDES for name in LIMBS}
    assert set(BODY.names) == {"pelvis", "spine", "chest", "neck", "head"} | sided
    assert BODY.parents[0] == -1
    assert all(0 <= parent < i for i, parent in enumerate(BODY.parents) if i)
    above = {
        "spine": "pelvis", "chest": "spine", "neck": "chest", "head": "neck",
        "left_clavicle": "chest", "left_upper_arm": "left_clavicle",
        "right_fingers": "right_hand", "right_toes": "right_foot", "left_thigh": "pelvis",
    }  # fmt: skip
    for name, parent in above.items():
        assert BODY.names[BODY.parents[BODY.body(name)]] == parent


def test_hinges_are_three_at_hips_and_shoulders_and_one_at_knees_elbows_and_toes():
    counts = {name: sum(h.body == BODY.body(name) for h in BODY.hinges) for name in BODY.names}
    assert counts["spine"] == counts["chest"] == counts["neck"] == 3
    for side in SIDES:
        of = {name: counts[f"{side}_{name}"] for name in LIMBS}
        assert of == {
            "clavicle": 2, "upper_arm": 3, "forearm": 1, "hand": 3, "fingers": 0, "thigh": 3,
            "shin": 1, "foot": 2, "toes": 1,
        }  # fmt: skip
    assert sum(counts.values()) == len(BODY.hinges) == 42


@pytest.mark.parametrize(("height", "mass"), [(1.7, 70.0), (0.5, 10.0), (2.5, 250.0), (1.83, 91.3)])
def test_height_mass_and_centre_of_mass(height, mass):
    body = humanoid(height=height, mass=mass)
    assert body.masses.sum() == pytest.approx(mass, rel=1e-14)
    positions, world = pose(body)
    top = max(float((positions[s.body] + s.corners)[:, 2].max()) + s.radius for s in body.shapes)
    assert top == pytest.approx(height, rel=1e-9)
    for side in SIDES:
        soles = body.sole_points(positions[None], world[None], side)[0]
        assert soles.shape == (6, 3)
        np.testing.assert_allclose(soles[:, 2], 0.0, atol=1e-12)
    center = body.center_of_mass(positions[None], world[None])[0]
    # men who stand: 0.56 to 0.57 of the stature
    assert 0.55 < center[2] / height < 0.57
    heel, toe = soles[:, 0].min(), soles[:, 0].max()
    assert heel < center[0] < toe
    assert center[1] == pytest.approx(0.0, abs=1e-12)


def test_masses_and_lengths_are_the_published_shares():
    share = dict(zip(BODY.names, 100 * BODY.masses / BODY.mass, strict=True))
    grouped = {  # de Leva 1996, men
        "head and neck": (["head", "neck"], 6.94),
        "trunk": (["pelvis", "spine", "chest", "left_clavicle", "right_clavicle"], 43.46),
        "lower trunk": (["pelvis"], 11.17),
        "middle trunk": (["spine"], 16.33),
        "upper trunk": (["chest", "left_clavicle", "right_clavicle"], 15.96),
        "upper arm": (["left_upper_arm"], 2.71),
        "forearm": (["left_forearm"], 1.62),
        "hand": (["left_hand", "left_fingers"], 0.61),
        "thigh": (["left_thigh"], 14.16),
        "shank": (["left_shin"], 4.33),
        "foot": (["left_foot", "left_toes"], 1.37),
    }
    for name, (parts, wanted) in grouped.items():
        assert sum(share[part] for part in parts) == pytest.approx(wanted, rel=1e-3), name
    lengths = {  # of a stature of 1.741 m
        "left_forearm": 0.2817, "left_hand": 0.2689, "left_shin": 0.4222, "left_foot": 0.4403,
    }  # fmt: skip
    for name, wanted in lengths.items():
        own = np.linalg.norm(BODY.offsets[BODY.body(name)]) / 1.7
        assert own == pytest.approx(wanted / 1.741, abs=1e-3), name
    tip = place("left fingertips") - pose()[0][BODY.body("left_hand")]
    assert np.linalg.norm(tip) / 1.7 == pytest.approx(0.1879 / 1.741, abs=1e-3)


def test_segments_are_as_dense_and_as_balanced_as_flesh():
    volumes = np.zeros(BODY.num_bodies)
    for shape in BODY.shapes:
        volumes[shape.body] += shape.volume
    density = dict(zip(BODY.names, BODY.masses / volumes, strict=True))
    assert all(450 < value < 1350 for value in density.values()), density
    # centre of mass from the upper joint, as a share of the length
    for name, child, wanted in (
        ("left_thigh", "left_shin", 0.4095), ("left_shin", "left_foot", 0.4395),
        ("left_forearm", "left_hand", 0.4574),
    ):  # fmt: skip
        length = np.linalg.norm(BODY.offsets[BODY.body(child)])
        down = np.linalg.norm(BODY.centers[BODY.body(name)])
        assert down / length == pytest.approx(wanted, abs=0.03), name


@pytest.mark.parametrize("hand_shape", ["open", "fist", "point", "grip"])
def test_the_right_side_is_the_mirror_of_the_left(hand_shape):
    body = humanoid(hand_shape=hand_shape)
    flip = np.array([1.0, -1.0, 1.0])
    for i, name in enumerate(body.names):
        own = [s for s in body.shapes if s.body == i]
        j = body.body(twin(name))
        other = [s for s in body.shapes if s.body == j]
        np.testing.assert_allclose(body.offsets[j], flip * body.offsets[i], atol=1e-12)
        np.testing.assert_allclose(body.centers[j], flip * body.centers[i], atol=1e-12)
        assert abs(body.masses[j] - body.masses[i]) < 1e-12
        if name.startswith("left_"):
            for a, b in zip(own, other, strict=True):
                assert (a.kind, a.radius) == (b.kind, b.radius)
                np.testing.assert_allclose(b.start, flip * np.array(a.start), atol=1e-12)
                half = np.array(a.end) if a.kind == "box" else flip * np.array(a.end)
                np.testing.assert_allclose(b.end, half, atol=1e-12)
    for hinge in body.hinges:
        if hinge.name.startswith("left_"):
            other = body.hinges[body.hinge(twin(hinge.name))]
            np.testing.assert_allclose(other.axis, -flip * np.array(hinge.axis), atol=1e-12)
            assert (hinge.lower, hinge.upper) == (other.lower, other.upper)
            assert (hinge.stiffness, hinge.torque_limit) == (other.stiffness, other.torque_limit)


def test_equal_angles_on_both_sides_make_a_mirrored_pose():
    rng = np.random.default_rng(1)
    half = {
        h.name.removeprefix("left_"): np.degrees(rng.uniform(h.lower, h.upper))
        for h in BODY.hinges
        if h.name.startswith("left_")
    }
    positions, _ = pose(
        **{f"{side}_{name}": value for side in SIDES for name, value in half.items()}
    )
    for i, name in enumerate(BODY.names):
        j = BODY.body(twin(name))
        np.testing.assert_allclose(positions[j], positions[i] * [1, -1, 1], atol=1e-12)


def test_it_stands_with_its_arms_at_its_sides_facing_x():
    for side, sign in (("left", 1), ("right", -1)):
        shoulder, wrist, tip = (place(f"{side} {n}") for n in ("shoulder", "wrist", "fingertips"))
        np.testing.assert_allclose(wrist[:2], shoulder[:2], atol=1e-12)
        assert tip[2] < wrist[2] < shoulder[2]
        assert sign * shoulder[1] > 0.15
        assert place(f"{side} toes")[0] > place(f"{side} heel")[0] + 0.15
        assert sign * place(f"{side} knee")[1] > 0
    assert place("mouth")[0] > place("head")[0]
    assert place("crown")[2] == pytest.approx(1.7)


@pytest.mark.parametrize(
    ("hinge", "point", "direction"),
    [
        ("spine_bend", "head", "+x"), ("spine_lean", "head", "+y"), ("chest_bend", "head", "+x"),
        ("chest_lean", "head", "+y"), ("neck_bend", "crown", "+x"), ("neck_lean", "crown", "+y"),
        ("chest_turn", "right shoulder", "+x"), ("spine_turn", "right shoulder", "+x"),
        ("neck_turn", "mouth", "+y"), ("head_bend", "crown", "+x"),
        ("left_clavicle_elevation", "left shoulder", "+z"),
        ("left_clavicle_protraction", "left shoulder", "+x"),
        ("left_shoulder_flexion", "left hand", "+x"),
        ("left_shoulder_abduction", "left hand", "+y"),
        ("left_elbow_flexion", "left hand", "+x"),
        ("left_wrist_flexion", "left fingertips", "-y"),  # to the palm, which faces the thigh
        ("left_wrist_deviation", "left fingertips", "+x"),  # to the thumb, which is in front
        ("left_hip_flexion", "left foot", "+x"), ("left_hip_abduction", "left foot", "+y"),
        ("left_hip_rotation", "left toes", "+y"), ("left_knee_flexion", "left foot", "-x"),
        ("left_ankle_flexion", "left toes", "+z"),
        ("left_toes_extension", "left toes", "+z"),
    ],
)  # fmt: skip
def test_a_positive_angle_moves_the_way_that_its_name_says(hinge, point, direction):
    moved = place(point, **{hinge: 10.0}) - place(point)
    axis = "xyz".index(direction[1])
    gone = moved[axis] if direction[0] == "+" else -moved[axis]
    assert gone > 0.8 * np.linalg.norm(moved) > 0.003
    if hinge.startswith("left_"):
        sign = -1.0 if direction[1] == "y" else 1.0
        other = point.replace("left ", "right ")
        theirs = (place(other, **{twin(hinge): 10.0}) - place(other))[axis]
        assert sign * theirs == pytest.approx(moved[axis])


def test_palms_and_soles_turn_the_way_that_the_names_say():
    def normal(part, axis, **degrees):
        return rot.rotate(pose(**degrees)[1][BODY.body(part)], np.array(axis, float))

    palm = (0, -1, 0)
    np.testing.assert_allclose(normal("left_hand", palm), palm)
    assert normal("left_hand", palm, left_wrist_rotation=80)[0] > 0.95  # outward: palm forward
    assert normal("left_hand", palm, left_wrist_rotation=-80)[0] < -0.95
    sole = normal("left_foot", (0, 0, -1), left_ankle_inversion=30)
    assert sole[1] == pytest.approx(-0.5)  # the sole looks at the other foot
    forearm = pose(left_wrist_rotation=80)[1][BODY.body("left_forearm")]
    np.testing.assert_allclose(forearm, [1, 0, 0, 0], atol=1e-12)


def test_limits_are_the_published_ranges():
    wanted = {
        "left_shoulder_flexion": (-60, 180), "right_shoulder_abduction": (-45, 180),
        "left_shoulder_rotation": (-70, 90), "left_elbow_flexion": (0, 150),
        "right_wrist_flexion": (-75, 76), "right_wrist_deviation": (-36, 22),
        "left_hip_flexion": (-30, 130), "left_hip_abduction": (-30, 45),
        "right_hip_rotation": (-45, 45), "left_knee_flexion": (0, 150),
        "left_ankle_flexion": (-56, 40), "left_ankle_inversion": (-21, 37),
        "left_toes_extension": (-45, 70), "left_clavicle_elevation": (-10, 45),
    }  # fmt: skip
    for name, ends in wanted.items():
        np.testing.assert_allclose(np.degrees(BODY.limits[BODY.hinge(name)]), ends)
    low, high = BODY.limits.T
    assert (low <= 0).all()
    assert (high > 0).all()
    trunk = {kind: np.degrees(
        sum(BODY.limits[BODY.hinge(f"{part}_{kind}")][1] for part in ("spine", "chest"))
    ) for kind in ("bend", "lean", "turn")}  # fmt: skip
    # flexion 80, lateral flexion 35 and rotation 45 are the averages that must be within reach
    assert trunk["bend"] >= 80
    assert trunk["lean"] >= 35
    assert trunk["turn"] >= 45


def test_hands_are_held_as_asked():
    def reach(hand_shape):
        body = humanoid(hand_shape=hand_shape)
        own = [s for s in body.shapes if s.body == body.body("left_fingers")]
        ends = [float(s.corners[:, 2].min()) - s.radius for s in own]
        inward = min(float(s.corners[:, 1].min()) for s in own)
        index = max(own, key=lambda s: s.center[0])
        return -min(ends), -inward, -float(index.corners[:, 2].min()), body.masses

    shapes = {name: reach(name) for name in ("open", "fist", "point", "grip")}
    assert shapes["open"][0] == pytest.approx(0.0975)
    assert shapes["fist"][0] < 0.03 < shapes["grip"][0] < 0.06
    assert shapes["open"][1] == 0.0
    assert shapes["fist"][1] > 0.03
    assert shapes["point"][2] > 0.08
    assert shapes["fist"][2] < 0.02
    for _, _, _, masses in shapes.values():
        np.testing.assert_array_equal(masses, BODY.masses)
    thumb = [s for s in BODY.shapes if s.body == BODY.body("left_hand") and s.kind == "capsule"]
    assert len(thumb) == 1
    assert thumb[0].center[0] > 0.04  # in front of the palm


def test_size_scales_lengths_and_strength():
    big = humanoid(height=2.04, mass=140.0)
    np.testing.assert_allclose(big.offsets, 1.2 * BODY.offsets)
    np.testing.assert_allclose(big.masses, 2.0 * BODY.masses)
    for a, b in zip(BODY.hinges, big.hinges, strict=True):
        assert b.torque_limit == pytest.approx(2.4 * a.torque_limit)
        assert b.stiffness == pytest.approx(2.4 * a.stiffness)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("height", 0.49, r"height is 0.49, must be in \[0.5, 2.5\]; use SI units"),
        ("height", 2.51, r"height is 2.51, must be in"),
        ("height", float("nan"), "height is nan, must be in"),
        ("mass", 9.9, r"mass is 9.9, must be in \[10.0, 250.0\]; use SI units"),
        ("mass", 251.0, "mass is 251.0, must be in"),
    ],
)
def test_sizes_out_of_range_are_refused(name, value, words):
    with pytest.raises(ArgumentError, match=words):
        humanoid(**{name: value})


def test_a_hand_that_there_is_not_is_refused():
    with pytest.raises(ArgumentError, match=r"is 'claw', must be one of .*'grip'.*; pick one"):
        humanoid(hand_shape="claw")


def test_shapes_have_the_volumes_and_centres_of_their_solids():
    ball = Shape(0, "capsule", (0, 0, 1), (0, 0, 1), 0.5)
    assert ball.volume == pytest.approx(4 / 3 * np.pi * 0.125)
    rod = Shape(0, "capsule", (0, 0, 0), (0, 0, 2), 0.5)
    assert rod.volume == pytest.approx(np.pi * 0.25 * 2 + 4 / 3 * np.pi * 0.125)
    half = 0.5**0.5
    box = Shape(1, "box", (1, 0, 0), (0.1, 0.2, 0.3), turn=(half, 0, 0, half))
    assert box.volume == pytest.approx(0.2 * 0.4 * 0.6)
    # a quarter turn about z: x is now 0.2 and y 0.1 wide
    np.testing.assert_allclose(box.corners.max(axis=0), (1.2, 0.1, 0.3))
    np.testing.assert_allclose(box.corners.min(axis=0), (0.8, -0.1, -0.3))
    centers = centers_of([ball, rod, box], 3)
    np.testing.assert_allclose(centers[0], (0, 0, 1.0))
    np.testing.assert_allclose(centers[1:], [(1, 0, 0), (0, 0, 0)])
