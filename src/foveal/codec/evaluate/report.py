"""Tables of the bench as lines: bytes never without the retention that they buy."""

from collections.abc import Mapping, Sequence
from typing import Any


def in_order(tables: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return tables with those of real pictures first."""
    return sorted(tables, key=lambda t: not t["reality"])


def lines(table: Mapping[str, Any], *, payload: bool = False) -> list[str]:
    """Return the lines of one track.

    Args:
        table: What `run_track` returned.
        payload: Bytes without containers, instead of those of files.
    """
    out = [_head(table), *_tasks(table)]
    out += [f"  left out: {codec}: {why}" for codec, why in table["skipped"].items()]
    names = dict.fromkeys(v["view"] for c in table["codecs"] for v in c["views"])
    for view in names:
        out += _view(table, view, "payload" if payload else "file")
    return out


def _head(table: Mapping[str, Any]) -> str:
    note = ", anecdote" if table["anecdote"] else ""
    by = (
        "settings chosen by the same images"
        if table["chosen_by_the_images_that_judge"]
        else f"settings chosen by {table['images_that_choose']} other images"
    )
    return (
        f"{table['track']}: {table['source']}; {table['images_that_judge']} images in "
        f"{table['groups_that_judge']} groups judge{note}; {by}"
    )


def _tasks(table: Mapping[str, Any]) -> list[str]:
    return [
        f"  {name}: {task['measure']} {task['uncompressed']:.4g} uncompressed, "
        f"{task['chance']:.4g} by chance"
        + ("" if task["judged"] else "; not judged, the network knows no more than chance")
        for name, task in table["tasks"].items()
    ]


def _view(table: Mapping[str, Any], view: str, kind: str) -> list[str]:
    rows = [
        (codec["codec"], row)
        for codec in table["codecs"]
        for row in codec["views"]
        if row["view"] == view and row["bytes"] == kind
    ]
    if not rows:
        return []
    levels = [cell["retention"] for cell in rows[0][1]["at"]]
    head = "".join(f"{f'at {100 * level:g} %':>26}" for level in levels)
    out = [f"  {view}, bytes of a {kind} at retention".ljust(40) + head]
    for codec, row in rows:
        cells = "".join(f"{_bytes(cell['bytes']):>26}" for cell in row["at"])
        out.append(f"    {codec}".ljust(40) + cells + _beside(row))
    return out


def _bytes(figure: Mapping[str, Any]) -> str:
    """Return a figure with its interval, or that it is not reached."""
    if figure["value"] is None:
        return "not reached"
    low, high = ("open" if figure[end] is None else f"{figure[end]:.0f}" for end in ("low", "high"))
    return f"{figure['value']:.0f} ({low} to {high})"


def _beside(row: Mapping[str, Any]) -> str:
    if "bd_rate" not in row:
        return ""
    times = [
        f"{cell['times_fewer_than_pixels']['value']:.2f}x at {100 * cell['retention']:g} %"
        for cell in row["at"]
        if cell["times_fewer_than_pixels"]["value"] is not None
    ]
    rate = row["bd_rate"]
    if rate["percent"] is None:
        text = f"no BD-rate: {rate['reason']}"
    else:
        text = f"BD-rate {rate['percent']:+.1f} % (overlap {100 * rate['overlap']:.0f} %)"
    fewer = f"fewer than pixels: {', '.join(times)}; " if times else ""
    return f"  {fewer}{text}"
