"""Models for the director's tests: functions that read the prompt, and nothing else.

`Wave`, `Sit` and `Step` answer as a competent model would: they work out places from the
coordinates in the prompt. They know nothing of the code under test but its prompts and forms.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from foveal.motion import humanoid
from foveal.motion.director.chat import CallbackModel
from foveal.motion.director.loop import Limits
from foveal.motion.director.pose import standing

SMALL = Limits(keyframes=10, exchanges=6, picture_size=256)


class Prompt:
    """A prompt as a model sees it."""

    def __init__(self, messages: list[dict[str, Any]], pictures: list[bytes]) -> None:
        """Take what `CallbackModel` gives."""
        self.system, self.text = messages[0]["content"], messages[1]["content"]
        self.pictures = pictures
        self.reasked = len(messages) > 2

    @property
    def designer(self) -> bool:
        return "You are the Keyframe Designer" in self.system

    @property
    def keys(self) -> int:
        """Keyframes after the start that came out already."""
        return len(re.findall(r"^[1-9]\d*\. t = ", self.text, re.MULTILINE))

    def at(self, name: str) -> np.ndarray:
        """Read a point's coordinates off the prompt."""
        found = re.search(rf"^- {name}: \[([^\]]*)\]$", self.text, re.MULTILINE)
        assert found is not None, name
        return np.array([float(x) for x in found[1].split(",")])


class Competent:
    """A model that knows one action."""

    def __init__(self) -> None:
        """Start with nothing asked."""
        self.asked: list[Prompt] = []

    def __call__(self, messages: list, pictures: list, schema: dict) -> dict[str, Any]:
        del schema
        prompt = Prompt(messages, pictures)
        self.asked.append(prompt)
        return self.design(prompt) if prompt.designer else self.animate(prompt)

    def design(self, prompt: Prompt) -> dict[str, Any]:
        raise NotImplementedError

    def animate(self, prompt: Prompt) -> dict[str, Any]:
        raise NotImplementedError


class Wave(Competent):
    """Waves with the right hand: up, out, in, out, in, and down."""

    def design(self, prompt: Prompt) -> dict[str, Any]:
        swing = prompt.keys
        if swing == 5:
            words, pose, facts = "arm down", "right hand at the right hip", [
                "right hand below right shoulder by 0.2 m",
            ]  # fmt: skip
        else:
            side = "out to the right" if swing % 2 else "near the head"
            words = pose = f"right hand above the head, {side} ({swing})"
            facts = ["right hand above head", "left hand below left shoulder by 0.1 m"]
        return {
            "description": words,
            "parts": [{"part": "right_arm", "pose": pose}],
            "dt": 0.35 if 0 < swing < 5 else 0.8,
            "contacts": ["left_foot", "right_foot"],
            "facts": facts,
            "finished": swing == 5,
        }

    def animate(self, prompt: Prompt) -> dict[str, Any]:
        head, shoulder = prompt.at("head"), prompt.at("right shoulder")
        wanted = prompt.text.split("## The pose to make")[1]
        if "arm down" in wanted[:40]:
            target, bend = (
                prompt.at("right hip") + np.array([0.06, -0.18, -0.1]),
                shoulder + np.array([-0.2, -0.3, -0.3]),
            )
        else:
            out = 0.52 if "out to the right" in wanted[:90] else 0.28
            target = np.array([head[0] + 0.12, head[1] - out, head[2] + 0.16])
            bend = shoulder + np.array([0.1, -0.35, 0.0])
        move = {
            "command": "end_effector_move", "effector": "right hand",
            "target": target.round(3).tolist(), "bend": bend.round(3).tolist(),
        }  # fmt: skip
        return {"thought": "the hand goes there", "commands": [move], "done": ["right_arm"]}


