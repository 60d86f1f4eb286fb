"""The command line: one file per verb, heavy imports after the arguments were read."""

from foveal.cli.app import main

__all__ = ["main"]
