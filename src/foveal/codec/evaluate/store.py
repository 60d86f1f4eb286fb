"""Points in files, so that a bench that was stopped goes on."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from foveal._core.files import ensure_dir, write_bytes
from foveal.codec.evaluate.points import Point
from foveal.codec.evaluate.track import Track
from foveal.errors import ArgumentError


def digest(value: Any) -> str:
    """Return a short name for a value that JSON can hold; another value, another name."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def folder_of(folder: Path, track: Track, about: Any) -> Path:
    """Return a track's own folder, made if needed; other images, recognisers or `about`: another.

    Args:
        folder: Where such folders are.
        track: Its fingerprint is taken.
        about: What else the points depend on, as JSON.
    """
    return ensure_dir(folder / f"{track.name}-{digest([track.fingerprint(), about])}")


def write_points(path: Path, points: Sequence[Point]) -> None:
    """Write points with the bytes and sums of every image (.npz)."""
    arrays: dict[str, Any] = {}
    about: list[dict[str, Any]] = []
    for i, point in enumerate(points):
        about.append({"label": point.label, "settings": dict(point.settings)})
        for name in ("payload", "side", "container"):
            arrays[f"{i}.{name}"] = getattr(point, name)
        arrays |= {f"{i}.sums.{name}": x for name, x in point.sums.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.array(json.dumps(about)), **arrays)
    write_bytes(path, buffer.getvalue())


def read_points(path: Path) -> list[Point]:
    """Read what `write_points` wrote.

    Raises: ArgumentError: it is something else, or damaged.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
        out: list[Point] = []
        for i, row in enumerate(json.loads(str(held["about"]))):
            start = f"{i}.sums."
            sums = {k.removeprefix(start): v for k, v in held.items() if k.startswith(start)}
            payload, side, container = (held[f"{i}.{x}"] for x in ("payload", "side", "container"))
            settings: dict[str, Any] = dict(row["settings"])
            out.append(Point(str(row["label"]), settings, payload, side, container, sums))
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise ArgumentError(
            f"read_points: {path} holds no points that can be read ({error!r}); remove it"
        ) from error
    return out
