"""Retargeting: itself, scaled copies, other rests, other names, twist, feet that stay."""

from dataclasses import replace

import numpy as np
import pytest

from foveal import motion
from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.retarget import Rig, RigMotion, mixamo_rig, read_bvh, retarget
from foveal.motion.retarget.names import BODIES, CONVENTIONS, find_joints
from foveal.motion.retarget.rig import POSITIONS, ROTATIONS

Y_UP = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])  # of ahead, left, up
Z_UP = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # facing -y
SIDES = (("left", 1.0), ("right", -1.0))

# limbs (clavicle ... toes) as they are called on a side, then pelvis, trunk, neck, head
_NAMES = {
    "Mixamo": ("mixamorig:{Side}", "Shoulder Arm ForeArm Hand UpLeg Leg Foot ToeBase",
               ["mixamorig:Hips", "mixamorig:Spine", "mixamorig:Spine1", "mixamorig:Spine2",
                "mixamorig:Neck", "mixamorig:Head"]),
    "CMU": ("{Side}", "Shoulder Arm ForeArm Hand UpLeg Leg Foot ToeBase",
            ["Hips", "LowerBack", "Spine", "Spine1", "Neck", "Neck1", "Head"]),
    "SMPL": ("{side}_", "collar shoulder elbow wrist hip knee ankle foot",
             ["pelvis", "spine1", "spine2", "spine3", "neck", "head"]),
    "Unreal": ("*_{s}", "clavicle upperarm lowerarm hand thigh calf foot ball",
               ["pelvis", "spine_01", "spine_02", "spine_03", "neck_01", "head"]),
    "3ds Max biped": ("Bip01 {S} ", "Clavicle UpperArm Forearm Hand Thigh Calf Foot Toe0",
                      ["Bip01 Pelvis", "Bip01 Spine", "Bip01 Spine1", "Bip01 Neck", "Bip01 Head"]),
    "Poser": ("{Side}", "Collar Shoulder Elbow Wrist Hip Knee Ankle Toe",
              ["Hips", "Chest", "Chest2", "Neck", "Head"]),
    "Poser, older": ("{s}", "Collar Shldr ForeArm Hand Thigh Shin Foot Toe",
                     ["hip", "abdomen", "chest", "neck", "head"]),
    "Rigify": ("*.{S}", "shoulder upper_arm forearm hand thigh shin foot toe",
               ["hips", "spine", "chest", "neck", "head"]),
    "VRM": ("J_Bip_{S}_", "Shoulder UpperArm LowerArm Hand UpperLeg LowerLeg Foot Toes",
            ["J_Bip_C_Hips", "J_Bip_C_Spine", "J_Bip_C_Chest", "J_Bip_C_UpperChest",
             "J_Bip_C_Neck", "J_Bip_C_Head"]),
    "ours": ("{side}_", "clavicle upper_arm forearm hand thigh shin foot toes",
             ["pelvis", "spine", "chest", "neck", "head"]),
}  # fmt: skip


def _name(pattern, part, side):
    s = pattern.format(Side=side.title(), side=side, s=side[0], S=side[0].upper())
    return s.replace("*", part) if "*" in s else s + part


