"""`foveal bench codec`: bytes of a codec for machines and of its anchors, at equal retention."""

import dataclasses
import json
import os
import platform
from pathlib import Path
from typing import Any

import typer

from foveal import __version__
from foveal._core.files import write_json
from foveal.cli.common import reporter
from foveal.errors import ArgumentError, MissingExtraError

SUITE = "codec"
SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class CodecOptions:
    """Options of `foveal bench codec`; names in lists stand between commas.

    Attributes:
        track: Of `foveal.codec.evaluate.tracks.NAMES`; empty: all of them. Those of real pictures
            come first.
        model: Learned codecs: packaged names or files; they are judged on the tracks that have
            their networks.
        images: Of each track, at most; 0: the track's own number.
        choosing: Images of another split that choose, of the drawn tracks.
        anchors: Pixel codecs: jpeg, webp, avif, jxl, x265.
        features: Measure feature anchors and labels where networks are cut.
        tasks: Of the drawn tracks.
        arch: Networks of the drawn tracks, "residual" or "separable".
        networks: File of these networks; empty: the packaged ones.
        training: Images that feature anchors are fitted to.
        qualities: Of learned codecs, 0 to 63.
        retention: At which bytes are compared.
        scales: Of the pixel codecs' images; empty: 1 to 1/8, six of them.
        resume: Folder where measured points are kept, and read from.
        workers: Processes that code pixels; 0: this one alone; -1: as many as there are cores.
        resamples: Of the intervals.
        payload: Print bytes without containers; the JSON has both.
        device: "cuda" or "cpu"; empty: what is there.
        seed: Of the resamples and of the words.
    """

    track: str = ""
    model: str = ""
    images: int = 0
    choosing: int = 200
    anchors: str = "jpeg,webp,avif,jxl,x265"
    features: bool = True
    tasks: str = "scene,segmentation,normal,reshading"
    arch: str = "residual"
    networks: str = ""
    training: int = 2000
    qualities: str = "0,7,14,21,28,35,42,49,56,63"
    retention: str = "0.9,0.95,0.99"
    scales: str = ""
    resume: str = ""
    workers: int = 0
    resamples: int = 1000
    payload: bool = False
    device: str = ""
    seed: int = 0


def _portable(options: CodecOptions) -> dict[str, Any]:
    """Return the options as they are written: of paths the names of files, and none of folders."""
    found = dataclasses.asdict(options)
    del found["resume"]
    for item in ("model", "networks"):
        found[item] = ",".join(Path(x.strip()).name for x in found[item].split(",") if x.strip())
    return found


def bench_codec(options: CodecOptions, out: Path | None, as_json: bool) -> dict[str, Any]:
    """Judge codecs track by track, real pictures first, and print a table of each.

    With `resume`, points that were measured are read, so that a bench that was stopped goes on.

    Raises: ArgumentError: an option has a bad value, or `out` holds something else.
    """
    import torch

    from foveal.cli.bench_lowlight import names, pick_device
    from foveal.codec.evaluate import pixel_anchors, report, tracks
    from foveal.codec.evaluate.bench import run_track
    from foveal.codec.evaluate.measure import Plan

    wanted = names("track", options.track, tracks.NAMES) or list(tracks.NAMES)
    anchors = names("anchors", options.anchors, pixel_anchors.CODECS)
    if options.workers < -1 or options.images < 0 or options.resamples < 1:
        raise ArgumentError(
            f"-o workers, images, resamples: are {options.workers}, {options.images}, "
            f"{options.resamples}, must be at least -1, 0 and 1; change them"
        )
    _check_out(out)
    device = pick_device(options.device)
    scales = _numbers("scales", options.scales) or list(pixel_anchors.SCALES)
    plan = Plan(
        anchors=tuple(anchors),
        features=options.features,
        models=_models(options.model, device),
        qualities=tuple(int(q) for q in _numbers("qualities", options.qualities)),
        levels=tuple(_numbers("retention", options.retention)),
        rungs=tuple(pixel_anchors.grid(anchors, scales=scales)),
        resamples=options.resamples,
        seed=options.seed,
        device=device,
        workers=(os.cpu_count() or 1) if options.workers < 0 else options.workers,
        folder=options.resume or None,
    )
    result: dict[str, Any] = {
        "suite": SUITE,
        "schema": SCHEMA,
        "foveal": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "versions": pixel_anchors.versions(),
        "settings": {c: pixel_anchors.SETTINGS[c] for c in anchors},
        "options": _portable(options),
        "models": {name: _about(name, model) for name, model in plan.models.items()},
        "intervals": f"95 %, {options.resamples} resamples of groups of images",
        "tracks": [],
        "left_out": {},
    }

    def tell(what: str, done: int, total: int | None) -> None:
        reporter(what)(done, total)

    for name in wanted:
        try:
            bundle = tracks.make(
                name,
                images=options.images or None,
                choosing=options.choosing,
                tasks=[x.strip() for x in options.tasks.split(",") if x.strip()],
                arch=options.arch,
                source=options.networks or None,
                training=options.training,
                device=device,
                seed=options.seed,
            )
        except MissingExtraError as error:
            result["left_out"][name] = str(error)
            if not as_json:
                typer.echo(f"{name}: left out: {error}")
            continue
        table = run_track(bundle, plan, progress=tell)
        result["tracks"] = report.in_order([*result["tracks"], table])
        if not as_json:
            typer.echo("\n".join(report.lines(table, payload=options.payload)))
        if out is not None:
            write_json(out, result)
    return result


def _models(text: str, device: Any) -> dict[str, Any]:
    from foveal.codec import load

    out: dict[str, Any] = {}
    for source in filter(None, (x.strip() for x in text.split(","))):
        name = Path(source).stem
        if name in out:
            raise ArgumentError(
                f"-o model: two models are called {name!r}, must have names of their own; rename a "
                "file"
            )
        out[name] = load(source, device=device)
    return out


def _about(name: str, model: Any) -> dict[str, Any]:
    return {
        "name": name,
        "model_id": model.model_id.hex(),
        "tasks": list(model.config.tasks),
        "layers": [layer.name for layer in model.config.layers],
        "priors": sorted({layer.prior for layer in model.config.layers}),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(x) for x in text.split(",") if x.strip()]
    except ValueError as error:
        raise ArgumentError(
            f"-o {name}: {name} is {text!r}, must be numbers between commas; mend that"
        ) from error


def _check_out(out: Path | None) -> None:
    """Refuse to write over another suite's table, which may hold hours of work."""
    if out is None or not out.exists():
        return
    try:
        found = json.loads(out.read_text())["suite"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        found = "none that can be read"
    if found != SUITE:
        raise ArgumentError(
            f"--out: {out} is there and its suite is {found!r}, must be {SUITE!r} to be written "
            "over; remove it or name another file"
        )
