"""Think: a language model reads a long text, dense and block sparse."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from foveal import attention
from foveal._core.files import write_json
from foveal.attention.evaluate.language import LanguageComparison, compare_language
from foveal.data import texts
from foveal.receipt import Receipt
from foveal.teachers import smollm2


@dataclass(frozen=True, slots=True)
class Think:
    """What the page needs."""

    receipt: Receipt
    comparison: LanguageComparison
    policy: str


def think(
    out: Path, *, seed: int, num_tokens: int, on_progress: Callable[[str], None] | None = None
) -> Think:
    """Read the text twice and compare the next-token distributions."""
    start = time.perf_counter()
    model, tokenizer = smollm2.load()
    policy = attention.XAttention()
    result = compare_language(
        model,
        tokenizer,
        texts.long_text(),
        policy=policy,
        num_tokens=num_tokens,
        seed=seed,
        on_progress=on_progress,
    )
    figures = {
        "tokens": result.num_tokens,
        "kl_nats": result.kl,
        "kl_standard_error": result.kl_standard_error,
        "dense_perplexity": result.dense_perplexity,
        "sparse_perplexity": result.sparse_perplexity,
        "same_top_fraction": result.same_top_fraction,
        "density": result.density,
        "dense_seconds": result.dense_seconds,
        "sparse_seconds": result.sparse_seconds,
        "dense_attention_seconds": result.dense_attention_seconds,
        "sparse_attention_seconds": result.sparse_attention_seconds,
        "policy": repr(policy),
    }
    write_json(out / "language.json", figures)
    receipt = replace(
        result.receipt,
        seconds=time.perf_counter() - start,
        details={**result.receipt.details, **figures, "anecdote": "one text"},
    )
    return Think(receipt, result, repr(policy))
