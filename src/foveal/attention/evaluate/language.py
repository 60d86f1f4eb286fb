"""Dense against sparse attention in a causal language model: KL, perplexity, density, seconds."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from foveal.attention.attach import Handle, attach
from foveal.attention.policy.base import Policy
from foveal.errors import ArgumentError, UnsupportedError
from foveal.receipt import Receipt

_POSITIONS_AT_ONCE = 128
_BLOCK = 64


@dataclass(frozen=True)
class LanguageComparison:
    """The same text read twice, with dense and with sparse attention.

    Attributes:
        kl: Mean of KL(dense || sparse) of the next-token distributions, nats per token.
        kl_standard_error: Its standard error over means of 64 consecutive positions, which are
            correlated. One text is an anecdote: this says nothing about other texts.
        dense_perplexity: Perplexity of the text under dense attention.
        sparse_perplexity: The same under sparse attention.
        same_top_fraction: Positions where both rank the same token first, in [0, 1].
        density: Kept fraction of token pairs, mean over layers and heads, in [0, 1].
        dense_seconds: Wall time of the dense pass, without the output projection to logits.
        sparse_seconds: The same for the sparse pass, without the loss measurement.
        dense_attention_seconds: Part of `dense_seconds` inside attention.
        sparse_attention_seconds: Part of `sparse_seconds` inside attention, selection included.
        num_tokens: Tokens read.
        receipt: Receipt of the sparse pass.
        block_map: Cells kept in one layer and head, for a picture.
        map_layer: Layer of `block_map`.
        map_head: Query head of `block_map`.
    """

    kl: float
    kl_standard_error: float
    dense_perplexity: float
    sparse_perplexity: float
    same_top_fraction: float
    density: float
    dense_seconds: float
    sparse_seconds: float
    dense_attention_seconds: float
    sparse_attention_seconds: float
    num_tokens: int
    receipt: Receipt
    block_map: Bool[Tensor, "n m"]
    map_layer: int
    map_head: int


@dataclass(frozen=True)
class Distance:
    """How far one model's predictions are from another's on the same tokens."""

    kl: float
    kl_standard_error: float
    dense_perplexity: float
    sparse_perplexity: float
    same_top_fraction: float


@torch.no_grad()
def read_states(
    model: Any, tokens: Int[Tensor, "1 s"], *, policy: Policy | None, seed: int = 0
) -> tuple[Float[Tensor, "s width"], Handle, float]:
    """Return the last hidden states of a text, the handle, and seconds without the measurement.

    Args:
        model: A transformers causal language model in eval mode.
        tokens: One sequence.
        policy: Chooses the cells; None is dense.
        seed: Seed of the query rows on which the receipt's loss is measured.
    """
    with attach(model, policy=policy, min_tokens=0, seed=seed) as handle:
        start = time.perf_counter()
        states = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        if states.device.type == "cuda":
            torch.cuda.synchronize(states.device)
        seconds = time.perf_counter() - start
    return states[0], handle, seconds - float(handle.receipt.details["measure_seconds"])


@torch.no_grad()
def compare_states(
    model: Any,
    tokens: Int[Tensor, "1 s"],
    dense: Float[Tensor, "s width"],
    sparse: Float[Tensor, "s width"],
) -> Distance:
    """Compare next-token distributions; attributes as those of `LanguageComparison`.

    Memory: logits of 128 positions at a time.
    """
    project = model.get_output_embeddings()
    kls: list[Tensor] = []
    losses: list[Tensor] = []
    same = 0
    last = tokens.shape[1] - 1
    for start in range(0, last, _POSITIONS_AT_ONCE):
        stop = min(start + _POSITIONS_AT_ONCE, last)
        p = torch.log_softmax(project(dense[start:stop]).float(), -1)
        q = torch.log_softmax(project(sparse[start:stop]).float(), -1)
        target = tokens[0, start + 1 : stop + 1, None]
        losses.append(torch.cat([p.gather(1, target), q.gather(1, target)], 1).neg().double())
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
        q.sub_(p).neg_()
        kls.append((p.exp_() * q).sum(-1).double())
    kl = torch.cat(kls)
    blocks = torch.stack([x.mean() for x in kl.split(_BLOCK)])
    mean_loss = torch.cat(losses).mean(0)
    return Distance(
        kl=float(kl.mean()),
        kl_standard_error=float(blocks.std() / math.sqrt(len(blocks))),
        dense_perplexity=float(mean_loss[0].exp()),
        sparse_perplexity=float(mean_loss[1].exp()),
        same_top_fraction=same / len(kl),
    )


@torch.no_grad()
def compare_language(
    model: Any,
    tokenizer: Any,
    text: str,
    *,
    policy: Policy,
    num_tokens: int = 4096,
    seed: int = 0,
    map_layer: int | None = None,
    map_head: int = 0,
    on_progress: Callable[[str], None] | None = None,
) -> LanguageComparison:
    """Read the first `num_tokens` tokens of a text with dense and with sparse attention.

    Both passes go through `attach` and end at the hidden states, and each is timed once after a
    short warm-up; logits are made for 128 positions at a time, so no (tokens, vocabulary) buffer
    exists.

    Args:
        model: A transformers causal language model in eval mode.
        tokenizer: Its tokenizer.
        text: Any text that is long enough.
        policy: Chooses the cells.
        num_tokens: Tokens to read, at least 128.
        seed: Seed of the query rows on which the receipt's loss is measured.
        map_layer: Layer of `block_map`; None takes the middle one.
        map_head: Query head of `block_map`.
        on_progress: Called with one line of text before each step.

    Raises:
        ArgumentError: the text is too short, or `num_tokens` below 128.
        UnsupportedError: the model post-processes its logits, or as `attach`.

    Cost: two prefills and two output projections. Memory beside the model: a few hidden states of
        the whole text, the feed-forward activations of one layer, and 64 to 200 MiB of work.
    """
    if num_tokens < 2 * _BLOCK:
        raise ArgumentError(
            f"compare_language: num_tokens is {num_tokens}, must be >= {2 * _BLOCK}; read more"
        )
    for name in ("final_logit_softcapping", "logits_scaling", "logit_scale"):
        if getattr(model.config, name, None) not in (None, 1, 1.0):
            raise UnsupportedError(
                f"compare_language: the model has {name}, must have none; logits would differ"
            )
    # A token takes one character at least, but rarely more than 16.
    ids = tokenizer(text[: 16 * num_tokens], add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) < num_tokens:
        raise ArgumentError(
            f"compare_language: text has {len(ids)} tokens, must have at least {num_tokens}; "
            "pass a longer text or a smaller num_tokens"
        )
    tokens = torch.tensor([ids[:num_tokens]], device=model.device)

    def say(what: str) -> None:
        if on_progress is not None:
            on_progress(what)

    say("warming up")
    for some in (None, policy):
        read_states(model, tokens[:, : min(256, num_tokens)], policy=some, seed=seed)
    say(f"reading {num_tokens} tokens with dense attention")
    dense, dense_handle, dense_seconds = read_states(model, tokens, policy=None, seed=seed)
    say(f"reading {num_tokens} tokens with sparse attention")
    sparse, handle, sparse_seconds = read_states(model, tokens, policy=policy, seed=seed)
    say("comparing the next-token distributions")
    distance = compare_states(model, tokens, dense, sparse)
    receipt = handle.receipt
    layer = model.config.num_hidden_layers // 2 if map_layer is None else map_layer
    return LanguageComparison(
        kl=distance.kl,
        kl_standard_error=distance.kl_standard_error,
        dense_perplexity=distance.dense_perplexity,
        sparse_perplexity=distance.sparse_perplexity,
        same_top_fraction=distance.same_top_fraction,
        density=handle.density,
        dense_seconds=dense_seconds,
        sparse_seconds=sparse_seconds,
        dense_attention_seconds=dense_handle.receipt.seconds,
        sparse_attention_seconds=receipt.seconds,
        num_tokens=num_tokens,
        receipt=receipt,
        block_map=handle.layouts(layer, head=map_head),
        map_layer=layer,
        map_head=map_head,
    )
