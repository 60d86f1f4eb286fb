"""The whole path: instruction, keyframes, in-fill, tracking, clip."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from foveal.errors import ArgumentError, UnsupportedError
from foveal.motion.clip import Clip
from foveal.motion.director.chat import ChatModel
from foveal.motion.director.constraints import Constraints
from foveal.motion.director.direction import Direction, Mode
from foveal.motion.director.keep import keep_exactly
from foveal.motion.director.loop import Limits
from foveal.motion.director.planning import plan_with_model, whole_motion
from foveal.motion.director.providers import Plan, Provider, Scripted
from foveal.motion.inbetween import Method, fill, resolve
from foveal.motion.metrics import score
from foveal.motion.skeleton import humanoid
from foveal.motion.track.kinematic import track_kinematic
from foveal.receipt import Receipt

Track = Literal["mpc", "kinematic"]
MAX_SECONDS = 120.0


def generate(
    instruction: str,
    *,
    provider: Provider | ChatModel | None = None,
    mode: Mode | None = None,
    constraints: Constraints | None = None,
    limits: Limits | None = None,
    scene: Mapping[str, object] | str | Path | None = None,
    track: Track = "mpc",
    seed: int = 0,
    fps: float = 30,
    method: Method = "smooth",
    num_samples: int = 96,
    time_budget_s: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> Clip:
    """Make a clip of a figure that does what an instruction says.

    Args:
        instruction: For example "bow and then wave with the left hand"; English for `Scripted`,
            any language for a chat model.
        provider: Who decides the keyframes: a chat model (`OpenAICompatible`, `ManualModel`,
            `CallbackModel`, `Recorded`), or anything with `plan(instruction)`. Default
            `Scripted()`: the hand-written library.
        mode: Of a chat model: "faithful" (default) asks for one keyframe after the other and
            shows what came of each; "fast" asks once for all.
        constraints: Of a chat model: own keyframes, a duration, a path, cycles.
        limits: Of a chat model: where it ends if the model does not end it.
        scene: Of the scripted provider and of chat models: surfaces by name or an MJCF file, see
            `load_scene`. None is the empty floor, or what a scripted action needs ("sit on chair").
        track: "mpc" simulates the figure in MuJoCo and steers it with sampled control (needs the
            `motion` extra); "kinematic" is immediate, without physics.
        seed: Seed of the sampled control, >= 0; "kinematic" gives the same clip for any.
        fps: Frames a second, in [5, 120].
        method: In-fill between keyframes; "linear" is the paper's.
        num_samples: Simulated candidates of each control step, in [8, 4096]; "mpc" only.
        time_budget_s: Stop steering after this many seconds; the rest is simulated without
            look-ahead and the status says so. None: no limit. "mpc" only.
        progress: Called with the finished fraction in [0, 1].

    Returns: The clip. `clip.status` is "kinematic", "tracked" (it did not fall), or says when it
    fell; a fall is returned and never hidden. Whether the motion shows what was asked is not in
    the status but in `clip.receipt.details`: `predicates` and `predicate_failures`; with a chat
    model also `complete`, `marks` (what is missing), `facts` (of the whole motion, if its action is
    in the fact list) and `direction` (keyframes, contact plan, transcript and cost, plain data).
    `clip.receipt.loss` is the tracking error, m ("mpc").

    Raises:
        ArgumentError: empty instruction, or an argument out of range.
        ProviderError: the provider does not know what to do, or fails before the first keyframe.
        UnsupportedError: `scene` with a provider of your own that is no chat model.
        MissingExtraError: `track="mpc"` without MuJoCo, a chat model without mink.

    Source: Zhang et al., "FreeMotion: MoCap-Free Human Motion Synthesis with Multimodal Large
    Language Models", ECCV 2024, arXiv:2406.10740. Differs: a scripted director beside
    the language model, contact-pinned smooth in-fill, and predictive control in place of a trained
    tracker.
    """
    if track not in ("mpc", "kinematic"):
        raise ArgumentError(f"generate: track is {track!r}, must be 'mpc' or 'kinematic'; pick one")
    if not 5 <= fps <= 120:
        raise ArgumentError(f"generate: fps is {fps}, must be in [5, 120]; 30 is usual")
    if not 8 <= num_samples <= 4096:
        raise ArgumentError(
            f"generate: num_samples is {num_samples}, must be in [8, 4096]; 96 is usual"
        )
    if seed < 0:
        raise ArgumentError(f"generate: seed is {seed}, must be >= 0; 0 is usual")
    if time_budget_s is not None and not time_budget_s > 0:
        raise ArgumentError(f"generate: time_budget_s is {time_budget_s}, must be > 0 or None")
    started = time.perf_counter()
    world = scene
    if provider is None:
        provider, scene = Scripted(careful=track == "mpc", scene=scene), None
    if not isinstance(instruction, str) or not instruction.strip():
        raise ArgumentError(f"generate: instruction is {instruction!r}, must be words")
    direction: Direction | None = None
    if isinstance(provider, ChatModel):
        plan, direction = plan_with_model(
            instruction.strip(),
            provider,
            mode=mode or "faithful",
            scene=scene,
            constraints=constraints,
            limits=limits,
        )
    else:
        plan = _planned(instruction, provider, scene, mode, constraints, limits)
    skeleton = humanoid()
    poses = resolve(plan.keyframes, skeleton)
    if poses.times[-1] > MAX_SECONDS:
        raise ArgumentError(
            f"generate: instruction needs {poses.times[-1]:.0f} s, must be at most "
            f"{MAX_SECONDS:.0f} s; split it"
        )
    frames = fill(poses, skeleton, fps=fps, method=method, keyframes=plan.keyframes)
    frames, contacts = track_kinematic(skeleton, plan.keyframes, frames, fps=fps)
    if direction is not None:
        frames = keep_exactly(skeleton, frames, poses, direction.kept)
    clip = Clip(
        skeleton,
        float(fps),
        frames.root_positions,
        frames.root_rotations,
        frames.angles,
        np.asarray(contacts),
        poses.times,
        instruction.strip(),
        plan.actions,
    )
    details: dict[str, Any] = {"track": track, "provider": plan.provider, "method": method}
    if direction is not None:
        details |= whole_motion(direction, clip, scene, constraints)
    if track == "mpc":
        from foveal.motion.track.mpc import track_mpc

        clip, spent = track_mpc(
            clip,
            seed=seed,
            num_samples=num_samples,
            scene=plan.scene if world is None else world,
            time_budget_s=time_budget_s,
            progress=progress,
        )
        details |= spent
    elif progress is not None:
        progress(1.0)
    scores = score(clip, forces=False)
    details |= {
        "status": clip.status,
        "predicates": scores["predicates"],
        "predicate_failures": scores["predicate_failures"],
        "unchecked_actions": scores["unchecked_actions"],
    }
    loss = scores["tracking_error"]
    receipt = Receipt(
        stage="motion",
        unit="keyframes",
        spent=float(len(plan.keyframes)),
        full=float(clip.num_frames),
        loss=loss if isinstance(loss, float) else None,
        loss_metric="tracking error (m)" if isinstance(loss, float) else "",
        seconds=time.perf_counter() - started,
        details=details,
    )
    return replace(clip, receipt=receipt)


def _planned(
    instruction: str,
    provider: object,
    scene: object,
    mode: object,
    constraints: object,
    limits: object,
) -> Plan:
    """Ask a provider that is no chat model, which has no use for a chat model's arguments."""
    if not isinstance(provider, Provider):
        raise ArgumentError(
            f"generate: provider is {provider!r}, must have a method plan(instruction) or "
            "complete(request); pass motion.Scripted() or a chat model"
        )
    if scene is not None:
        raise UnsupportedError(
            f"generate: scene is {scene!r}, must be None with {type(provider).__name__}, which "
            "has a scene of its own; say motion.Scripted(scene=...), or pass a chat model"
        )
    given = {"mode": mode, "constraints": constraints, "limits": limits}
    for name, value in given.items():
        if value is not None:
            raise ArgumentError(
                f"generate: {name} is {value!r}, must be None with {type(provider).__name__}; pass "
                "a chat model as provider"
            )
    return provider.plan(instruction)
