"""Long real texts that need no download."""

from foveal.errors import ArgumentError


def long_text(name: str = "pydoc-topics") -> str:
    """Return a long English text that every Python installation carries.

    Args:
        name: "pydoc-topics": the Python language reference, topics in alphabetical order, about
            0.46 million characters (PSF licence). It varies a little with the Python version.

    Raises: ArgumentError: no such text.
    """
    if name != "pydoc-topics":
        raise ArgumentError(f"long_text: name is {name!r}, must be 'pydoc-topics'; use that")
    from pydoc_data.topics import topics

    return "\n\n".join(topics[topic] for topic in sorted(topics))
