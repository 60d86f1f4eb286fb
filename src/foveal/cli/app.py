"""Build the command line and turn errors into one line and exit code 2."""

import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from foveal import __version__
from foveal.cli import (
    bench,
    codec,
    demo,
    doctor,
    enhance,
    export,
    move,
    run,
    samples,
    train,
)
from foveal.errors import FovealError

_STOPPED = 130
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # it has no public name

app = typer.Typer(
    name="foveal",
    help="Light, bits, attention and keyframes, spent only where they matter.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("enhance")(enhance.enhance)
app.command("export")(export.export)
app.command("encode")(codec.encode)
app.command("decode")(codec.decode)
app.command("inspect")(codec.inspect)
app.command("extract")(codec.extract)
app.command("move")(move.move)
app.command("run")(run.run)
app.command("train")(train.train)
app.command("demo")(demo.demo)
app.command("bench")(bench.bench)
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
        code = app(standalone_mode=False)
    except FovealError as error:
        _fail(str(error))
    except _UsageError as error:
        usage: Any = error
        if type(error).__name__ == "NoArgsIsHelpError":
            usage.show()
            sys.exit(2)
        _fail(f"{usage.format_message().rstrip('.')}; see foveal --help")
    except (KeyboardInterrupt, typer.Abort):
        code = _STOPPED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a disk or a file that failed where no stage names it better
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}")
    if code == _STOPPED:
        typer.echo("foveal: stopped", err=True)
    sys.exit(code)


def _fail(message: str) -> NoReturn:
    typer.echo(f"foveal: {' '.join(message.split())}", err=True)
    sys.exit(2)
