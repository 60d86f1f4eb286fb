"""Sport: handball throw, jump shot, front kick, tennis serve, forehand; the right side acts."""

import math
from typing import Any

from foveal.motion.director.commands import FootTarget, Keyframe
from foveal.motion.director.library.gait import Footfall, Manner, footsteps
from foveal.motion.director.library.keys import foot, key, placed, raised, rolled, stand
from foveal.motion.director.library.reach import Hand

_G = 9.81


def _fly(rise: float) -> float:
    """Time of half a flight that rises by so much, s."""
    return math.sqrt(2.0 * rise / _G)


def _beside(x: float, left: FootTarget, right: FootTarget, *, dt: float = 0.3) -> list[Keyframe]:
    """From a stride with the left foot ahead at x, the right one steps beside it."""
    return [
        key(dt, "the right foot comes up", pelvis=(x - 0.08, 0.03, -0.05), on="l", left=left,
            right=raised(foot(0.5 * (x + right.position[0]), -0.01, yaw=-12), 0.06, -10),
            tilt=3, trunk=(8, 0, 0), shoulder_flexion=12, elbow_flexion=34),
        key(0.9 * dt, "the right foot beside", pelvis=(x, 0.01, -0.025), on="l", left=left,
            right=foot(x), trunk=(3, 0, 0)),
        stand(0.5, x=x),
    ]  # fmt: skip


def handball() -> list[Keyframe]:
    """Three steps of run-up, the arm drawn back high, the left leg braces, throw over the head."""
    falls = [
        Footfall("left", placed("left", 0.32, 0, half=0.07), 0.42),
        Footfall("right", placed("right", 0.82, 0, half=0.07), 0.36),
    ]
    manner = Manner(lift=0.09, swing=16, elbow=50, sink=0.07, bob=0.03, trunk=6, tilt=3)
    run_up = footsteps(falls, manner, words="runs up")[:-1]
    right = placed("right", 0.82, 0, half=0.07)
    left0, left = placed("left", 0.32, 0, half=0.07), foot(1.3, -0.01, yaw=8)
    aim = Hand((0.42, 0.2, 0.16), (0, 0.6, -1))
    ready = Hand((0.12, 0.34, 0.14), (-0.7, 1, -0.5))
    back = Hand((-0.22, 0.38, 0.34), (-0.5, 1.0, 0.0), (0.6, 0, 0.6))
    over = Hand((0.06, 0.32, 0.54), (-0.1, 1.0, 0.1))
    front = Hand((0.5, 0.22, 0.26), (0.0, 1.0, 0.2))
    after = Hand((0.36, -0.1, -0.16), (0.2, 1.0, 0.0))
    tuck = Hand((0.08, 0.18, -0.14), (-1, 0.6, -0.4))
    far = rolled(right, -26)
    return [
        *run_up,
        key(0.2, "draws the arm back", pelvis=(0.84, -0.02, -0.07), turn=-16, trunk=(-4, 0, -22),
            head=(0, 30), on="r", left=rolled(left0, -40), right=right, rh=ready, lh=aim),
        key(0.24, "the left leg passes", pelvis=(0.92, -0.03, -0.05), turn=-26, trunk=(-8, 2, -30),
            head=(0, 44), on="r", left=raised(foot(0.86, -0.01), 0.12, -8), right=right, rh=back,
            lh=aim),
        key(0.2, "braces the left leg", pelvis=(1.06, 0, -0.1), turn=-16, trunk=(-8, 4, -32),
            head=(0, 42), on="r", left=left, right=right, rh=back, lh=aim),
        key(0.12, "hips and chest come round", pelvis=(1.14, 0, -0.1), turn=2, trunk=(4, 8, 4),
            head=(0, -4), on="l", left=left, right=rolled(right, -14), rh=over, lh=tuck),
        key(0.09, "releases over the head", pelvis=(1.17, 0, -0.1), turn=12, trunk=(14, 6, 22),
            head=(-2, -24), on="l", left=left, right=far, rh=front, lh=tuck),
        key(0.3, "follows through", pelvis=(1.2, 0.02, -0.11), turn=16, trunk=(30, 0, 26),
            head=(-16, -26), on="l", left=left, right=rolled(right, -40), rh=after, lh=tuck),
        *_beside(1.3, foot(1.3, -0.01, yaw=8), right),
    ]  # fmt: skip


