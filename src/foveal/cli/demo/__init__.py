"""`foveal demo`: the four stages on real input, and one page that shows them."""

from foveal.cli.demo.command import demo

__all__ = ["demo"]
