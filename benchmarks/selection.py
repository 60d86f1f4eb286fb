"""Which cells policies keep: density against output error on real queries and keys.

    python benchmarks/selection.py [--tokens 8192] [--out FILE]

Q, K and V of five layers of SmolLM2-135M reading one long text. Every policy is compared with the
smallest cells that hold a fraction of the *exact* attention mass ("oracle") and with random cells.
Then planted slashes: single-token diagonals at odd and at even distances, and how often the cell
that holds one is among the four heaviest of its row (chance is printed beside). Ten minutes on two
cores. No times: see `benchmarks/cpu_speed.py`.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from precision import capture, environment
from torch import Tensor

from foveal.attention import (
    BlockLayout,
    Policy,
    Sparge,
    Window,
    XAttention,
    attend,
    block_sparse_attention,
)
from foveal.attention.score import block_mass

FILE = Path(__file__).parent / "results" / "selection--cpu.json"
ROWS_AT_ONCE = 512


def policies() -> Iterator[tuple[str, Policy]]:
    """Yield the settings compared."""
    for alternate in (True, False):
        for stride in (4, 8, 16):
            for threshold in (0.5, 0.7, 0.8, 0.9, 0.95):
                yield (
                    "xattention" if alternate else "xattention, published residue",
                    XAttention(stride=stride, threshold=threshold, alternate=alternate),
                )
    for threshold in (0.5, 0.7, 0.8, 0.9, 0.95):
        yield "sparge", Sparge(threshold=threshold)
    for top_k in (0.1, 0.2, 0.3, 0.5):
        yield "sparge, top-k", Sparge(top_k=top_k)
    for window in (512, 1024, 2048):
        yield "window", Window(sink=64, window=window)


def exact_mass(q: Tensor, k: Tensor) -> Tensor:
    """Attention mass per cell, (1, h, n, m), from exact causal attention, some rows at a time."""
    _, h, s, d = q.shape
    group = h // k.shape[1]
    out = torch.zeros(1, h, s // 64, s // 64)
    columns = torch.arange(s)
    for head in range(h):
        for first in range(0, s, ROWS_AT_ONCE):
            rows = torch.arange(first, first + ROWS_AT_ONCE)
            logits = q[0, head, rows] @ k[0, head // group].T / math.sqrt(d)
            weights = torch.softmax(logits.masked_fill(columns > rows[:, None], -math.inf), -1)
            cells = weights.unflatten(1, (-1, 64)).sum(2).unflatten(0, (-1, 64)).sum(1)
            out[0, head, first // 64 : (first + ROWS_AT_ONCE) // 64] = cells
    return out


def forced(n: int) -> Tensor:
    """The cells that every layout here keeps: the first and the diagonal."""
    kept = torch.eye(n, dtype=torch.bool)
    kept[:, 0] = True
    return kept


def oracle(mass: Tensor, threshold: float) -> Tensor:
    """The fewest cells of each row that hold `threshold` of its exact mass."""
    must = forced(mass.shape[2])
    ranked, order = mass.masked_fill(must, 0.0).sort(-1, descending=True)
    before = (mass * must).sum(-1, keepdim=True) + ranked.cumsum(-1) - ranked
    take = (before < threshold * mass.sum(-1, keepdim=True)) & (ranked > 0)
    return torch.zeros_like(take).scatter_(-1, order, take) | must


def at_random(kept: Tensor, generator: torch.Generator) -> Tensor:
    """Random cells, as many per row as `kept` has."""
    n = kept.shape[2]
    lower = torch.ones(n, n, dtype=torch.bool).tril()
    keys = torch.rand(kept.shape, generator=generator)
    keys = keys.masked_fill(~lower, -1).masked_fill(forced(n), 2)
    ranks = keys.argsort(-1, descending=True).argsort(-1)
    return (ranks < kept.sum(-1, keepdim=True)) & lower


def measure(
    tensors: tuple[Tensor, Tensor, Tensor], layout: BlockLayout, mass: Tensor, dense: Tensor
) -> dict[str, float]:
    """Density, kept share of the exact mass, and error of the output."""
    out = block_sparse_attention(*tensors, layout)
    kept = layout.to_bool()
    error = (out - dense).flatten(2).norm(dim=2) / dense.flatten(2).norm(dim=2)
    return {
        "density": layout.density,
        "mass": float((mass * kept).sum() / mass.sum()),
        "error": float(error.mean()),
    }


def real(num_tokens: int) -> list[dict[str, Any]]:
    """Rows of the comparison on a model's tensors, one per setting, averaged over layers."""
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    generator = torch.Generator().manual_seed(0)
    for name, tensors in capture(num_tokens).items():
        q, k, _ = tensors
        dense = attend(*tensors)
        mass = exact_mass(q, k)
        rule = {"num_queries": num_tokens, "num_keys": num_tokens}
        for kind, policy in policies():
            layout = policy.layout(q, k)
            rows.setdefault((kind, repr(policy)), []).append(measure(tensors, layout, mass, dense))
            if kind == "xattention" and policy.stride == 8:  # pyright: ignore
                kept = at_random(layout.to_bool(), generator)
                found = measure(tensors, BlockLayout.from_bool(kept, **rule), mass, dense)
                rows.setdefault(("random", f"as many as {policy!r}"), []).append(found)
        for threshold in (0.7, 0.8, 0.9, 0.95, 0.98):
            layout = BlockLayout.from_bool(oracle(mass, threshold), **rule)
            found = measure(tensors, layout, mass, dense)
            rows.setdefault(("oracle", f"{threshold} of the exact mass"), []).append(found)
        sys.stderr.write(f"{name} done\n")
    return [
        {
            "kind": kind,
            "setting": setting,
            **{key: sum(x[key] for x in found) / len(found) for key in found[0]},
            "errors": [x["error"] for x in found],
        }
        for (kind, setting), found in rows.items()
    ]


