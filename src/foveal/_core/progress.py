"""Progress on long work: a bar on a terminal, nothing elsewhere."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def is_quiet() -> bool:
    """Return True when standard error is not a terminal."""
    return not sys.stderr.isatty()


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield the items of `iterable`, with a bar on standard error if that is a terminal."""
    if is_quiet():
        yield from iterable
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(
        iterable,
        description=description,
        total=total,
        console=Console(stderr=True),
        transient=True,
    )