def jump_shot() -> list[Keyframe]:
    """Dip with a ball in both hands, jump, release at the top with a long arm, land softly."""
    rise = 0.24
    t = _fly(rise)
    grip = ((0, -1, 0.2), (0, -1, 0.2))

    def ball(x: float, z: float) -> dict[str, Any]:
        elbow = (0.3, 0.5, -1.0)
        return {"lh": Hand((x, 0.12, z), elbow, grip[0]), "rh": Hand((x, 0.12, z), elbow, grip[1])}

    shot_l = Hand((0.2, 0.14, 0.6), (0.6, 0.6, -0.4))
    shot_r = Hand((0.26, 0.1, 0.72), (0.6, 0.6, -0.4), (0.7, 0, -0.7), wrist=40)
    drop_l = Hand((0.34, 0.16, 0.3), (0.3, 0.6, -1))
    drop_r = Hand((0.34, 0.12, 0.6), (0.5, 0.6, -0.6), (0.5, 0, -1), wrist=60)
    air = raised(foot(), rise, -34)
    return [
        key(0.5, "ball before the chest", pelvis=(0, 0, -0.04), trunk=(3, 0, 0), head=(-4, 0),
            **ball(0.32, -0.02)),
        key(0.42, "dips", pelvis=(-0.05, 0, -0.23), tilt=16, trunk=(10, 0, 0), head=(-22, 0),
            **ball(0.32, -0.08)),
        key(0.3, "pushes off, ball up", pelvis=(0, 0, -0.015), tilt=2, trunk=(-4, 0, 0),
            head=(-14, 0), **ball(0.24, 0.42)),
        key(0.6 * t, "rises, ball over the forehead", pelvis=(0, 0, 0.84 * rise), trunk=(-5, 0, 0),
            head=(-14, 0), on="", left=raised(foot(), 0.84 * rise, -40),
            right=raised(foot(), 0.84 * rise, -40), **ball(0.2, 0.5)),
        key(0.45 * t, "releases at the top", pelvis=(0, 0, rise), trunk=(-3, 0, 0), head=(-16, 0),
            on="", left=air, right=air, lh=shot_l, rh=shot_r),
        key(0.95 * t, "lands", pelvis=(0, 0, -0.03), head=(-12, 0), on="", left=foot(),
            right=foot(), trunk=(2, 0, 0), lh=drop_l, rh=drop_r),
        key(0.26, "gives in the knees", pelvis=(-0.05, 0, -0.17), tilt=14, trunk=(8, 0, 0),
            head=(-14, 0), shoulder_flexion=50, elbow_flexion=60),
        stand(0.7),
    ]  # fmt: skip


def front_kick() -> list[Keyframe]:
    """Shift, raise the knee high, snap the leg out to the belt, draw it back, set it down."""
    over = (-0.01, 0.085, -0.025)
    guard_l = Hand((0.26, 0.08, 0.18), (0.1, 0.4, -1), (0, -1, 0))
    guard_r = Hand((0.22, 0.1, 0.14), (0.0, 0.4, -1), (0, -1, 0))
    low_r = Hand((0.1, 0.3, -0.24), (-0.5, 0.8, -0.5))
    arms: dict[str, Any] = {"lh": guard_l, "rh": guard_r}
    flat = foot(y=-0.01)

    def leg(x: float, z: float, pitch: float) -> FootTarget:
        return raised(foot(x, 0.05), z, pitch)

    return [
        key(0.4, "guard up", pelvis=(0, 0.01, -0.05), trunk=(5, 0, 0), head=(2, 0), **arms),
        key(0.35, "weight over the left foot", pelvis=over, trunk=(4, 0, 0), **arms),
        key(0.14, "right heel up", pelvis=over, tilt=0, trunk=(3, 0, 0), on="l",
            right=rolled(flat, -36), **arms),
        key(0.24, "raises the knee", pelvis=over, tilt=-10, trunk=(6, 0, 0), head=(4, 0), on="l",
            right=leg(0.2, 0.58, -42), **arms),
        key(0.14, "snaps the leg out", pelvis=(0.0, 0.085, -0.03), tilt=-26, turn=8,
            trunk=(14, 0, -6), head=(12, -4), on="l", right=leg(0.9, 0.76, 0), lh=guard_l,
            rh=low_r),
        key(0.16, "draws the foot back", pelvis=over, tilt=-12, trunk=(8, 0, 0), head=(4, 0),
            on="l", right=leg(0.18, 0.5, -40), **arms),
        key(0.32, "lowers the leg", pelvis=over, tilt=-2, trunk=(5, 0, 0), on="l",
            right=raised(foot(0.05), 0.12, -14), **arms),
        key(0.2, "sets the foot down", pelvis=over, trunk=(4, 0, 0), on="l", right=foot(), **arms),
        key(0.3, "guard up", pelvis=(0, 0, -0.04), trunk=(4, 0, 0), **arms),
        stand(0.6),
    ]  # fmt: skip