def make_rig(
    convention="Mixamo", *, axes=Y_UP, scale=100.0, unit=0.01, droop=0.0, thigh=0.45, shin=0.4,
    lift=True, root=None, splay=0.0,
):  # fmt: skip
    """A figure with ankles 0.1 m high; arms droop and legs spread by an angle."""
    pattern, limbs, middle = _NAMES[convention]
    parts = limbs.split()
    hips = 0.1 + shin + thigh
    names, parents, places = [], [], []

    def add(name, parent, *place):
        names.append(name)
        parents.append(names.index(parent) if parent else -1)
        places.append(place)

    if root:
        add(root, "", -0.3, 0.1, 0.0)
    trunk = len(middle)
    for i, name in enumerate(middle):
        above = middle[i - 1] if i else (root or "")
        add(name, above, 0.02 * (i % 2), 0.0, hips + 0.05 + 0.55 * i / (trunk - 1))
    chest = [n for n in middle if not any(w in n.lower() for w in ("neck", "head"))][-1]
    ends = []
    for side, sign in SIDES:
        own = [_name(pattern, part, side) for part in parts]
        at = np.array([0.0, 0.03 * sign, hips + 0.5])
        steps = [(0, 0.15 * sign, 0)]
        steps += [(0, k * sign * np.cos(droop), -k * np.sin(droop)) for k in (0.3, 0.24)]
        add(own[0], chest, *at)
        for name, above, step in zip(own[1:4], own[:3], steps, strict=True):
            at = at + step
            add(name, above, *at)
        ends.append((own[3], at + 0.6 * np.array(steps[1])))
        at = np.array([0.0, 0.11 * sign, hips])
        down = np.array([0, sign * np.sin(splay), -np.cos(splay)])
        add(own[4], middle[0], *at)
        for name, above, step in (
            (own[5], own[4], thigh * down), (own[6], own[5], shin * down),
            (own[7], own[6], (0.13, 0.0, -0.07)),
        ):  # fmt: skip
            at = at + step
            add(name, above, *at)
        ends.append((own[7], at + np.array([0.07, 0, -0.03])))
    ends.append((middle[-1], np.array([0, 0, hips + 0.8])))
    low = np.array([0, 0, 0.0 if lift else -places[0][2]])
    positions = scale * (np.array(places, float) + low) @ axes.T
    return Rig(
        tuple(names), tuple(parents), positions,
        tuple(ROTATIONS if i else (*POSITIONS, *ROTATIONS) for i in range(len(names))),
        tuple((names.index(n), scale * axes @ (e + low)) for n, e in ends), unit=unit,
    )  # fmt: skip


def still(rig):
    turns = np.tile([1.0, 0, 0, 0], (1, rig.num_joints, 1))
    return RigMotion(rig, 30.0, rig.positions[:1], turns)


def directions(places, pairs):
    gaps = np.stack([places[:, b] - places[:, a] for a, b in pairs], axis=1)
    return gaps / np.linalg.norm(gaps, axis=-1, keepdims=True)


def degrees_between(a, b):
    return np.degrees(np.arccos(np.clip((a * b).sum(axis=-1), -1, 1)))


LIMB_PAIRS = [
    (f"{side}_{a}", f"{side}_{b}")
    for side, _ in SIDES
    for a, b in (("upper_arm", "forearm"), ("forearm", "hand"), ("thigh", "shin"),
                 ("shin", "foot"))
]  # fmt: skip


@pytest.fixture(scope="module")
def clip():
    return motion.generate("kick and wave left", track="kinematic", fps=20)


@pytest.fixture(scope="module")
def walk():
    """A step, the pelvis lowered and turned on the way; feet are planted in turns."""
    return motion.generate("step left and squat", track="kinematic", fps=20)


def test_retargeting_to_its_own_bvh_is_the_identity(clip, tmp_path):
    clip.save(tmp_path / "own.bvh")
    own = read_bvh(tmp_path / "own.bvh")
    moved = retarget(clip, tmp_path / "own.bvh")
    np.testing.assert_allclose(moved.positions, own.positions, atol=1e-4)  # cm; six decimals
    turned = degrees_between(moved.turns, own.turns) % 180
    assert np.minimum(turned, 180 - turned).max() < 1e-3
    assert moved.fps == 20
    np.testing.assert_array_equal(moved.contacts, clip.contacts)
    assert moved.title == clip.title


def test_mixamos_joints_are_where_ours_are_and_so_in_its_bvh(clip, tmp_path):
    moved = retarget(clip, "mixamo")
    names = moved.rig.names
    assert len(names) == 25
    assert all(name.startswith("mixamorig:") for name in names)
    pairs = {"Hips": "pelvis", "Spine2": "chest", "Head": "head", "LeftShoulder": "left_clavicle",
             "LeftForeArm": "left_forearm", "RightHand": "right_hand", "LeftLeg": "left_shin",
             "RightToeBase": "right_toes"}  # fmt: skip
    for theirs, ours in pairs.items():
        wanted = 100 * clip.positions[:, clip.skeleton.body(ours)] @ Y_UP.T
        found = moved.positions[:, names.index(f"mixamorig:{theirs}")]
        np.testing.assert_allclose(found, wanted, atol=1e-9, err_msg=theirs)
    again = read_bvh(moved.save(tmp_path / "mixamo.bvh"))
    assert again.rig.names == names
    assert again.rig.unit == 0.01
    np.testing.assert_allclose(again.positions, moved.positions, atol=1e-4)