def planted(num_tokens: int, seeds: int) -> list[dict[str, Any]]:
    """How often a planted slash lies in one of the four heaviest cells of its row."""
    rows = []
    d, cells = 64, num_tokens // 64
    for stride in (4, 8, 16):
        for alternate in (False, True):
            for odd in (False, True):
                hits = total = 0
                chance = 0.0
                for seed in range(seeds):
                    random = torch.Generator().manual_seed(seed)
                    low, high = 512, num_tokens // 2
                    distance = int(torch.randint(low, high, (), generator=random)) // 2 * 2 + odd
                    k = torch.randn(1, 1, num_tokens, d, generator=random)
                    k = k / k.norm(dim=-1, keepdim=True)
                    q = torch.randn(1, 1, num_tokens, d, generator=random)
                    q = q / q.norm(dim=-1, keepdim=True) * math.sqrt(d)
                    # Query i looks for key i - distance: a logit of 8 among ones of size 1.
                    q[:, :, distance:] = q[:, :, distance:] * 0.3 + k[
                        :, :, :-distance
                    ] * 8 * math.sqrt(d)
                    mass = block_mass(q, k, stride=stride, alternate=alternate)[0, 0]
                    for n in range(distance // 64 + 2, cells):
                        truth = {(n * 64 - distance) // 64, (n * 64 + 63 - distance) // 64}
                        top = set(mass[n].topk(4).indices.tolist())
                        hits += bool(truth & top)
                        total += 1
                        chance += 1 - math.comb(n - 1, 4) / math.comb(n + 1, 4)
                rows.append(
                    {
                        "stride": stride,
                        "alternate": alternate,
                        "distance": "odd" if odd else "even",
                        "found": hits / total,
                        "rows": total,
                        "chance": chance / total,
                    }
                )
    return rows


def parity(num_tokens: int) -> list[dict[str, Any]]:
    """Error of the alternating residue against the published one at equal density, by layer."""
    rows: list[dict[str, Any]] = [
        {
            "stride": stride,
            "threshold": threshold,
            "published": [],
            "alternating": [],
            "density": [],
        }
        for stride in (4, 8, 16)
        for threshold in (0.7, 0.9)
    ]
    for tensors in capture(num_tokens).values():
        q, k, _ = tensors
        dense = attend(*tensors)
        for row in rows:
            settings = {"stride": row["stride"], "alternate": False}
            wanted = XAttention(threshold=row["threshold"], **settings).layout(q, k)
            low, high = row["threshold"] - 0.1, min(1.0, row["threshold"] + 0.1)
            for _ in range(12):
                middle = (low + high) / 2
                found = XAttention(stride=row["stride"], threshold=middle).layout(q, k)
                low, high = (middle, high) if found.density < wanted.density else (low, middle)
            row["density"].append([wanted.density, found.density])
            for name, layout in (("published", wanted), ("alternating", found)):
                out = block_sparse_attention(*tensors, layout)
                error = (out - dense).flatten(2).norm(dim=2) / dense.flatten(2).norm(dim=2)
                row[name].append(float(error.mean()))
    return rows


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--parts", nargs="+", default=["planted", "rows", "parity"])
    arguments = parser.parse_args()
    suite = {
        "suite": "selection",
        **environment(),
        "model": "SmolLM2-135M-Instruct, 4-bit weights de-quantised, fp32",
        "tokens": arguments.tokens,
    }
    if arguments.out.exists():  # Parts that are not measured now stay as they are.
        suite = {**json.loads(arguments.out.read_text()), **suite}
    parts = {
        "planted": lambda: planted(4096, 6),
        "rows": lambda: real(arguments.tokens),
        "parity": lambda: parity(arguments.tokens),
    }
    with torch.inference_mode():
        for name in arguments.parts:
            suite[name] = parts[name]()
            arguments.out.write_text(json.dumps(suite, indent=1) + "\n")


if __name__ == "__main__":
    main()
