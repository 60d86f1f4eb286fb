"""What is of the wrong type is named: by Foveal, or by the type checker where one runs."""

import re

import pytest
from jaxtyping import TypeCheckError

from foveal.data import taskworld
from foveal.errors import ArgumentError


def refused(text: str, call, *arguments) -> None:
    with pytest.raises((ArgumentError, TypeCheckError)) as found:
        call(*arguments)
    if isinstance(found.value, ArgumentError):
        assert re.match(re.escape(text), str(found.value))
    else:
        assert text.split(" ")[1] in str(found.value)


@pytest.mark.parametrize("seed", [1.5, float("nan"), None, "3"], ids=repr)
def test_seeds(seed):
    refused(f"sample: seed is {seed!r}, must be a whole number", taskworld.sample, seed)


@pytest.mark.parametrize("size", [64.0, float("nan"), None], ids=repr)
def test_sizes(size):
    scene = taskworld.sample(0)
    text = f"render: size is {size!r}, must be a multiple of 16"
    refused(text, taskworld.render, [scene], size)


def test_what_is_no_scene_clip_or_count():
    scene = taskworld.sample(0)
    refused("render: scenes is a Scene, must be a list", taskworld.render, scene)
    refused("render: scenes[1] is int, must be Scene", draw_with_number)
    refused("render_clip: clip is Scene, must be Clip", taskworld.render_clip, scene)
    refused("sample_clip: frames is 2.5, must be from 1", taskworld.sample_clip, 0, "train", 2.5)
    labels = taskworld.render([scene], 32)
    text = "targets: size is 2.0, must divide the 32 px"
    refused(text, taskworld.targets, labels, "depth", 2.0)


def draw_with_number():
    scenes = [taskworld.sample(0), 3]
    taskworld.render(scenes, 32)