def test_mixamos_axes_lie_along_its_bones():
    rig = mixamo_rig(motion.humanoid())
    assert rig.axes is not None
    matrices = rot.to_matrix(rig.axes)
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        chains = (("Shoulder", None), ("Arm", "ForeArm"), ("ForeArm", "Hand"), ("UpLeg", "Leg"),
                  ("Leg", "Foot"), ("Foot", "ToeBase"), ("ToeBase", "Toe_End"))  # fmt: skip
        for name, following in chains:
            i = rig.names.index(f"mixamorig:{side}{name}")
            x, y, z = matrices[i].T
            if following:
                gap = rig.positions[rig.names.index(f"mixamorig:{side}{following}")]
                gap = gap - rig.positions[i]
                assert gap @ y == pytest.approx(np.linalg.norm(gap)), name
            if "Leg" in name:
                np.testing.assert_allclose(x, (-1, 0, 0), atol=1e-12)  # to the right
                np.testing.assert_allclose(z, (0, 0, 1), atol=1e-12)
            if "Arm" in name or name == "Shoulder":
                np.testing.assert_allclose(y, (sign, 0, 0), atol=1e-12)
                np.testing.assert_allclose(z, (0, -1, 0), atol=1e-12)  # down
    feet = [i for i, name in enumerate(rig.names) if "Toe" in name]
    assert rig.positions[feet, 1].min() > 0
    assert rig.positions[0] == pytest.approx((0, 93, 0))


@pytest.mark.parametrize("factor", [0.6, 1.37])
def test_a_scaled_copy_has_the_same_angles_and_its_feet_on_the_floor(walk, factor):
    rig = mixamo_rig(walk.skeleton)
    ends = tuple((i, factor * at) for i, at in rig.ends)
    large = replace(rig, positions=factor * rig.positions, ends=ends)
    a, b = retarget(walk, rig), retarget(walk, large)
    np.testing.assert_allclose(np.abs((a.turns * b.turns).sum(axis=-1)), 1.0, atol=1e-9)
    np.testing.assert_allclose(b.roots, factor * a.roots, atol=1e-9)
    toes = rig.names.index("mixamorig:LeftToe_End")
    assert b.positions[:, toes, 1].min() == pytest.approx(2 * factor, abs=0.2)  # 2 cm over the sole


@pytest.mark.parametrize("droop", [0.0, 0.7], ids=["T-pose", "A-pose"])
@pytest.mark.parametrize("convention", list(_NAMES))
def test_bones_point_where_ours_do_whatever_the_names_axes_and_rest(
    clip, convention, droop, tmp_path
):
    axes, scale, unit = {
        "Unreal": (Z_UP, 100.0, 0.01), "SMPL": (Y_UP, 1.0, 1.0),
        "3ds Max biped": (Z_UP, 39.37, 0.0254),
    }.get(convention, (Y_UP, 100.0, 0.01))  # fmt: skip
    rig = make_rig(convention, axes=axes, scale=scale, unit=unit, droop=droop, splay=0.5 * droop)
    path = still(rig).save(tmp_path / "rig.bvh")
    moved = retarget(clip, path, keep_feet=False)
    assert sorted(moved.rig.names) == sorted(rig.names)  # a file is depth first
    assert moved.rig.unit == unit
    joints = find_joints(moved.rig, None)
    pairs = [(joints[a][0], joints[b][0]) for a, b in LIMB_PAIRS]
    ours = [(clip.skeleton.body(a), clip.skeleton.body(b)) for a, b in LIMB_PAIRS]
    wanted = directions(clip.positions, ours) @ axes.T
    found = directions(moved.positions, pairs)
    assert degrees_between(found, wanted).max() < 1.0
    # pelvis and head turn as ours do
    for body in ("pelvis", "head"):
        theirs = moved.turns[:, joints[body][0]]
        want = clip.world_rotations[:, clip.skeleton.body(body)]
        want = np.concatenate([want[:, :1], want[:, 1:] @ axes.T], axis=1)
        np.testing.assert_allclose(np.abs((theirs * want).sum(axis=-1)), 1.0, atol=1e-9)


