"""Which joint of a rig is which of our bodies: by the names of common conventions, or as told."""

import re
from collections.abc import Mapping

from foveal.errors import ArgumentError
from foveal.motion.retarget.rig import Rig

_LIMBS = ("clavicle", "upper_arm", "forearm", "hand", "thigh", "shin", "foot", "toes")
_MIDDLE = ("pelvis", "neck", "head")
NEEDED = (
    "pelvis",
    *(
        f"{side}_{part}"
        for part in ("thigh", "shin", "foot", "upper_arm", "forearm")
        for side in ("left", "right")
    ),
)
"""Bodies that a rig must have a joint for."""
BODIES = (
    *_MIDDLE, "spine", "chest",
    *(f"{side}_{part}" for part in _LIMBS for side in ("left", "right")),
)  # fmt: skip
"""Bodies that a joint can follow."""

# limbs in the order of _LIMBS, then pelvis, neck, head, and the trunk from below (a number follows)
_CONVENTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "ours": (
        tuple(part.replace("_", "") for part in _LIMBS), _MIDDLE, ("spine", "chest"),
    ),
    "Mixamo": (
        ("shoulder", "arm", "forearm", "hand", "upleg", "leg", "foot", "toebase"),
        ("hips", "neck", "head"),
        ("spine",),
    ),
    "CMU": (
        ("shoulder", "arm", "forearm", "hand", "upleg", "leg", "foot", "toebase"),
        ("hips", "neck", "head"),
        ("lowerback", "spine"),
    ),
    "SMPL": (
        ("collar", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot"),
        ("pelvis", "neck", "head"),
        ("spine",),
    ),
    "Unreal": (
        ("clavicle", "upperarm", "lowerarm", "hand", "thigh", "calf", "foot", "ball"),
        ("pelvis", "neck", "head"),
        ("spine",),
    ),
    "3ds Max biped": (
        ("clavicle", "upperarm", "forearm", "hand", "thigh", "calf", "foot", "toe0"),
        ("pelvis", "neck", "head"),
        ("spine",),
    ),
    "Poser": (
        ("collar", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "toe"),
        ("hips", "neck", "head"),
        ("spine", "chest"),
    ),
    "Poser, older": (
        ("collar", "shldr", "forearm", "hand", "thigh", "shin", "foot", "toe"),
        ("hip", "neck", "head"),
        ("abdomen", "chest"),
    ),
    "Rigify": (
        ("shoulder", "upperarm", "forearm", "hand", "thigh", "shin", "foot", "toe"),
        ("hips", "neck", "head"),
        ("spine", "chest"),
    ),
    "VRM": (
        ("shoulder", "upperarm", "lowerarm", "hand", "upperleg", "lowerleg", "foot", "toes"),
        ("hips", "neck", "head"),
        ("spine", "chest", "upperchest"),
    ),
}  # fmt: skip
CONVENTIONS = tuple(_CONVENTIONS)


_PREFIX = r"^(mixamorig\d*|bip\d+|[mf]_avg|j_bip_c|j_bip|c(?=[ _.-]))[ _:.-]*"


def _plain(name: str) -> str:
    """Lower case, without namespaces, common prefixes and separators."""
    name = re.sub(_PREFIX, "", name.lower())
    return re.sub(r"[ _.:-]", "", name.rsplit(":", 1)[-1])


def _sides(name: str) -> list[tuple[str, str]]:
    """Readings of a name as (side, part): left and right as words or letters at either end."""
    low = re.sub(_PREFIX, "", name.lower())
    low = low.rsplit(":", 1)[-1]
    out: list[tuple[str, str]] = []
    for side in ("left", "right"):
        short = side[0]
        patterns = (
            rf"^{side}[ _.-]*(.+)$",
            rf"^(.+?)[ _.-]*{side}$",
            rf"^{short}[ _.-](.+)$",
            rf"^(.+?)[ _.-]{short}$",
        )
        for pattern in patterns:
            if match := re.match(pattern, low):
                out.append((side, re.sub(r"[ _.-]", "", match.group(1))))
        # lShldr, LThigh: a letter in front of a word that begins with a capital
        bare = name.rsplit(":", 1)[-1]
        if re.match(rf"^[{short}{short.upper()}][A-Z]", bare):
            out.append((side, re.sub(r"[ _.-]", "", bare[1:].lower())))
    return out


