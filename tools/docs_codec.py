"""Generated parts of the pages on the codec and on what it codes."""

from collections.abc import Callable
from typing import Any

import docs_tasks

Table = Callable[[list[str], list[list[str]]], str]


def parts(load: Callable[[str], Any], table: Table) -> dict[str, Callable[[], str]]:
    """Return what fills each mark."""
    return {"tasks_card": lambda: docs_tasks.card(load("tasks--h200"), table)}