class Sit(Competent):
    """Sits down on the seat behind, in three keyframes."""

    def design(self, prompt: Prompt) -> dict[str, Any]:
        words, facts = [
            ("leans forward, hips back", ["trunk leaned forward by 15 degrees"]),
            ("sits on the seat", ["pelvis on seat", "left knee 60 to 125 degrees"]),
            ("sits upright", ["pelvis on seat", "trunk within 30 degrees of vertical"]),
        ][prompt.keys]
        contacts = ["left_foot", "right_foot"] + (["pelvis"] if prompt.keys else [])
        return {
            "description": words,
            "parts": [{"part": "pelvis", "pose": words}, {"part": "trunk", "pose": words}],
            "dt": 0.8,
            "contacts": contacts,
            "facts": facts,
            "finished": prompt.keys == 2,
        }

    def animate(self, prompt: Prompt) -> dict[str, Any]:
        wanted = prompt.text.split("## The pose to make")[1][:40]
        foot, pelvis = prompt.at("left ankle"), prompt.at("pelvis")
        seat = re.search(r"^- seat: top at z = ([\d.]+)", prompt.text, re.MULTILINE)
        assert seat is not None
        if "hips back" in wanted:
            x, z, lean = foot[0] - 0.18, pelvis[2] - 0.2, 35.0
        elif "on the seat" in wanted:
            x, z, lean = foot[0] - 0.42, float(seat[1]) + 0.12, -10.0
        else:
            x, z, lean = pelvis[0], pelvis[2], -20.0
        move = {
            "command": "pelvis_with_support", "target": [float(x), 0.0, float(z)],
            "lean_forward": lean,
        }  # fmt: skip
        return {"commands": [move], "done": ["pelvis", "trunk"]}


@pytest.fixture(scope="session")
def skeleton():
    return humanoid()


@pytest.fixture(scope="session")
def start(skeleton):
    return standing(skeleton)


@pytest.fixture
def wave() -> Wave:
    return Wave()


@pytest.fixture
def sit() -> Sit:
    return Sit()


@pytest.fixture(scope="session")
def small() -> Limits:
    return SMALL


@pytest.fixture(scope="session")
def base() -> Callable[[Any], CallbackModel]:
    return CallbackModel


_BOTH = ["left_foot", "right_foot"]
_STEP = (  # words, what bears weight, where pelvis and feet go, facts
    ("weight over the left foot", _BOTH, {"pelvis": (0.0, 0.08, 0.9)}, []),
    (
        "right foot in the air ahead", _BOTH[:1],
        {"pelvis": (0.05, 0.08, 0.9), "right foot": (0.15, -0.09, 0.15)},
        ["right foot off floor by 0.05 m"],
    ),
    (
        "right foot down ahead", _BOTH,
        {"pelvis": (0.15, 0.03, 0.87), "right foot": (0.33, -0.09, 0.04)},
        ["right foot on floor", "right foot in front of left foot by 0.2 m"],
    ),
    ("weight over the right foot", _BOTH, {"pelvis": (0.29, -0.07, 0.88)}, []),
    (
        "left foot in the air beside", _BOTH[1:],
        {"pelvis": (0.3, -0.08, 0.9), "left foot": (0.28, 0.09, 0.15)},
        ["left foot off floor by 0.05 m"],
    ),
    ("left foot down beside", _BOTH, {"left foot": (0.33, 0.09, 0.04)}, ["left foot on floor"]),
    ("stands", _BOTH, {"pelvis": (0.3, 0.0, 0.91)}, []),
)  # fmt: skip


class Step(Competent):
    """Takes one step with each foot, lifted in one keyframe and set down in a later one."""

    def design(self, prompt: Prompt) -> dict[str, Any]:
        words, contacts, _, facts = _STEP[prompt.keys]
        parts = [{"part": "pelvis", "pose": words}, {"part": "right_leg", "pose": words}]
        return {
            "description": words, "parts": parts, "dt": 0.5, "contacts": contacts, "facts": facts,
            "finished": prompt.keys == len(_STEP) - 1,
        }  # fmt: skip

    def animate(self, prompt: Prompt) -> dict[str, Any]:
        words = prompt.text.split("## The pose to make\n")[1].split("\n")[0]
        goals = next(goals for name, _, goals, _ in _STEP if name == words)
        commands: list[dict[str, Any]] = []
        for name, target in goals.items():
            if name == "pelvis":
                commands.append({"command": "pelvis_with_support", "target": list(target)})
            else:
                move = {"command": "end_effector_move", "effector": name, "target": list(target)}
                commands.append(move)
        return {"commands": commands, "done": ["pelvis", "right_leg"]}


@pytest.fixture
def step() -> Step:
    return Step()
