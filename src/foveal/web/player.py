"""A self-contained 3-D player of a motion clip: plain data in, one HTML fragment out."""

import html
import json
from pathlib import Path
from typing import Any

from foveal.errors import ArgumentError

_STYLE = """
.fvp{--bg:#f6f7f9;--ink:#1d2430;--soft:#5b6676;--line:#c9ced8;--bad:#b3261e;--left:#2f74c6;
--right:#c9581b;color:var(--ink);background:var(--bg);border:1px solid var(--line);
border-radius:10px;max-width:900px;font:14px system-ui,sans-serif;overflow:hidden}
.fvp canvas{display:block;width:100%;height:min(60vh,440px);touch-action:pan-y;cursor:grab}
.fvp .fvp-bar{display:flex;flex-wrap:wrap;gap:8px 10px;align-items:center;padding:8px 12px}
.fvp .fvp-status{border:1px solid var(--line);border-radius:99px;padding:1px 9px;font-size:12px;
color:var(--soft)}.fvp .fvp-fell{color:var(--bad);border-color:currentColor}
.fvp .fvp-clock{margin-left:auto;color:var(--soft);font-variant-numeric:tabular-nums}
.fvp .fvp-time{flex:1 1 150px;min-width:120px}.fvp input[type=range]{width:100%;margin:0}
.fvp svg{display:block;width:calc(100% - 16px);height:14px;margin:2px 8px 0}
.fvp button,.fvp select{font:inherit;color:inherit;background:transparent;
border:1px solid var(--line);border-radius:6px;padding:6px 10px;min-height:34px}
.fvp .fvp-play{min-width:68px}.fvp option{color:#1d2430;background:#fff}
.fvp .fvp-ghost{display:inline-flex;align-items:center;gap:6px;min-height:34px}
.fvp .fvp-ghost[hidden]{display:none}.fvp input[type=checkbox]{margin:0}
@media(prefers-color-scheme:dark){.fvp{--bg:#171b22;--ink:#e8ecf2;--soft:#a3aebd;--line:#3a4250;
--bad:#ff8a80;--left:#5b9ae6;--right:#e8834a;color-scheme:dark}.fvp option{color:#e8ecf2;
background:#171b22}}
"""


def player_html(clip_data: dict[str, Any]) -> str:
    """Return an HTML fragment that plays a clip; several fit on one page, no request is made.

    Play, scrub, orbit by mouse or touch, speed, keyframe ticks, bars of the planned contacts (left,
    right), and the reference as a ghost.
    With `prefers-reduced-motion` it starts paused.

    Args:
        clip_data: What `Clip.to_player()` returns.

    Raises:
        ArgumentError: a needed entry is missing.
    """
    for name in ("title", "status", "fps", "keyframes", "shapes", "tracks"):
        if name not in clip_data:
            raise ArgumentError(
                f"player_html: clip_data has no {name!r}, must be what Clip.to_player() returns"
            )
    # "<" is escaped so that no text can end the script element.
    data = json.dumps(clip_data, separators=(",", ":")).replace("<", "\\u003c")
    script = Path(__file__).with_name("player.js").read_text(encoding="utf-8")
    title, status = (html.escape(str(clip_data[key])) for key in ("title", "status"))
    fell = " fvp-fell" if str(clip_data["status"]).startswith("fell") else ""
    return (
        f'<div class="fvp"><style>{_STYLE}</style>'
        f'<div class="fvp-bar"><strong>{title}</strong>'
        f'<span class="fvp-status{fell}">{status}</span><span class="fvp-clock"></span></div>'
        f'<canvas role="img" aria-label="Animation: {title}"></canvas><div class="fvp-bar">'
        '<button type="button" class="fvp-play">Play</button>'
        '<div class="fvp-time"><input type="range" min="0" value="0" aria-label="Frame">'
        '<svg viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true"></svg></div>'
        '<select aria-label="Speed"><option value="0.25">0.25x</option><option value="0.5">0.5x'
        '</option><option value="1" selected>1x</option><option value="2">2x</option></select>'
        '<label class="fvp-ghost"><input type="checkbox"> reference</label></div>'
        f'<script type="application/json">{data}</script><script>{script}</script></div>\n'
    )
