"""`foveal bench lowlight`: what your recogniser sees in the dark, by each way to brighten."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from foveal import __version__
from foveal._core.files import write_json
from foveal._core.formats import IMAGE_SUFFIXES
from foveal.cli.common import reporter
from foveal.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class LowlightOptions:
    """Options of `foveal bench lowlight`; names in lists stand between commas.

    Attributes:
        photos: Folder of daylight photographs; empty: the packaged ones of the evaluation split.
        teacher: A recogniser of `foveal.teachers.registry`.
        curves: Curves to judge: names of packaged weights or files.
        baselines: Enhancers to compare with, of `foveal.lowlight.baselines.BASELINES`.
        most: Photographs, or crops of a classifier's photographs, at most.
        shorter_side: In pixels, to which larger photographs are made smaller first.
        draws: Noise draws a picture.
        device: "cuda" or "cpu"; empty: what is there.
        seed: Of the noise.
    """

    photos: str = ""
    teacher: str = "efficientnet-lite0"
    curves: str = "sacc-efficientnet-lite0"
    baselines: str = "target-gamma,clahe,lime,fusion,random-curve"
    most: int = 300
    shorter_side: int = 512
    draws: int = 5
    device: str = ""
    seed: int = 0


def bench_lowlight(options: LowlightOptions, out: Path | None, as_json: bool) -> dict[str, Any]:
    """Measure, print, write; a table that was broken off goes on darkness by darkness."""
    import torch

    from foveal.data.sensor_noise import TRIPLES
    from foveal.lowlight import ConcaveCurve, baselines
    from foveal.lowlight.evaluate import disjoint_crops, evaluate, is_detector
    from foveal.teachers import registry

    for name in ("most", "draws", "shorter_side"):
        if getattr(options, name) < 1:
            raise ArgumentError(f"-o {name}: {name} is {getattr(options, name)}, must be >= 1")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    where = {"foveal": __version__, "torch": torch.__version__, **dataclasses.asdict(options)}
    where["device"] = torch.cuda.get_device_name() if device.startswith("cuda") else device
    known: list[dict[str, Any]] = []
    if out is not None and out.exists():
        before = _read(out)
        if {k: before.get(k) for k in where} != where:
            raise ArgumentError(
                f"--out: {out} holds a table of other options, must be of these to go on; "
                "remove it or name another file"
            )
        known = before["rows"]
    methods: dict[str, Callable[[Any], Any]] = {
        name.strip(): ConcaveCurve.load(name.strip()).to(device)
        for name in options.curves.split(",")
        if name.strip()
    }
    for name in filter(None, (x.strip() for x in options.baselines.split(","))):
        made = baselines.make(name)
        methods[name] = made.to(device) if isinstance(made, torch.nn.Module) else made
    teacher = registry.load(options.teacher).to(device)
    photos = _photos(options.photos, options.shorter_side)
    if is_detector(teacher):
        shown = [x for x, _ in zip(photos, range(options.most), strict=False)]
        groups = list(range(len(shown)))
    else:
        shown, groups = disjoint_crops(photos, teacher.size, most=options.most)
    rows = list(known)
    done = {tuple(row["triple"]) for row in known}
    left = [t for t in TRIPLES if t not in done]

    def tell(triple: Any, i: int) -> None:
        reporter(f"k {triple[0]} shot {triple[1]}")(i + 1, len(shown))

    results = evaluate(
        teacher,
        [x.to(device) for x in shown],
        groups,
        methods,
        triples=left,
        draws=options.draws,
        seed=options.seed,
        on_picture=tell,
    )
    for table in results if left else ():
        for row in table:
            rows.append(dataclasses.asdict(row))
            if not as_json and not row.method.startswith("reciprocal"):
                typer.echo(str(row))
        if out is not None:
            write_json(out, {**where, "pictures": len(shown), "rows": rows})
    return {**where, "pictures": len(shown), "rows": rows}


def _read(out: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(out.read_text())
        return {**found, "rows": list(found["rows"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ArgumentError(
            f"--out: {out} is there and holds no table of this suite, must do so to go on; "
            "remove it or name another file"
        ) from error


def _photos(folder: str, shorter_side: int) -> Iterator[Any]:
    """Yield daylight photographs: of a folder, or of the packaged evaluation split."""
    from torch.nn.functional import interpolate

    from foveal.lowlight import read_image

    if not folder:
        from foveal.data.photographs import evaluation_photographs

        yield from evaluation_photographs(shorter_side=shorter_side)
        return
    path = Path(folder)
    if not path.is_dir():
        raise ArgumentError(f"-o photos: photos is {folder}, must be a folder of photographs")
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise ArgumentError(f"-o photos: photos is {folder}, which holds no image; name another")
    for file in files:
        image = read_image(file)
        scale = shorter_side / min(image.shape[1:])
        if scale < 1:
            size = [round(x * scale) for x in image.shape[1:]]
            image = interpolate(image[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)
        yield image