def test_every_convention_that_is_promised_is_tested():
    assert set(_NAMES) == set(CONVENTIONS)


@pytest.mark.parametrize("convention", list(_NAMES))
def test_names_are_found(convention):
    rig = make_rig(convention)
    pattern, limbs, middle = _NAMES[convention]
    found = find_joints(rig, None)
    bodies = ("clavicle", "upper_arm", "forearm", "hand", "thigh", "shin", "foot", "toes")
    for side, _ in SIDES:
        for part, body in zip(limbs.split(), bodies, strict=True):
            assert [rig.names[i] for i in found[f"{side}_{body}"]] == [_name(pattern, part, side)]
    assert [rig.names[i] for i in found["pelvis"]] == middle[:1]
    necks = [name for name in middle if "neck" in name.lower()]
    assert [rig.names[i] for i in found["neck"]] == necks
    assert [rig.names[i] for i in found["trunk"]] == middle[1 : -1 - len(necks)]
    assert [rig.names[i] for i in found["head"]] == middle[-1:]


def test_a_prefix_that_all_names_share_is_left_out():
    rig = make_rig("CMU")
    long = replace(rig, names=tuple(f"Character1_{name}" for name in rig.names))
    assert find_joints(long, None) == find_joints(rig, None)


def test_twist_about_a_bone_comes_along(clip):
    """Forearms turned by the wrist alone: the hand's own x of Mixamo's BVH is its bone."""
    body = clip.skeleton
    angles = np.zeros((3, len(body.hinges)))
    angles[:, body.hinge("left_wrist_rotation")] = np.radians([0, 30, -50])
    count = {"root_positions": np.tile([0, 0, 0.93], (3, 1)), "contacts": np.ones((3, 2), bool)}
    turned = replace(clip, angles=angles, root_rotations=np.tile([1.0, 0, 0, 0], (3, 1)), **count)
    moved = retarget(turned, "mixamo")
    hand = moved.local()[:, moved.rig.names.index("mixamorig:LeftHand")]
    twist = np.degrees(2 * np.arctan2(hand[:, 1], hand[:, 0]))
    # rotation is outward about the hanging arm's z, which is -x of the arm that is held out
    np.testing.assert_allclose(twist, [0, -30, 50], atol=1e-9)
    np.testing.assert_allclose(hand[:, 2:], 0, atol=1e-12)
    own = moved.local(own_axes=True)[:, moved.rig.names.index("mixamorig:LeftHand")]
    np.testing.assert_allclose(np.degrees(2 * np.arctan2(own[:, 2], own[:, 0])), [0, -30, 50])


def test_the_trunk_shares_its_turn_over_the_joints(clip):
    body = clip.skeleton
    angles = np.zeros((1, len(body.hinges)))
    angles[:, body.hinge("chest_turn")] = np.radians(30)
    root = {"root_positions": np.array([[0, 0, 0.93]]), "contacts": np.ones((1, 2), bool)}
    one = replace(clip, angles=angles, root_rotations=np.array([[1.0, 0, 0, 0]]), **root)
    moved = retarget(one, make_rig("CMU"))
    turned = {name: np.degrees(2 * np.arctan2(q[2], q[0]))
              for name, q in zip(moved.rig.names, moved.turns[0], strict=True)}  # fmt: skip
    assert turned["Hips"] == pytest.approx(0, abs=1e-9)
    assert [turned[n] for n in ("LowerBack", "Spine", "Spine1")] == pytest.approx([0, 15, 30])
    assert [turned[n] for n in ("Neck", "Neck1", "Head", "LeftHand")] == pytest.approx([30] * 4)


def _slide(motion_, joints, side, column):
    """Fastest that a planted ankle goes, in legs a second."""
    places = motion_.positions[:, joints[f"{side}_foot"][0]]
    planted = motion_.contacts[1:, column] & motion_.contacts[:-1, column]
    speed = np.linalg.norm(np.diff(places, axis=0), axis=1) * motion_.fps
    return float(speed[planted].max())