def serve() -> list[Keyframe]:
    """Sideways stance, toss, racket behind the back, hit at full reach, through across the body."""
    left, right = foot(0.12, -0.02, yaw=-38), foot(-0.1, 0.0, yaw=-75)
    feet: dict[str, Any] = {"left": left, "right": right}
    low_l = Hand((0.34, 0.02, -0.02), (0, 0.6, -1), (0, 0, 1))
    low_r = Hand((0.3, 0.02, 0.0), (-0.1, 0.6, -1))
    toss = Hand((0.14, 0.2, 0.66), (0.4, 0.8, -0.4), (0, 0, 1))
    out_r = Hand((-0.02, 0.5, -0.04), (-0.8, 0.5, -0.5))
    back = Hand((-0.2, 0.3, 0.18), (-0.2, 1.0, 0.35))
    drop = Hand((-0.2, 0.24, 0.24), (0.1, 1.0, 0.7))
    high = Hand((0.12, 0.24, 0.75), (0.2, 1.0, 0.0), (0.8, 0, -0.3))
    front = Hand((0.5, 0.16, 0.12), (0.2, 1.0, 0.0))
    across = Hand((0.26, -0.16, -0.3), (0.3, 1.0, 0.1))
    tuck = Hand((0.16, 0.1, -0.1), (-0.4, 0.7, -0.7))
    return [
        key(0.28, "right foot back", pelvis=(0.0, 0.06, -0.03), turn=-10, on="l", head=(2, 10),
            right=raised(foot(-0.06, 0, yaw=-40), 0.05, -6), shoulder_flexion=12,
            elbow_flexion=40),
        key(0.2, "right foot down", pelvis=(-0.01, 0.0, -0.03), turn=-24, on="l", head=(4, 22),
            right=right, shoulder_flexion=24, elbow_flexion=60),
        key(0.22, "turns the left foot", pelvis=(-0.08, -0.05, -0.03), turn=-34, on="r",
            left=raised(foot(0.08, -0.01, yaw=-22), 0.04), right=right, head=(6, 30), lh=low_l,
            rh=low_r),
        key(0.2, "stands sideways", pelvis=(-0.02, -0.02, -0.03), turn=-42, on="r", head=(8, 34),
            trunk=(4, 0, 0), lh=low_l, rh=low_r, **feet),
        key(0.4, "rocks back, hands part", pelvis=(-0.06, -0.03, -0.05), turn=-48,
            trunk=(4, 0, -8), head=(4, 44), rh=out_r, lh=Hand((0.32, 0.12, -0.1), (0, 0.6, -1)),
            **feet),
        key(0.42, "tosses the ball", pelvis=(0.0, -0.02, -0.09), turn=-50, trunk=(-10, -6, -14),
            head=(-24, 46), lh=toss, rh=Hand((-0.1, 0.44, 0.02), (-0.8, 0.8, -0.3)), **feet),
        key(0.3, "bends the knees, racket behind", pelvis=(0.02, -0.02, -0.14), turn=-48,
            trunk=(-14, -6, -22), head=(-22, 50), lh=toss, rh=back, **feet),
        key(0.2, "drives up, racket drops behind the back", pelvis=(0.05, -0.01, -0.05), turn=-30,
            trunk=(-12, 4, -14), head=(-20, 34), lh=Hand((0.3, 0.16, 0.3), (0.3, 0.8, -0.6)),
            rh=drop, **feet),
        key(0.13, "hits at full reach", pelvis=(0.08, 0, -0.02), turn=-8, trunk=(-2, 12, 8),
            head=(-18, 6), on="l", lh=tuck, rh=high, left=left, right=rolled(right, -24)),
        key(0.13, "through the ball", pelvis=(0.11, 0.01, -0.05), turn=2, trunk=(16, 4, 16),
            head=(-6, -8), on="l", lh=tuck, rh=front, left=left, right=rolled(right, -34)),
        key(0.25, "follows through across the body", pelvis=(0.14, 0.02, -0.08), turn=10,
            trunk=(26, 0, 24), head=(-14, -22), on="l", lh=tuck, rh=across, left=left,
            right=rolled(right, -44)),
        key(0.35, "the right foot comes round", pelvis=(0.16, 0.0, -0.06), turn=6,
            trunk=(16, 0, 14), head=(-8, -14), on="l", left=left, rh=across, lh=tuck,
            right=raised(foot(0.12, -0.02, yaw=-24), 0.05, -6)),
        key(0.25, "steps in", pelvis=(0.2, -0.02, -0.05), turn=0, trunk=(10, 0, 8), head=(-6, -4),
            on="l", left=left, right=foot(0.26, -0.02), rh=across, lh=tuck),
        key(0.28, "the left foot straightens", pelvis=(0.26, -0.03, -0.04), trunk=(8, 0, 6),
            head=(-4, 0), on="r", left=raised(foot(0.2, 0, yaw=-10), 0.03), right=foot(0.26, -0.02),
            rh=across, lh=tuck),
        key(0.3, "recovers", pelvis=(0.26, -0.01, -0.03), trunk=(6, 0, 6), head=(-2, 0), on="r",
            left=foot(0.26, 0), right=foot(0.26, -0.02),
            rh=Hand((0.26, -0.14, -0.28), (0.3, 1.0, 0.1)), lh=tuck),
    ]  # fmt: skip


