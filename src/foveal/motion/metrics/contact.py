"""Contacts: sliding, floating, sinking in, and planned against actual ones."""

from collections.abc import Mapping

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion.clip import Clip
from foveal.motion.metrics.ground import TOUCH, clearance, depth, part_points, skin
from foveal.motion.posecodes.points import Surface, read_scene
from foveal.motion.rotations import Array
from foveal.motion.skeleton import SIDES

SLIDE = 0.2
"""A planted foot slides above this speed, m/s, on a figure of 1.7 m."""
RESTING = 0.5
"""What passes over a surface faster than this does not rest on it, m/s, on a figure of 1.7 m."""

Plan = Mapping[str, Array]


def _scale(clip: Clip) -> float:
    return clip.skeleton.height / 1.7


def planted_speeds(clip: Clip) -> Array:
    """Horizontal speed (n,), m/s, of each planted foot from each frame to the next.

    A foot counts between two frames that are both planned contacts; its speed is that of the
    slowest sole point, so that rolling over the toes is not sliding.
    """
    speeds: list[Array] = []
    for column, side in enumerate(SIDES):
        points = clip.skeleton.sole_points(clip.positions, clip.world_rotations, side)[..., :2]
        planted = clip.contacts[1:, column] & clip.contacts[:-1, column]
        speed = np.linalg.norm(np.diff(points, axis=0), axis=-1).min(axis=1) * clip.fps
        speeds.append(speed[planted])
    return np.concatenate(speeds)


def foot_skate(clip: Clip) -> float:
    """Mean horizontal speed of planted feet (`planted_speeds`), m/s; 0 if none is ever planted."""
    speeds = planted_speeds(clip)
    return float(speeds.mean()) if len(speeds) else 0.0


def skate_fraction(clip: Clip) -> float | None:
    """Share in [0, 1] of `planted_speeds` above 0.2 m/s; None if no foot is ever planted."""
    speeds = planted_speeds(clip)
    return float((speeds > SLIDE * _scale(clip)).mean()) if len(speeds) else None


def penetrations(clip: Clip, scene: Mapping[str, Surface] | None = None) -> Array:
    """Depth of the deepest point of the skin in the floor or a box (frames,), m; 0 if none is."""
    return depth(skin(clip), scene or read_scene({})).max(axis=1)


def ground_penetration(clip: Clip, scene: Mapping[str, Surface] | None = None) -> float:
    """Largest depth of a solid's surface or sole below the floor or in a box of the scene, m."""
    return float(penetrations(clip, scene).max())


def plan_of(clip: Clip, contacts: Plan | Array | None) -> dict[str, Array]:
    """Return a contact plan as part to flags (frames,); default the clip's own, of the feet.

    Raises:
        ArgumentError: the flags have the wrong shape.
    """
    if contacts is None:
        contacts = clip.contacts
    if not isinstance(contacts, Mapping):
        columns = np.asarray(contacts)
        if columns.shape != (clip.num_frames, 2):
            raise ArgumentError(
                f"score: contacts has shape {columns.shape}, must be ({clip.num_frames}, 2) for "
                "the left and the right foot; or give a flag a frame by part"
            )
        contacts = {f"{side} foot": columns[:, i] for i, side in enumerate(SIDES)}
    out: dict[str, Array] = {}
    for part, flags in contacts.items():
        row = np.asarray(flags)
        if row.shape != (clip.num_frames,):
            raise ArgumentError(
                f"score: contacts[{part!r}] has shape {row.shape}, must be ({clip.num_frames},); "
                "give a flag a frame"
            )
        out[part.replace("_", " ")] = row.astype(bool)
    return out


def heights(clip: Clip, part: str, scene: Mapping[str, Surface]) -> Array:
    """Height of the lowest point of a part over what is under it (frames,), m."""
    return clearance(part_points(clip, scene, part), scene, _scale(clip)).min(axis=1)


def touching(clip: Clip, part: str, scene: Mapping[str, Surface]) -> Array:
    """Whether a part rests on a surface (frames,).

    It does where its lowest point is at most 2 cm over the surface and its slowest point moves at
    most 0.5 m/s, from the frame before or to the next one, whichever is slower; both at 1.7 m.
    """
    points = part_points(clip, scene, part)
    near = heights(clip, part, scene) <= TOUCH * _scale(clip)
    if clip.num_frames == 1:
        return near
    speed = np.linalg.norm(np.diff(points, axis=0), axis=-1).min(axis=1) * clip.fps
    slower = np.minimum(np.append(speed, np.inf), np.append(np.inf, speed))
    return near & (slower <= RESTING * _scale(clip))


def floats(clip: Clip, plan: Plan, scene: Mapping[str, Surface]) -> Array:
    """Heights over the ground (n,), m, of parts in the frames in which they should touch it."""
    rows = [np.maximum(heights(clip, part, scene), 0.0)[plan[part]] for part in plan]
    return np.concatenate(rows) if rows else np.zeros(0)


def contact_accuracy(
    clip: Clip, plan: Plan, scene: Mapping[str, Surface]
) -> dict[str, dict[str, float | None]]:
    """Compare planned with actual contacts (`touching`), frame by frame.

    Returns: For each part `accuracy` (share of frames in which plan and motion agree), `precision`
    (share of the frames of touching that were planned; None if it never touches), `recall` (share
    of the planned frames in which it touches; None if nothing is planned).
    """
    out: dict[str, dict[str, float | None]] = {}
    for part, wanted in plan.items():
        found = touching(clip, part, scene)
        both = int((found & wanted).sum())
        out[part] = {
            "accuracy": float((found == wanted).mean()),
            "precision": both / int(found.sum()) if found.any() else None,
            "recall": both / int(wanted.sum()) if wanted.any() else None,
        }
    return out