def _chain(rig: Rig, joints: list[int]) -> list[int]:
    """Joints from the one nearest to the root on."""
    depth = dict.fromkeys(joints, 0)
    for i in joints:
        at = i
        while at > 0:
            at = rig.parents[at]
            depth[i] += 1
    return sorted(joints, key=lambda i: (depth[i], i))


def _shared_prefix(names: tuple[str, ...]) -> int:
    """Length of what all names begin with, up to a separator."""
    low, high = min(names), max(names)
    same = next((k for k, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return max(low[:same].rfind(letter) for letter in " _:.-") + 1


def _match(rig: Rig, convention: str) -> dict[str, list[int]]:
    """Joints of each body by one convention; several for the trunk and the neck."""
    limbs, middle, trunk = _CONVENTIONS[convention]
    found: dict[str, list[int]] = {}
    cut = _shared_prefix(rig.names)
    for i, name in enumerate(name[cut:] for name in rig.names):
        plain = _plain(name)
        for side, part in _sides(name):
            if part in limbs:
                found.setdefault(f"{side}_{_LIMBS[limbs.index(part)]}", []).append(i)
        stem = re.sub(r"\d+$", "", plain)
        if plain in (middle[0], middle[2]):
            found.setdefault(_MIDDLE[middle.index(plain)], []).append(i)
        elif stem == middle[1]:
            found.setdefault("neck", []).append(i)
        elif stem in trunk:
            found.setdefault("trunk", []).append(i)
    for body, joints in found.items():
        ordered = _chain(rig, joints)
        found[body] = ordered if body in ("trunk", "neck") else ordered[:1]
    return found


def guess(rig: Rig) -> dict[str, list[int]]:
    """Find the joints of our bodies by the convention that most needed ones fit.

    Returns: Lists of joints; "trunk" holds those between pelvis and neck from below, "neck" all of
    the neck, others one.
    """
    best: dict[str, list[int]] = {}
    score = (-1, -1, -1)
    for convention in _CONVENTIONS:
        found = _match(rig, convention)
        needed = sum(body in found for body in NEEDED)
        new = (needed, len(found), sum(map(len, found.values())))
        if new > score:
            best, score = found, new
    return best


def find_joints(rig: Rig, mapping: Mapping[str, str] | None) -> dict[str, list[int]]:
    """Return the joints of our bodies: those that `mapping` names, and the guess for the rest.

    Args:
        rig: The rig.
        mapping: Names of its joints to names of our bodies.

    Raises:
        ArgumentError: the mapping names a joint or body that is not there, or a needed body has no
            joint; names them.
    """
    found = guess(rig)
    told: dict[str, list[int]] = {}
    for joint, body in (mapping or {}).items():
        if joint not in rig.names:
            raise ArgumentError(
                f"retarget: mapping has {joint!r}, must be among {', '.join(rig.names)}; "
                "names are of the rig's joints to our bodies"
            )
        if body not in BODIES:
            raise ArgumentError(
                f"retarget: mapping has {joint!r} as {body!r}, must be one of "
                f"{', '.join(BODIES)}; names are of the rig's joints to our bodies"
            )
        told.setdefault(body, []).append(rig.names.index(joint))
    taken = {i for joints in told.values() for i in joints}
    found = {body: [i for i in joints if i not in taken] for body, joints in found.items()}
    if "spine" in told or "chest" in told:
        found.pop("trunk", None)
    found |= {body: _chain(rig, joints) for body, joints in told.items()}
    missing = [body for body in NEEDED if not found.get(body)]
    if missing:
        raise ArgumentError(
            f"retarget: the rig's joints are {', '.join(rig.names)}, must have one for each of "
            f"{', '.join(missing)}; pass mapping={{'its joint': {missing[0]!r}}}"
        )
    return {body: joints for body, joints in found.items() if joints}
