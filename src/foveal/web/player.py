"""A self-contained 3-D player of a motion clip: plain data in, one HTML fragment out."""

import html
import json
from pathlib import Path
from typing import Any

from foveal.errors import ArgumentError

_STYLE = """
.fvp{--bg:#f6f7f9;--ink:#1d2430;--line:#c9ced8;color:var(--ink);background:var(--bg);
border:1px solid var(--line);border-radius:10px;max-width:900px;font:14px system-ui,sans-serif;
overflow:hidden}
.fvp canvas{display:block;width:100%;height:min(60vh,440px);touch-action:none;cursor:grab}
.fvp .fvp-bar{display:flex;flex-wrap:wrap;gap:8px;align-items:center;padding:8px 12px}
.fvp .fvp-time{flex:1 1 140px;min-width:120px}.fvp input[type=range]{width:100%}
.fvp svg{display:block;width:100%;height:8px}.fvp button,.fvp select{font:inherit;color:inherit;
background:transparent;border:1px solid var(--line);border-radius:6px;padding:6px 10px}
@media(prefers-color-scheme:dark){.fvp{--bg:#171b22;--ink:#e8ecf2;--line:#3a4250}}
"""


def player_html(clip_data: dict[str, Any]) -> str:
    """Return an HTML fragment that plays a clip; several fit on one page, no request is made.

    Play, scrub, orbit by mouse or touch, speed, keyframe ticks, and the reference as a ghost.
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
    return (
        f'<div class="fvp"><style>{_STYLE}</style>'
        f'<div class="fvp-bar"><strong>{title}</strong><span>{status}</span></div>'
        f'<canvas role="img" aria-label="Animation: {title}"></canvas><div class="fvp-bar">'
        '<button type="button" class="fvp-play">Play</button>'
        '<div class="fvp-time"><input type="range" min="0" value="0" aria-label="Frame">'
        '<svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"></svg></div>'
        '<select aria-label="Speed"><option value="0.25">0.25x</option><option value="0.5">0.5x'
        '</option><option value="1" selected>1x</option><option value="2">2x</option></select>'
        '<label class="fvp-ghost"><input type="checkbox"> reference</label></div>'
        f'<script type="application/json">{data}</script><script>{script}</script></div>\n'
    )
