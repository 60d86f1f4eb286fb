"""`foveal bench`: how fast and how exact things are on this machine."""

import dataclasses
import platform
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from foveal import __version__
from foveal._core.files import write_json
from foveal.cli.bench_codec import CodecOptions, bench_codec
from foveal.cli.bench_lowlight import LowlightOptions, bench_lowlight
from foveal.cli.common import Json, Options, emit, parse_options, path_option
from foveal.errors import ArgumentError

T = TypeVar("T", int, float)


@dataclasses.dataclass(frozen=True)
class AttentionOptions:
    """Options of `foveal bench attention`; numbers in lists stand between commas."""

    tokens: str = ""
    densities: str = "0.05,0.1,0.25"
    heads: int = 32
    kv_heads: int = 8
    width: int = 128
    device: str = ""
    dtype: str = "bfloat16"
    seconds: float = 0.3
    full: bool = True


def bench(
    suite: Annotated[str, typer.Argument(help='"attention", "codec" or "lowlight".')],
    option: Options = None,
    out: Annotated[Path | None, path_option("--out", "Write the table as JSON here.")] = None,
    as_json: Json = False,
    track: Annotated[list[str] | None, typer.Option(help="codec: a track; again for more.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="codec: a learned codec.")] = None,
    anchors: Annotated[list[str] | None, typer.Option(help="codec: a pixel codec.")] = None,
    images: Annotated[int | None, typer.Option(help="codec: images a track, at most.")] = None,
    resume: Annotated[Path | None, path_option("--resume", "codec: where points are kept.")] = None,
) -> None:
    """Measure attention under the same masks, codecs for machines, or what is seen in the dark."""
    lists = {"track": track, "model": model, "anchors": anchors}
    given = {name: ",".join(x) for name, x in lists.items() if x}
    given |= {"images": str(images)} if images is not None else {}
    given |= {"resume": str(resume)} if resume is not None else {}
    option = [*(option or []), *(f"{name}={text}" for name, text in given.items())]
    if suite == "codec":
        emit(bench_codec(parse_options(CodecOptions, option), out, as_json), as_json, [])
        return
    if suite == "lowlight":
        emit(bench_lowlight(parse_options(LowlightOptions, option), out, as_json), as_json, [])
        return
    if suite != "attention":
        raise ArgumentError(
            f'bench: suite is {suite!r}, must be "attention", "codec" or "lowlight"; pick one'
        )
    options = parse_options(AttentionOptions, option)
    import torch

    from foveal.attention.evaluate.speed import Case, Timing, check_device, measure_speed

    found = "cuda" if torch.cuda.is_available() else "cpu"
    device = check_device(options.device or found)
    dtype: Any = getattr(torch, options.dtype, None)
    if dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise ArgumentError(
            f"-o dtype: dtype is {options.dtype!r}, must be float16, bfloat16 or float32; pick one"
        )
    default = "8192,32768" if device.type == "cuda" else "2048,4096"
    lengths = _numbers("tokens", options.tokens or default, int)
    rules = (True, False) if options.full else (True,)
    cases = [
        Case(n, causal, options.heads, options.kv_heads, options.width)
        for n in lengths
        for causal in rules
    ]
    rows: list[Timing] = []
    name = platform.processor() or platform.machine()
    where = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else name,
        "foveal": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "dtype": options.dtype,
        "timing": "median of calls with all that a call needs; effective speed of kept pairs",
    }
    for row in measure_speed(
        cases,
        densities=tuple(_numbers("densities", options.densities, float)),
        device=device,
        dtype=dtype,
        budget_seconds=options.seconds,
    ):
        rows.append(row)
        if not as_json:
            typer.echo(str(row))
        if out is not None:
            write_json(out, {**where, "rows": [dataclasses.asdict(x) for x in rows]})
    emit({**where, "rows": [dataclasses.asdict(x) for x in rows]}, as_json, [])


def _numbers(name: str, text: str, kind: type[T]) -> list[T]:
    try:
        return [kind(x) for x in text.split(",")]
    except ValueError as error:
        words = {int: "whole numbers", float: "numbers"}[kind]
        raise ArgumentError(
            f"-o {name}: {name} is {text!r}, must be {words} between commas; mend that"
        ) from error
