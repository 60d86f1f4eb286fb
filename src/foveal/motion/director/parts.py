"""The parts of a figure: what is described, timed and adjusted as one."""

from functools import lru_cache

from foveal.motion.skeleton import SIDES, Skeleton

PARTS = ("head", "trunk", "pelvis", "left_arm", "right_arm", "left_leg", "right_leg")
"""Parts that are described, timed and adjusted: an arm includes its hand, a leg its foot."""


@lru_cache(maxsize=8)
def part_of_bodies(skeleton: Skeleton) -> tuple[str, ...]:
    """Return the part of every body, by its place in the tree and its side."""
    spine: list[int] = []
    body = skeleton.body("head")
    while body >= 0:
        spine.insert(0, body)
        body = skeleton.parents[body]
    out: list[str] = []
    for i, name in enumerate(skeleton.names):
        side, _, rest = name.partition("_")
        if i == 0:
            out.append("pelvis")
        elif side in SIDES and rest:
            parent = out[skeleton.parents[i]]
            limb = "leg" if rest == "thigh" or parent.endswith("_leg") else "arm"
            out.append(f"{side}_{limb}")
        elif name in ("neck", "head") or out[skeleton.parents[i]] == "head":
            out.append("head")
        else:
            out.append("trunk")
    return tuple(out)


def hinges_of(skeleton: Skeleton, *parts: str) -> list[int]:
    """Return the indices of the hinges of some parts."""
    where = part_of_bodies(skeleton)
    return [i for i, hinge in enumerate(skeleton.hinges) if where[hinge.body] in parts]
