"""The page of the demo."""

import html
from typing import Any

from foveal.cli.demo.act import INSTRUCTION, Act
from foveal.cli.demo.see import See
from foveal.cli.demo.send import Send
from foveal.cli.demo.think import Think
from foveal.receipt import Receipt, percent
from foveal.web import page as web
from foveal.web.player import player_html

_UNITS = {
    "foot_skate": ", m/s",
    "jerk": ", m/s³",
    "ground_penetration": ", m",
    "tracking_error": ", m",
    "limit_violation": ", rad",
    "skate_fraction": " of the frames in contact",
    "penetration_mean": ", m",
    "contact_float": ", m",
    "contact_float_max": ", m",
    "jerk_p95": ", m/s³",
    "com_distance": ", m",
    "com_margin": ", m",
    "zmp_distance": ", m",
    "zmp_margin": ", m",
    "residual": ", of the weight",
    "residual_p95": ", of the weight",
}
_COLOURS = ("#d04a35", "#2f9e5b", "#2f6fd0", "#0b6e6e", "#b4791a")


def _big(*pairs: tuple[str, str]) -> str:
    items = "".join(
        f"<li><b>{html.escape(value)}</b><span>{html.escape(name)}</span></li>"
        for value, name in pairs
    )
    return f'<ul class="big">{items}</ul>'


def _receipt(receipt: Receipt) -> str:
    return f'<p class="receipt">{html.escape(str(receipt))}</p>'


def _see(r: See) -> str:
    levels = r.curve.shape[-1]
    series = [
        (name, colour, [(k / (levels - 1), float(r.curve[c, k])) for k in range(0, levels, 3)])
        for c, (name, colour) in enumerate(zip(("red", "green", "blue"), _COLOURS, strict=False))
    ]
    series.append(("identity", "#8a93a0", [(0.0, 0.0), (1.0, 1.0)]))
    gain = r.interval
    rows = [(name, f"{value:.1%}") for name, value in r.agreement.items()]
    photos = "".join(
        web.slider(web.data_uri(a), web.data_uri(b), caption=f"Held-out photograph {k + 1}")
        for k, (a, b) in enumerate(r.photos)
    )
    return (
        "<section><h2>See</h2><p>A street clip and twenty photographs are darkened as a calibrated "
        "sensor would record them, then brightened by one concave curve a channel. The curve was "
        "learned without labels for a frozen recogniser; the clip gets one curve, so it does not "
        "flicker.</p>"
        + _big(
            (f"{r.agreement['dark']:.0%}", "agreement with daylight, dark"),
            (f"{r.agreement['concave curve']:.0%}", "with the concave curve"),
            (
                f"{gain['mean']:+.1%}",
                f"gain, 95 % interval {gain['low']:+.1%} to {gain['high']:+.1%}",
            ),
        )
        + web.slider(web.data_uri(r.before), web.data_uri(r.after), caption="Frame of the clip")
        + '<div class="two"><div><h3>The learned curve of the clip</h3>'
        + web.line_plot(series, x_label="input level", y_label="output level")
        + "</div><div><h3>Same answer as in daylight</h3>"
        + web.table(("input", "agreement"), rows)
        + f'<p class="note">{r.num_draws} draws of 20 photographs; fewer than 100 photographs are '
        "an anecdote.</p></div></div>"
        + f'<h3>Photographs</h3><div class="two">{photos}</div>'
        + _receipt(r.receipt)
        + "</section>"
    )


def _send(r: Send) -> str:
    series = [
        (name.upper() + " (best settings)", colour, line)
        for (name, line), colour in zip(r.ladder.items(), _COLOURS[2:], strict=False)
    ]
    series.append(("Foveal feature stream", _COLOURS[0], [r.ours]))
    best = r.best_pixel
    other = (
        (
            f"{best['bytes']:.0f} B",
            f"{best['format'].upper()} of {best['size']} px at that retention",
        )
        if best
        else ("none", "of the pixel settings reached that retention")
    )
    return (
        "<section><h2>Send</h2><p>What the recogniser computes half-way is coded instead of the "
        "picture: a codebook hyperprior, integer tables and rANS. The stream was written here and "
        f"decoded in another process. Its quality, {r.quality} of 0 to 63, was chosen for about "
        f"{r.target_bytes} bytes an image on other photographs.</p>"
        + _big(
            (f"{r.ours[0]:.0f} B", "an image"),
            (f"{r.ours[1]:.0%}", "same top answer as without coding"),
            other,
        )
        + web.line_plot(
            series, x_label="bytes an image", y_label="same top answer", log_x=True, width=640
        )
        + _receipt(r.receipt)
        + "</section>"
    )


