"""Generated tables of `foveal bench codec`, tracks of real pictures first."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Table = Callable[[list[str], list[list[str]]], str]

SHOWN = ("learned", "pixels", "features", "label")


def tracks(results: Path) -> list[tuple[Any, Any]]:
    """Return (run, track) of every committed run, real pictures first."""
    found: list[tuple[Any, Any]] = []
    for path in sorted(results.glob("codec-bench--*.json")):
        run = json.loads(path.read_text())
        found += [(run, track) for track in run["tracks"]]
    return sorted(found, key=lambda pair: not pair[1]["reality"])


def bytes_of(figure: Any) -> str:
    """Write bytes with their interval."""
    if figure["value"] is None:
        return "not reached"
    ends = ["-" if figure[k] is None else f"{figure[k]:.0f}" for k in ("low", "high")]
    return f"{figure['value']:.0f} ({ends[0]} to {ends[1]})"


def times(cell: Any) -> str:
    """Write how many times the bytes pixels need."""
    figure = cell.get("times_fewer_than_pixels")
    if figure is None or figure["value"] is None:
        return ""
    ends = ["-" if figure[k] is None else f"{figure[k]:.1f}" for k in ("low", "high")]
    return f"{figure['value']:.1f} ({ends[0]} to {ends[1]})"


def rows(track: Any, view: str, levels: Iterable[float]) -> list[list[str]]:
    """Return a row for each codec: payload at each level, times fewer than all pixels."""
    out: list[list[str]] = []
    for kind in SHOWN:
        for codec in track["codecs"]:
            if codec["kind"] != kind:
                continue
            row = next(
                (v for v in codec["views"] if v["view"] == view and v["bytes"] == "payload"), None
            )
            if row is None:
                continue
            cells = {round(cell["retention"], 4): cell for cell in row["at"]}
            if all(cells[round(level, 4)]["bytes"]["value"] is None for level in levels):
                best = row["best_retention"]["value"]
                spare = ["not reached"] * (len(cells) - 1)
                said = "not reached" if best is None else f"not reached (best {100 * best:.0f} %)"
                out.append([codec["codec"], said, *spare, ""])
                continue
            last = [times(cells[round(level, 4)]) for level in levels]
            best_times = next((x for x in reversed(last) if x), "")
            out.append(
                [
                    codec["codec"],
                    *(bytes_of(cells[round(x, 4)]["bytes"]) for x in levels),
                    best_times,
                ]
            )
    return out


def bench(results: Path, table: Table) -> str:
    """Write every track."""
    parts: list[str] = []
    for run, track in tracks(results):
        views = [v["view"] for c in track["codecs"] for v in c["views"]]
        if not views:
            continue
        view = "mean" if "mean" in views else views[0]
        levels = [cell["retention"] for cell in track["codecs"][0]["views"][0]["at"]]
        head = ["codec", *(f"payload at {100 * x:g} %" for x in levels), "times fewer than pixels"]
        known = [f"{n} ({t['measure']} {t['uncompressed']:.3g} uncompressed, {t['chance']:.3g} by "
                 "chance)" for n, t in track["tasks"].items() if t["judged"]]  # fmt: skip
        by = (
            "the images that judge chose the settings too"
            if track["chosen_by_the_images_that_judge"]
            else f"settings chosen by {track['images_that_choose']} others"
        )
        note = " **Fewer than 100 groups: an anecdote.**" if track["anecdote"] else ""
        kind = "real pictures" if track["reality"] else "drawn pictures"
        skipped = "".join(f" Left out: {k}: {v}." for k, v in track["skipped"].items())
        parts.append(
            f"**{track['track']}** ({kind}; {track['source']}): {', '.join(known)}. "
            f"{track['images_that_judge']} images in {track['groups_that_judge']} groups judge, "
            f"{by}.{note}{skipped} {run['device']}, foveal {run['foveal']}.\n\n"
            f"{table(head, rows(track, view, levels))}"
        )
    return "\n\n".join(parts)