@pytest.mark.parametrize(("thigh", "shin"), [(0.36, 0.49), (0.6, 0.52), (0.3, 0.25)])
def test_planted_feet_stay_on_rigs_of_other_legs(walk, thigh, shin):
    rig = make_rig("CMU", thigh=thigh, shin=shin)
    joints = find_joints(rig, None)
    free, kept = retarget(walk, rig, keep_feet=False), retarget(walk, rig)
    body = walk.skeleton
    length = sum(abs(body.offsets[body.body(f"left_{part}"), 2]) for part in ("shin", "foot"))
    scale = 100 * (thigh + shin) / length
    for column, (side, _) in enumerate(SIDES):
        own = walk.positions[:, body.body(f"{side}_foot")]
        planted = walk.contacts[1:, column] & walk.contacts[:-1, column]
        most = np.linalg.norm(np.diff(own, axis=0), axis=1)[planted].max() * 20 * scale
        assert _slide(kept, joints, side, column) < most + 0.2  # cm/s
        # where it is planted it stands as high over the sole as at rest, if ours does
        flat = walk.contacts[:, column] & (np.abs(own[:, 2] - 0.066) < 1e-4)
        heights = kept.positions[flat, joints[f"{side}_foot"][0], 1]
        assert flat.sum() > 10
        np.testing.assert_allclose(heights, 10.0, atol=0.1)
        # bones keep their lengths
        chain = [joints[f"{side}_{part}"][0] for part in ("thigh", "shin", "foot")]
        for a, b, size in zip(chain, chain[1:], (thigh, shin), strict=False):
            gap = np.linalg.norm(kept.positions[:, b] - kept.positions[:, a], axis=1)
            np.testing.assert_allclose(gap, 100 * size, atol=1e-9)
        # feet themselves turn as before
        foot = joints[f"{side}_foot"][0]
        np.testing.assert_allclose(kept.turns[:, foot], free.turns[:, foot], atol=1e-12)
    if thigh < shin:  # of other shares, so that angles alone do not do
        worst = max(_slide(free, joints, s, c) for c, (s, _) in enumerate(SIDES))
        assert worst > 5 * max(_slide(kept, joints, s, c) for c, (s, _) in enumerate(SIDES))


def test_knees_keep_bending_forwards(walk):
    rig = make_rig("CMU", thigh=0.36, shin=0.49)
    joints = find_joints(rig, None)
    kept = retarget(walk, rig)
    for side, _ in SIDES:
        h, k, a = (kept.positions[:, joints[f"{side}_{part}"][0]]
                   for part in ("thigh", "shin", "foot"))  # fmt: skip
        line = (a - h) / np.linalg.norm(a - h, axis=1, keepdims=True)
        off = (k - h) - ((k - h) * line).sum(axis=1, keepdims=True) * line
        face = rot.rotate(kept.turns[:, joints["pelvis"][0]], np.array([0.0, 0, 1]))
        bent = np.linalg.norm(off, axis=1) > 3
        assert bent.sum() > 5
        assert ((off * face).sum(axis=1)[bent] > 0).all()
        steps = np.abs((kept.turns[1:] * kept.turns[:-1]).sum(axis=-1))
        assert np.degrees(2 * np.arccos(np.clip(steps, 0, 1))).max() < 45


def test_a_root_under_the_pelvis_carries_it(clip):
    plain = make_rig("Unreal")
    rooted = make_rig("Unreal", root="root")
    a, b = retarget(clip, plain), retarget(clip, rooted)
    for name in ("pelvis", "hand_l", "foot_r"):
        np.testing.assert_allclose(
            b.positions[:, rooted.names.index(name)], a.positions[:, plain.names.index(name)],
            atol=1e-9,
        )  # fmt: skip
    np.testing.assert_allclose(b.turns[:, 0], np.tile([1.0, 0, 0, 0], (clip.num_frames, 1)))