def forehand() -> list[Keyframe]:
    """Split, turn and draw back, step in, hit at the waist, through to the other shoulder."""
    left, right = foot(0.26, 0.0, yaw=-24), foot(-0.02, -0.08, yaw=-58)
    ready = Hand((0.36, 0.02, -0.1), (-0.1, 0.6, -1))
    back = Hand((-0.12, 0.5, 0.0), (-0.6, 0.6, -0.6), (0.7, 0.0, 0.2))
    low = Hand((-0.05, 0.5, -0.2), (-0.6, 0.6, -0.6), (0.8, 0, 0.2))
    hit = Hand((0.42, 0.34, -0.14), (-0.2, 0.7, -0.8), (0.8, -0.4, 0))
    through = Hand((0.42, -0.02, 0.12), (0.1, 1.0, -0.5))
    end = Hand((0.16, -0.2, 0.19), (0.6, 0.8, 0.1))
    point = Hand((0.42, 0.24, 0.04), (0.1, 0.6, -0.8))
    catch = Hand((0.24, 0.12, 0.08), (0.1, 0.7, -0.8))
    return [
        key(0.45, "ready, racket before the body", pelvis=(0, 0, -0.09), tilt=8, trunk=(10, 0, 0),
            head=(-8, 0), lh=ready, rh=ready),
        key(0.2, "turns, right foot out", pelvis=(0, 0.06, -0.07), turn=-14, trunk=(6, 0, -14),
            head=(-2, 20), on="l", right=raised(foot(-0.01, -0.06, yaw=-36), 0.05), lh=ready,
            rh=Hand((0.2, 0.3, 0.02), (-0.6, 0.7, -0.6))),
        key(0.25, "draws the racket back", pelvis=(-0.02, -0.05, -0.09), turn=-38,
            trunk=(5, 0, -26), head=(0, 46), on="l", right=right, lh=point, rh=back),
        key(0.28, "steps in", pelvis=(0.03, -0.06, -0.08), turn=-44, trunk=(5, 0, -30),
            head=(0, 52), on="r", left=raised(foot(0.16, 0, yaw=-16), 0.07, 4), right=right,
            lh=point, rh=back),
        key(0.2, "racket drops, weight forward", pelvis=(0.1, -0.03, -0.11), turn=-34,
            trunk=(6, 0, -24), head=(2, 42), on="r", left=left, right=right, lh=point, rh=low),
        key(0.14, "hits", pelvis=(0.15, 0, -0.1), turn=-6, trunk=(6, 0, 4), head=(6, 4),
            left=left, right=right, lh=catch, rh=hit),
        key(0.14, "through the ball", pelvis=(0.17, 0.01, -0.09), turn=6, trunk=(5, 0, 20),
            head=(2, -16), on="l", left=left, right=rolled(right, -20), lh=catch, rh=through),
        key(0.26, "ends over the left shoulder", pelvis=(0.19, 0.02, -0.07), turn=12,
            trunk=(3, 0, 28), head=(0, -28), on="l", left=left, right=rolled(right, -36),
            lh=catch, rh=end),
        key(0.3, "holds the end", pelvis=(0.2, 0.02, -0.06), turn=10, trunk=(3, 0, 22),
            head=(0, -22), on="l", left=left, right=rolled(right, -38), lh=catch, rh=end),
        key(0.28, "the right foot comes up", pelvis=(0.2, 0.02, -0.05), turn=2, on="l", left=left,
            right=raised(foot(0.14, -0.02, yaw=-16), 0.05, -8), trunk=(4, 0, 4),
            shoulder_flexion=24, elbow_flexion=50),
        key(0.24, "ready again", pelvis=(0.24, 0, -0.03), on="l", left=left, right=foot(0.26),
            shoulder_flexion=10, elbow_flexion=26),
        key(0.26, "the left foot straightens", pelvis=(0.26, -0.02, -0.02), on="r",
            left=raised(foot(0.26), 0.025), right=foot(0.26)),
        stand(0.4, x=0.26),
    ]  # fmt: skip
