"""The prompts of the Designer and the Animator: versioned files of our own.

A file that has been published is not changed: its words get a new number, since recordings are
found by the version of the prompt that they answer.
"""

from functools import lru_cache
from importlib.resources import files

from foveal.errors import ArgumentError

DESIGNER, ANIMATOR, FAST = "designer.v1", "animator.v1", "fast.v1"
WORLD, FACTS = "world.v1", "facts.v1"
VERSIONS = (DESIGNER, ANIMATOR, FAST, WORLD, FACTS)


@lru_cache(maxsize=16)
def prompt(version: str) -> str:
    """Return the text of a prompt.

    Raises:
        ArgumentError: there is no such version; lists all.
    """
    if version not in VERSIONS:
        raise ArgumentError(
            f"prompt: version is {version!r}, must be one of {', '.join(VERSIONS)}; pick one"
        )
    return files(__name__).joinpath(f"{version}.md").read_text("utf-8").strip()


def fill_in(version: str, **values: str) -> str:
    """Return a prompt with its `{{names}}` replaced.

    Raises:
        ArgumentError: a name is left without a value, or a value without a place.
    """
    text = prompt(version)
    for name, value in values.items():
        mark = "{{" + name + "}}"
        if mark not in text:
            raise ArgumentError(f"fill_in: {version} has no {mark}, must have it; drop {name!r}")
        text = text.replace(mark, value)
    if "{{" in text:
        rest = text[text.index("{{") :][:40].split("}}")[0]
        raise ArgumentError(f"fill_in: {version} still has {rest}}}}}, must have a value for it")
    return text