def test_joints_that_follow_nothing_keep_their_rest(clip):
    rig = make_rig("Unreal")
    arm = rig.names.index("upperarm_l")
    more = replace(
        rig, names=(*rig.names, "upperarm_twist_01_l", "tail"), parents=(*rig.parents, arm, 0),
        positions=np.concatenate([rig.positions, rig.positions[[arm]] + [[5, 0, 0]],
                                  rig.positions[:1] - [[0, 0, 9]]]),
        channels=(*rig.channels, ROTATIONS, ROTATIONS),
    )  # fmt: skip
    moved = retarget(clip, more)
    np.testing.assert_array_equal(moved.turns[:, -2], moved.turns[:, arm])
    np.testing.assert_array_equal(moved.turns[:, -1], moved.turns[:, 0])


def test_a_file_that_hangs_at_its_origin_stands_on_the_floor_all_the_same(clip, tmp_path):
    """Most files have no height at rest: the lowest end is then as near to the sole as ours."""
    path = still(make_rig("CMU", lift=False)).save(tmp_path / "rig.bvh")
    moved = retarget(clip, path)
    ends = {moved.rig.names[i]: at - moved.rig.positions[i] for i, at in moved.rig.ends}
    i = moved.rig.names.index("LeftToeBase")
    tip = moved.positions[:, i] + rot.rotate(moved.turns[:, i], ends["LeftToeBase"])
    assert tip[0, 1] == pytest.approx(2.0, abs=0.1)


def test_a_rest_that_is_no_stand_is_named_and_a_frame_of_the_file_helps(clip, tmp_path):
    """The same figure whose zero pose lies on its back; its second frame stands."""
    rig = make_rig("CMU")
    lying = rot.from_axis_angle([1.0, 0, 0], np.array(-np.pi / 2))
    back = replace(
        rig, positions=rot.rotate(lying, rig.positions),
        ends=tuple((i, rot.rotate(lying, at)) for i, at in rig.ends),
    )  # fmt: skip
    # lying along z is standing with z up: turn one leg instead, so that nothing stands
    hip = back.names.index("LeftUpLeg")
    bad = back.positions.copy()
    for i in back.below(hip):
        bad[i] = bad[hip] + rot.rotate(
            rot.from_axis_angle([1.0, 0, 0], np.array(1.6)), bad[i] - bad[hip]
        )
    ends = tuple(
        (i, bad[i] + rot.rotate(rot.from_axis_angle([1.0, 0, 0], np.array(1.6)), at
                                - back.positions[i]) if i in back.below(hip) else at)
        for i, at in back.ends
    )  # fmt: skip
    odd = replace(back, positions=bad, ends=ends)
    turns = np.tile([1.0, 0, 0, 0], (2, rig.num_joints, 1))
    upright = rot.conjugate(lying)
    turns[1] = upright
    turns[1, list(back.below(hip))] = rot.multiply(
        upright, rot.from_axis_angle([1.0, 0, 0], np.array(-1.6))
    )
    file = RigMotion(odd, 30.0, np.tile(rig.positions[0], (2, 1)), turns).save(tmp_path / "o.bvh")
    with pytest.raises(ArgumentError, match="at rest is no figure that stands along the axes, mus"):
        retarget(clip, file)
    moved, plain = retarget(clip, file, rest_frame=1), retarget(clip, rig)
    order = [moved.rig.names.index(name) for name in rig.names]
    gap = moved.positions[:, order] - plain.positions
    np.testing.assert_allclose(gap - gap[0, 0], 0, atol=1e-3)
    assert np.abs(gap[0, 0]).max() < 5
    with pytest.raises(ArgumentError, match=r"rest_at: frame is 2, must be in \[0, 1\]; pick one"):
        retarget(clip, file, rest_frame=2)