def _think(r: Think) -> str:
    c = r.comparison
    rows = [
        ("perplexity", f"{c.dense_perplexity:.3f}", f"{c.sparse_perplexity:.3f}"),
        ("token pairs read", "100 %", f"{c.density:.1%}"),
        (
            "seconds in attention",
            f"{c.dense_attention_seconds:.2f}",
            f"{c.sparse_attention_seconds:.2f}",
        ),
        ("seconds in all", f"{c.dense_seconds:.2f}", f"{c.sparse_seconds:.2f}"),
    ]
    return (
        f"<section><h2>Think</h2><p>A language model (SmolLM2-135M) reads {c.num_tokens} tokens of "
        "prose. XAttention scores blocks by their antidiagonals and reads only those that "
        "matter.</p>"
        + _big(
            (f"{c.density:.0%}", "of the token pairs are read"),
            (f"{c.kl:.4f}", f"KL of the next token, nats, ± {c.kl_standard_error:.4f}"),
            (f"{c.same_top_fraction:.1%}", "positions with the same first choice"),
        )
        + '<div class="two"><div>'
        + web.block_map(
            c.block_map.tolist(),
            causal=True,
            caption=f"Blocks of 64 x 64 tokens that layer {c.map_layer}, head {c.map_head} reads",
        )
        + "</div><div>"
        + web.table(("", "dense", "sparse"), rows)
        + f'<p class="note">{html.escape(r.policy)}. One text is an anecdote.</p></div></div>'
        + _receipt(r.receipt)
        + "</section>"
    )


def _act(r: Act) -> str:
    rows = [
        (
            name.replace("_", " ") + _UNITS.get(name, ""),
            f"{value:.4g}" if isinstance(value, float) else str(value),
        )
        for name, value in r.score.items()
        if not isinstance(value, dict | list)
    ]
    checks = ", ".join(
        f"{name} {'passed' if passed else 'FAILED'}"
        for name, passed in r.score["predicates"].items()
    )
    return (
        f"<section><h2>Act</h2><p>Instruction: <em>{html.escape(INSTRUCTION)}</em>. A scripted "
        "provider decides the keyframes, in-fill and contact-pinned kinematics join them, and "
        "sampled control makes a simulated figure follow. No motion data is used.</p>"
        + _big(
            (f"{r.receipt.spent:.0f}", "keyframes decided"),
            (f"{r.receipt.full:.0f}", "frames delivered"),
            (r.status, "status of the simulation"),
        )
        + player_html(r.player)
        + f"<p>Checks of what was asked: {html.escape(checks)}.</p>"
        + web.table(("measure", "value"), rows)
        + _receipt(r.receipt)
        + "</section>"
    )


def report_html(
    see: See, send: Send, think: Think, act: Act, *, facts: dict[str, Any], notice: str
) -> str:
    """Return the self-contained page."""
    rows = [
        (
            name,
            str(r.receipt.unit),
            percent(r.receipt.spent_fraction),
            f"{r.receipt.loss:.4g}" if r.receipt.loss is not None else "not measured",
            f"{r.receipt.seconds:.1f}",
            r.receipt.loss_metric,
        )
        for name, r in (("see", see), ("send", send), ("think", think), ("act", act))
    ]
    total = sum(r.receipt.seconds for r in (see, send, think, act))
    versions = ", ".join(f"{k} {v}" for k, v in facts.items() if isinstance(v, str))
    body = (
        "<h1>Foveal: spent only where it matters</h1>"
        '<p class="lead">Four stages on real input, on this machine. The losses, bytes '
        "and seconds below were measured in this run; the full price of seeing is a published "
        "count.</p>"
        + web.table(("stage", "unit", "spent of full", "loss", "seconds", "what the loss is"), rows)
        + f'<p class="note">{total:.0f} s in all. {html.escape(versions)}.</p>'
        + _see(see)
        + _send(send)
        + _think(think)
        + _act(act)
        + f'<section><h2>Notice</h2><p class="note">{html.escape(notice)}</p></section>'
    )
    return web.page("Foveal demo", body)
