"""Build the command line and turn errors into one line and exit code 2."""

import os
import sys
from typing import Annotated

import typer

from foveal import __version__
from foveal.cli import codec, demo, doctor, enhance, move, run, samples
from foveal.errors import FovealError

app = typer.Typer(
    name="foveal",
    help="Light, bits, attention and keyframes, spent only where they matter.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("enhance")(enhance.enhance)
app.command("encode")(codec.encode)
app.command("decode")(codec.decode)
app.command("inspect")(codec.inspect)
app.command("move")(move.move)
app.command("run")(run.run)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(samples.app, name="samples")


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Light, bits, attention and keyframes, spent only where they matter."""


def main() -> None:
    """Run the command line; a `FovealError` becomes one line on standard error and exit code 2."""
    try:
        app()
    except FovealError as error:
        typer.echo(f"foveal: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("foveal: stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
