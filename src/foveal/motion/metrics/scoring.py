"""`score`: every measure of a clip that can be made with what is given."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from foveal.errors import ArgumentError, MissingExtraError
from foveal.motion.clip import Clip
from foveal.motion.metrics import balance, contact, dynamics, smoothness, tracking
from foveal.motion.metrics.ground import check_finite
from foveal.motion.posecodes import Fact, check, evaluate, parse
from foveal.motion.posecodes.points import Surface, read_scene
from foveal.motion.predicates import check_predicates
from foveal.motion.rotations import Array
from foveal.motion.skeleton import Side

Score = dict[
    str,
    float | int | str | dict[str, bool] | dict[str, dict[str, float | None]] | list[str] | None,
]


def score(
    clip: Clip,
    *,
    reference: Clip | None = None,
    action: str | None = None,
    facts: Sequence[str | Fact] | None = None,
    side: Side | None = None,
    scene: Mapping[str, object] | None = None,
    neutral: Clip | None = None,
    keys: Clip | None = None,
    contacts: Mapping[str, Array] | Array | None = None,
    keyframe_times: Sequence[float] | Array | None = None,
    cyclic: bool = False,
    forces: bool | None = None,
) -> Score:
    """Measure a clip.

    Shares are in [0, 1]. What cannot be told of this clip is None: no contact to slide in, too few
    frames. Thresholds in m and m/s are for a figure of 1.7 m and scale with its height. No measure
    depends on where in the world a motion is and which way it faces (without a scene), or, for
    smooth motions, on how many frames a second it has.

    Args:
        clip: The clip.
        reference: What it should follow. Default `clip.reference`.
        action: An action of the fact list (`posecodes.find_action`) that the clip shows.
        facts: Facts that should hold, as sentences or parsed; not together with `action`.
        side: Of `action`: "left" or "right", None for the one that fits better.
        scene: Surfaces by name, as `posecodes.check` takes them. None is the floor at height 0.
        neutral: The clip that "neutral" stands for in `action` or `facts`.
        keys: Key poses, one a frame, with their times in `keyframe_times`: for facts that name
            them, and to measure when the clip shows them.
        contacts: What should touch: flags (frames,) by part ("left foot", "right_hand", "pelvis"),
            or (frames, 2) for the feet. Default `clip.contacts`.
        keyframe_times: Wished times of the keyframes, s. Default those of `keys`.
        cyclic: Whether the last frame should continue with the first.
        forces: Whether to measure what needs them. None: if MuJoCo and SciPy are installed.

    Returns: Always
        `status`: of the clip. "tracked" says only that the figure did not fall.
        `seconds`: length.
        `foot_skate`: mean horizontal speed of planted feet, m/s, 0 if none is ever planted;
            `skate_fraction`: share of planted feet and frames that slide faster than 0.2 m/s. A
            foot is planted between two frames that `clip.contacts` claims, and as fast as its
            slowest sole point.
        `ground_penetration`, `penetration_mean`: largest and mean depth (0 where there is none) of
            the skin in the floor or a box of the scene, m.
        `contact_float`, `contact_float_max`: mean and largest height over the ground of parts
            while `contacts` claims that they touch it, m.
        `contact_accuracy`: mean over parts of the share of frames in which `contacts` and motion
            agree; `contacts`: for each part `accuracy`, `precision` and `recall`. A part touches
            if it is at most 2 cm over a surface and slower than 0.5 m/s.
        `jerk`, `jerk_p95`: mean and 95th percentile over bodies and frames of the third derivative
            of body origins, m/s^3, smoothed over 0.12 s (at least five frames).
        `limit_violation`, `limit_excess_degrees`: largest excess of a hinge over its limits, in
            rad and in degrees; `limit_fraction`: share of frames with more than 0.1 degrees.
        `com_distance`: mean distance of the plumb of the centre of mass to the support polygon, m,
            0 inside; `com_margin`: signed distance where it is worst, positive inside;
            `com_inside_fraction`. Over frames in which something touches.
        `residual`, `residual_p95`: mean and 95th percentile of the root wrench that no contact
            explains: the length of (force over weight, torque about the centre of mass over weight
            times height); `residual_force`, `residual_torque`: means of both parts. A still figure
            in the air has 1, standing or falling freely 0. Contacts push at what touches in 0.06 s
            (at least two frames) around, with friction 1.
        `zmp_distance`, `zmp_margin`, `zmp_inside_fraction`: as for the centre of mass, of the zero
            moment point, over frames with at least a quarter of the weight on the ground.
        `tracking_error`: mean distance of body origins to the reference's, m.
        `predicates`: a truth for each asked action that the library knows; `predicate_failures`:
            how many are false; `unchecked_actions`: names that the library does not know.
    With a reference
        `tracking_fell`, `tracking_local_error` (seen from the root, m), `tracking_jerk_ratio`,
        `tracking_lag` (s, positive if late), `tracking_success`; see `metrics.tracking`.
    With `action` or `facts`
        `facts`: each as a sentence with its truth; `predicate_pass_rate`: share that hold.
    With `keyframe_times` or `keys` that have times
        `timing_error`, `timing_error_max`: mean and largest distance in time, s; with `keys` from
        when the clip comes nearest to each, else from `clip.keyframe_times`.
    With `cyclic`
        `loop_pose_gap` (m), `loop_angle_gap_degrees`, `loop_velocity_gap` (m/s): largest difference
        over bodies between the last frame and the first, travel and turn removed.

    Raises:
        ArgumentError: a clip has numbers that are not finite, `action` and `facts` are both given,
            an argument has no effect, shapes do not fit, or a name is unknown.
        MissingExtraError: `forces=True` without MuJoCo or SciPy.
    """
    from foveal.motion.director.library import ACTIONS

    reference = clip.reference if reference is None else reference
    given = {"clip": clip, "reference": reference, "neutral": neutral, "keys": keys}
    for name, one in given.items():
        if one is not None:
            check_finite(name, one)
    _check_effects(action, facts, side, neutral)
    surfaces = read_scene(scene or {})
    predicates = check_predicates(clip)
    out: Score = {"status": clip.status, "seconds": clip.seconds}
    out |= _contact(clip, contacts, surfaces) | _smoothness(clip)
    out |= _forces(clip, surfaces, forces)
    out["tracking_error"] = None
    if reference is not None:
        out |= _tracking(clip, reference)
    out |= {
        "predicates": predicates,
        "predicate_failures": sum(not passed for passed in predicates.values()),
        "unchecked_actions": [name for name, _ in clip.actions if name not in ACTIONS],
    }
    if action is not None or facts is not None:
        out |= _facts(clip, action, facts, side, scene, neutral, keys)
    timed = keys is not None and len(keys.keyframe_times) == keys.num_frames
    if keyframe_times is not None or timed:
        late = np.abs(tracking.keyframe_delays(clip, keyframe_times, keys))
        out |= {"timing_error": float(late.mean()), "timing_error_max": float(late.max())}
    if cyclic:
        out |= _loop(clip)
    return out


def _check_effects(
    action: str | None, facts: Sequence[str | Fact] | None, side: str | None, neutral: Clip | None
) -> None:
    if action is not None and facts is not None:
        raise ArgumentError(
            f"score: action is {action!r} with facts, must be one of both; score the clip twice"
        )
    if isinstance(facts, str) or (facts is not None and len(facts) == 0):
        raise ArgumentError(
            f"score: facts is {facts!r}, must be a list of at least one; leave it out for none"
        )
    if side is not None and action is None:
        raise ArgumentError(
            f"score: side is {side!r} without action, must be None; name the action"
        )
    if neutral is not None and action is None and facts is None:
        raise ArgumentError(
            "score: neutral is a clip without action or facts, must be None; name the action"
        )


def _contact(
    clip: Clip, contacts: Mapping[str, Array] | Array | None, surfaces: Mapping[str, Surface]
) -> Score:
    plan = contact.plan_of(clip, contacts)
    deep = contact.penetrations(clip, surfaces)
    high = contact.floats(clip, plan, surfaces)
    parts = contact.contact_accuracy(clip, plan, surfaces)
    agreed = [row["accuracy"] for row in parts.values() if row["accuracy"] is not None]
    return {
        "foot_skate": contact.foot_skate(clip),
        "skate_fraction": contact.skate_fraction(clip),
        "ground_penetration": float(deep.max()),
        "penetration_mean": float(deep.mean()),
        "contact_float": float(high.mean()) if len(high) else None,
        "contact_float_max": float(high.max()) if len(high) else None,
        "contact_accuracy": float(np.mean(agreed)) if agreed else None,
        "contacts": parts,
    }


def _smoothness(clip: Clip) -> Score:
    jerks = smoothness.jerks(clip)
    excess = smoothness.limit_violation(clip)
    return {
        "jerk": None if jerks is None else float(jerks.mean()),
        "jerk_p95": None if jerks is None else float(np.percentile(jerks, 95)),
        "limit_violation": excess,
        "limit_excess_degrees": float(np.degrees(excess)),
        "limit_fraction": smoothness.limit_fraction(clip),
    }


def _margins(name: str, values: Array | None) -> Score:
    told = np.zeros(0) if values is None else values[np.isfinite(values)]
    some = len(told) > 0
    return {
        f"{name}_distance": float(np.maximum(-told, 0.0).mean()) if some else None,
        f"{name}_margin": float(told.min()) if some else None,
        f"{name}_inside_fraction": float((told >= 0).mean()) if some else None,
    }


def _forces(clip: Clip, surfaces: Mapping[str, Surface], wanted: bool | None) -> Score:
    points, touches = dynamics.touching_points(clip, surfaces)
    out = _margins("com", balance.com_margins(clip, points, touches))
    names = ("residual", "residual_p95", "residual_force", "residual_torque")
    residual: Score = dict.fromkeys(names)
    zmp: Array | None = None
    try:
        needed = dynamics.needed_wrench(clip) if wanted is not False else None
        if needed is not None:
            wide = dynamics.widened(touches, clip.fps)
            force, torque = dynamics.residuals(clip, needed, points, wide)
            both = np.hypot(force, torque)
            values = (both.mean(), np.percentile(both, 95), force.mean(), torque.mean())
            residual = dict(zip(names, map(float, values), strict=True))
            zmp = balance.zmp_margins(clip, needed, points, wide)
    except MissingExtraError:
        if wanted:
            raise
    return out | residual | _margins("zmp", zmp)


def _tracking(clip: Clip, reference: Clip) -> Score:
    found = tracking.track_score(clip, reference)
    return {
        "tracking_error": tracking.world_error(clip, reference),
        "tracking_fell": found.fell,
        "tracking_local_error": found.local_error,
        "tracking_jerk_ratio": found.jerk_ratio,
        "tracking_lag": found.lag,
        "tracking_success": found.success,
    }


def _facts(
    clip: Clip,
    action: str | None,
    facts: Sequence[str | Fact] | None,
    side: Side | None,
    scene: Mapping[str, Any] | None,
    neutral: Clip | None,
    keys: Clip | None,
) -> Score:
    if action is not None:
        results = check(clip, action, side=side, scene=scene, neutral=neutral, keys=keys)
    else:
        read = [parse(fact) if isinstance(fact, str) else fact for fact in facts or ()]
        results = [evaluate(fact, clip, scene=scene, neutral=neutral, keys=keys) for fact in read]
    return {
        "facts": {result.fact: result.truth for result in results},
        "predicate_pass_rate": float(np.mean([result.truth for result in results])),
    }


def _loop(clip: Clip) -> Score:
    gap = smoothness.loop_gap(clip)
    return {
        "loop_pose_gap": None if gap is None else gap.pose,
        "loop_angle_gap_degrees": None if gap is None else float(np.degrees(gap.angle)),
        "loop_velocity_gap": None if gap is None else gap.velocity,
    }
