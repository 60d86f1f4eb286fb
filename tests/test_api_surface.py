"""The public names and signatures, compared with a committed list.

Run `python tests/test_api_surface.py` to write the list anew; a change needs a CHANGELOG line.
"""

import importlib
import inspect
import json
from pathlib import Path

SURFACE = Path(__file__).with_name("api_surface.json")
MODULES = ("lowlight", "codec", "attention", "motion", "receipt", "errors", "testing", "pipeline")


def surface() -> dict[str, dict[str, str]]:
    """Name to parameter names and defaults, for every public callable of every public module."""
    found: dict[str, dict[str, str]] = {}
    for name in MODULES:
        module = importlib.import_module(f"foveal.{name}")
        names = getattr(module, "__all__", None) or [
            n
            for n, v in vars(module).items()
            if not n.startswith("_") and getattr(v, "__module__", "") == module.__name__
        ]
        found[name] = {}
        for item in sorted(names):
            value = getattr(module, item)
            if not callable(value):
                found[name][item] = "value"
                continue
            try:
                parameters = inspect.signature(value).parameters.values()
            except (TypeError, ValueError):
                found[name][item] = "callable"
                continue
            found[name][item] = ", ".join(
                f"{'*' if p.kind is p.KEYWORD_ONLY else ''}{p.name}"
                + ("" if p.default is p.empty else "=")
                for p in parameters
            )
    return found


def test_public_surface_is_the_committed_one() -> None:
    assert surface() == json.loads(SURFACE.read_text())


if __name__ == "__main__":
    SURFACE.write_text(json.dumps(surface(), indent=1) + "\n")