def test_names_that_say_nothing_are_told_and_what_lacks_is_named(clip):
    rig = make_rig("CMU")
    blank = replace(rig, names=tuple(f"bone{i:02}" for i in range(rig.num_joints)))
    with pytest.raises(ArgumentError) as info:
        retarget(clip, blank)
    assert "must have one for each of pelvis, left_thigh, right_thigh, left_shin" in str(info.value)
    assert "right_forearm; pass mapping={'its joint': 'pelvis'}" in str(info.value)
    known = find_joints(rig, None)
    told = {blank.names[joints[0]]: body for body, joints in known.items() if body in BODIES}
    moved = retarget(clip, blank, mapping=told)
    plain = retarget(clip, rig)
    arm = rig.names.index("RightForeArm")
    np.testing.assert_allclose(
        np.abs((moved.turns[:, arm] * plain.turns[:, arm]).sum(axis=-1)), 1.0, atol=1e-9
    )
    half = {name: body for name, body in told.items() if "shin" not in body}
    with pytest.raises(ArgumentError, match="must have one for each of left_shin, right_shin; pas"):
        retarget(clip, blank, mapping=half)
    with pytest.raises(ArgumentError, match="mapping has 'knee', must be among bone00, bone01"):
        retarget(clip, blank, mapping={"knee": "left_shin"})
    with pytest.raises(ArgumentError, match="mapping has 'bone00' as 'hips', must be one of pelvi"):
        retarget(clip, blank, mapping={"bone00": "hips"})


def test_told_names_go_before_guessed_ones(clip):
    rig = make_rig("Mixamo")
    crossed = {"mixamorig:LeftArm": "right_upper_arm", "mixamorig:RightArm": "left_upper_arm"}
    found = find_joints(rig, crossed)
    assert [rig.names[i] for i in found["left_upper_arm"]] == ["mixamorig:RightArm"]
    assert [rig.names[i] for i in found["left_forearm"]] == ["mixamorig:LeftForeArm"]
    spine = find_joints(rig, {"mixamorig:Spine": "spine", "mixamorig:Spine2": "chest"})
    assert "trunk" not in spine
    assert [rig.names[i] for i in spine["chest"]] == ["mixamorig:Spine2"]


def test_targets_that_are_none_are_named(clip, tmp_path):
    with pytest.raises(ArgumentError, match="to is 'unity', must be 'mixamo', a Rig or the path"):
        retarget(clip, "unity")
    with pytest.raises(ArgumentError, match=r"none.bvh', must be a BVH file .*; check the path"):
        retarget(clip, tmp_path / "none.bvh")
    rig = make_rig("CMU")
    with pytest.raises(ArgumentError, match="rest_frame is 0, must be None for a rig; use RigMoti"):
        retarget(clip, rig, rest_frame=0)
    fixed = replace(rig, channels=(ROTATIONS, *rig.channels[1:]))
    with pytest.raises(ArgumentError, match="the root 'Hips' has the channels .*must have .'Xposi"):
        retarget(clip, fixed)
    odd = replace(
        clip.skeleton, names=tuple(n.replace("shin", "crus") for n in clip.skeleton.names)
    )
    with pytest.raises(ArgumentError, match="figure has no left_shin, right_shin, must have them"):
        retarget(replace(clip, skeleton=odd), rig)
    bare = replace(
        clip.skeleton, names=tuple(n.replace("toes", "tip") for n in clip.skeleton.names)
    )
    with pytest.raises(ArgumentError, match="mixamo_rig: skeleton has no left_toes, right_toes"):
        retarget(replace(clip, skeleton=bare), "mixamo")
    with pytest.raises(ArgumentError, match=r"RigMotion.save: path is 'a.fbx', must end in one of"):
        retarget(clip, rig).save("a.fbx")
    with pytest.raises(
        ArgumentError, match=r"RigMotion: turns has shape \(1, 3, 4\), must be \(1,"
    ):
        RigMotion(rig, 30.0, np.zeros((1, 3)), np.zeros((1, 3, 4)))


def test_figures_that_lack_what_is_not_needed_are_moved(clip):
    body = clip.skeleton
    gone = ("toes", "fingers", "clavicle", "spine", "chest", "neck", "head", "hand")
    names = tuple(f"my {n}" if any(word in n for word in gone) else n for n in body.names)
    rig = make_rig("CMU")
    moved = retarget(replace(clip, skeleton=replace(body, names=names)), rig, keep_feet=False)
    full = retarget(clip, rig, keep_feet=False)
    for name in ("Hips", "LeftArm", "LeftForeArm", "RightLeg", "RightFoot"):
        i = rig.names.index(name)
        np.testing.assert_allclose(moved.turns[:, i], full.turns[:, i], atol=1e-12)
    i = rig.names.index("Spine1")
    np.testing.assert_allclose(moved.turns[:, i], moved.turns[:, 0], atol=1e-12)
