"""Generated parts of the pages on the codec and on what it codes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import docs_codec_bench
import docs_codec_study as study
import docs_tasks

Table = Callable[[list[str], list[list[str]]], str]


def parts(results: Path, load: Callable[[str], Any], table: Table) -> dict[str, Callable[[], str]]:
    """Return what fills each mark."""

    def tasks(write: Callable[[Any, Table], str]) -> Callable[[], str]:
        return lambda: write(load("codec-tasks--h200"), table)

    return {
        "tasks_card": lambda: docs_tasks.card(load("tasks--h200"), table),
        "codec_schemes": tasks(study.schemes),
        "codec_priors": tasks(study.priors),
        "codec_equal_latents": tasks(study.equal_latents),
        "codec_external": tasks(study.external),
        "codec_external_of_chosen": tasks(study.external_of_chosen),
        "codec_external_of_four": tasks(study.external_of_four),
        "codec_second": tasks(study.second),
        "codec_subsets": tasks(study.subsets),
        "codec_transfer": tasks(study.transfer),
        "codec_alone": tasks(study.alone),
        "codec_orders": lambda: study.orders(load("codec-orders--cpu"), table),
        "codec_devices": lambda: study.devices(load("codec-devices--h200"), table),
        "codec_fuzz": lambda: study.fuzz(load("codec-fuzz--cpu")),
        "codec_bench": lambda: docs_codec_bench.bench(results, table),
        "codec_card": lambda: study.card(load("codec-lite0--h200"), table),
    }
