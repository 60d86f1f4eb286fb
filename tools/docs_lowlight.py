"""Generated parts of the pages on low light."""

from collections.abc import Callable
from typing import Any

import docs_action
import docs_align
import docs_motion_models

Table = Callable[[list[str], list[list[str]]], str]


def parts(load: Callable[[str], Any], table: Table) -> dict[str, Callable[[], str]]:
    """Return what fills each mark of the pages, and of the cards of both models of motion."""
    return {
        "lowlight_speed": lambda: speed(load("lowlight_speed--cpu"), table),
        "align_speed": lambda: align_speed(load("align_speed--cpu")),
        "aligned_card": lambda: docs_align.card(load("align--h200"), table),
        "action_card": lambda: docs_action.card(
            load("action--h200"), load("action_lowlight--h200"), table
        ),
        "flow_card": lambda: docs_motion_models.flow_card(
            load("flow--h200"), load("flow_lowlight--h200"), table
        ),
    }


def align_speed(suite: Any) -> str:
    """How long one alignment takes."""
    return (
        f"{suite['dark_photographs']} photographs for {suite['teacher']} by the {suite['method']}: "
        f"{suite['seconds']:.0f} s, {suite['seconds_of_labels']} s of them for the labels "
        f"({suite['num_steps']} steps of {suite['batch_size']}; {suite['machine']}, torch "
        f"{suite['torch']}, commit `{suite['commit']}`)."
    )


def speed(suite: Any, table: Table) -> str:
    """Times of the curve on one frame and on a clip."""
    rows = [
        [
            r["path"],
            str(r["bits"]),
            f"{r['error_levels']:.1g}" if r["error_levels"] < 0.1 else f"{r['error_levels']:.2f}",
            "{median:.1f} ({low:.1f} to {high:.1f})".format(**r["ms"]),
            f"{1e3 / r['ms']['median']:.0f}",
            f"{r['cpu_ms']:.1f}",
            f"{r['load']:.1f}",
        ]
        for r in suite["frames"]
    ]
    head = ["path", "bits", "largest error, levels", "ms (quartiles)", "frames/s"]
    head += ["CPU ms", "load"]
    clips = [
        [
            r["curve"],
            r["preset"],
            f"{r['frames_per_s']:.1f}",
            f"{r['cpu_ms_per_frame']:.0f}",
            f"{r['bytes'] / 1e6:.1f}",
            f"{r['load']:.1f}",
        ]
        for r in suite["videos"]
    ]
    second = table(
        ["curve", "x264 preset", "frames/s", "CPU ms a frame", "megabytes", "load"], clips
    )
    count = suite["videos"][0]["frames"]
    return (
        f"{table(head, rows)}\n\n"
        "An error of up to 0.5 levels is the rounding to integers; of floats it is in [0, 1]. "
        f"Decode, curve and encode of {count} frames, both passes:\n\n{second}\n\n"
        f"1920 x 1080; {suite['device']}, shared with other work (load: of the last minute; "
        "CPU: of all threads, which waits for nobody); "
        f"commit `{suite['commit'][:7]}`."
    )
