"""What each policy and each precision costs in SmolLM2-135M, at equal density.

    python benchmarks/quality.py [--tokens 8192] [--parts 1] [--packed FOLDER] [--out FILE]

On a GPU without a network the model comes from the FOLDER that `tools/pack_model.py` wrote.
Settings are found on one part of a text ("select", from token 0) and measured on others ("judge",
from token 40000, one after the other; a row is their mean). The search reads no output: it looks
for the setting whose cells, on the queries and keys of one dense pass, have a wanted density. What
density they have on the other parts, with queries and keys that earlier sparse layers made, is
measured and told. Rows are written one by one and those that exist are skipped, so a run may be
broken off; `--fresh` measures all again.
"""

import argparse
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from foveal.attention import BlockLayout, Policy, Sage, Window, XAttention, attach
from foveal.attention.evaluate import compare_states, read_states
from foveal.attention.integrations.loss import sample_rows
from foveal.attention.layout import CELL
from foveal.attention.policy.spans import Spans
from foveal.attention.policy.sparge import Sparge
from foveal.data.texts import long_text
from foveal.teachers import smollm2

FILE = Path(__file__).parent / "results" / "quality--h100.json"
PARTS = {"select": 0, "judge": 40_000}
"""First token of each part of the text."""
DENSITIES = (0.1, 0.2, 0.3, 0.5)
SKIP = 3
"""The search looks at every third layer."""
STEPS = 9
"""Most bisections of a search."""
CLOSE = 0.02
"""A search ends early at this relative distance from the wanted density."""

KINDS: dict[str, Callable[[float], Policy]] = {
    "window": lambda x: Window(sink=64, window=CELL * max(1, round(128 * x))),
    "xattention, stride 16": lambda x: XAttention(stride=16, threshold=round(x, 4)),
    "xattention, stride 8": lambda x: XAttention(stride=8, threshold=round(x, 4)),
    "sparge, top_k": lambda x: Sparge(top_k=max(round(x, 4), 0.001)),
    "sparge, threshold": lambda x: Sparge(threshold=round(x, 4)),
}
"""A policy of each kind by a number in [0, 1] with which its density grows."""
PRECISIONS = {
    "int8-fp16": Sage("int8-fp16"),
    "int8-fp8": Sage("int8-fp8"),
    "int8-fp8, warp": Sage("int8-fp8", granularity="warp"),
    "int4-fp16": Sage("int4-fp16"),
    "int4-fp8": Sage("int4-fp8"),
}

Tensors = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Capture(Policy):
    """Keep everything, and the queries and keys of every layer."""

    found: Tensors = field(default_factory=list)

    def layout(
        self, q: Tensor, k: Tensor, *, causal: bool = True, scale: float | None = None
    ) -> BlockLayout:
        """Return all cells."""
        self.found.append((q.clone(), k.clone()))
        return BlockLayout.dense(q, k, causal=causal)


def environment() -> dict[str, Any]:
    """Return what the numbers depend on."""
    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    state = [*git, "status", "--porcelain", "--", "../src/foveal/attention"]
    dirty = subprocess.run(state, capture_output=True, text=True).stdout
    return {
        "commit": commit.strip() + ("+changes" if dirty.strip() else ""),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{platform.machine()} CPU, {torch.get_num_threads()} threads, shared",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def kept_mass(tensors: Tensors) -> list[Tensor]:
    """Return, per layer, (heads of keys, n): the mass in the sink and the nearest 1 to n cells.

    Mean over the query heads of a group and 64 sampled rows.
    """
    found: list[Tensor] = []
    for q, k in tensors:
        t = k.shape[2]
        rows = sample_rows(t, 64, 0, q.device)
        cells = torch.arange(t, device=q.device) // CELL
        # Cells back from the row's own; the first cell is the sink and always counts as near.
        back = ((rows // CELL)[:, None] - cells).masked_fill(cells == 0, 0).clamp_min(0)
        sums = torch.zeros(k.shape[1], len(rows), int(cells[-1]) + 1, device=q.device)
        group = q.shape[1] // k.shape[1]
        for head in range(q.shape[1]):
            logits = q[0, head, rows] @ k[0, head // group].T * q.shape[3] ** -0.5
            hidden = torch.arange(t, device=q.device) > rows[:, None]
            weights = logits.masked_fill(hidden, -torch.inf).softmax(-1) / group
            sums[head // group].scatter_add_(1, back, weights)
        found.append(sums.mean(1).cumsum(1).cpu())
    return found


def spans_of(masses: list[Tensor], wanted: float) -> Spans:
    """Return the shortest spans whose heads all keep the wanted mass, the sink included."""
    layers = [
        tuple(CELL * (2 + int((head < wanted).sum().clamp_max(len(head) - 2))) for head in layer)
        for layer in masses
    ]
    return Spans(tuple(layers), tuple((0,) * len(layer) for layer in layers))


def mean_density(policy: Policy, tensors: Tensors) -> float:
    """Return the mean density of a policy on every third layer's queries and keys."""
    if isinstance(policy, Spans):
        return policy.area_density(tensors[0][1].shape[2])
    found = [policy.layout(q, k).density for q, k in tensors[::SKIP]]
    return sum(found) / len(found)


def search(
    make: Callable[[float], Policy], tensors: Tensors, wanted: float, known: dict[float, float]
) -> dict[str, Any]:
    """Return the policy whose density is nearest to the wanted one, by bisection.

    `known` holds the densities of numbers tried so far, and gets those tried here.
    """
    for _ in range(STEPS):
        low = max((x for x, d in known.items() if d <= wanted), default=0.0)
        high = min((x for x, d in known.items() if d > wanted), default=1.0)
        best = min(known, key=lambda x: abs(known[x] - wanted), default=-1.0)
        if known and abs(known[best] - wanted) < CLOSE * wanted:
            break
        x = (low + high) / 2
        policy = make(x)
        # Layers differ, but what looks at no data is alike in all.
        known[x] = mean_density(policy, tensors[:1] if isinstance(policy, Window) else tensors)
    best = min(known, key=lambda x: abs(known[x] - wanted))
    return {"policy": make(best).to_json(), "x": best, "density_at_selection": known[best]}


def choose(model: Any, tokens: Tensor) -> list[dict[str, Any]]:
    """Return the policies to judge: one per kind and wanted density, then the default."""
    capture = Capture()
    with torch.no_grad():
        read_states(model, tokens, policy=capture)
        masses = kept_mass(capture.found)
        kinds = {**KINDS, "spans, by layer and head": lambda x: spans_of(masses, x)}
        chosen: list[dict[str, Any]] = []
        for kind, make in kinds.items():
            known: dict[float, float] = {}
            for wanted in DENSITIES:
                found = search(make, capture.found, wanted, known)
                chosen.append({"kind": kind, "wanted_density": wanted, **found})
                say(f"{kind:26} {wanted} -> {found['x']:.4f} {found['density_at_selection']:.3f}")
    default = {"kind": "xattention, default", "wanted_density": None}
    return [*chosen, {**default, "policy": XAttention().to_json()}]


def bf16_states(model: Any, tokens: Tensor) -> Tensor:
    """Return the states when only attention runs in bf16, by torch: a scale for the others."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def rounded(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, **rest: Any) -> Any:
        q, k, v = (x.bfloat16() for x in (q, k, v))
        out, weights = sdpa_attention_forward(module, q, k, v, mask, **rest)
        return out.float(), weights

    AttentionInterface.register("rounded", rounded)
    before = model.config._attn_implementation
    model.set_attn_implementation("rounded")
    try:
        with torch.no_grad():
            return model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[0]
    finally:
        model.set_attn_implementation(before)


def measure(
    model: Any, tokens: Tensor, dense: Tensor, policy: Policy | None, precision: Sage | None
) -> dict[str, Any]:
    """Return what one policy or precision costs on one text; with neither, what bf16 does."""
    start, clock = time.perf_counter(), time.process_time()
    more: dict[str, Any] = {"density": 1.0, "relative_l2_error": None}
    if policy is None and precision is None:
        states = bf16_states(model, tokens)
    else:
        with (
            torch.no_grad(),
            attach(model, policy=policy, precision=precision, min_tokens=0) as handle,
        ):
            states = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[0]
        receipt = handle.receipt
        more = {
            "density": handle.density,
            "relative_l2_error": receipt.loss,
            "scoring_fraction": receipt.details["scoring_block_products"] / receipt.full,
            "dense_calls": receipt.details["dense_calls"],
            "impl": receipt.details["impl"],
        }
    seconds = {
        "seconds": time.perf_counter() - start,
        "process_seconds": time.process_time() - clock,
    }
    found = compare_states(model, tokens, dense, states)
    return {
        **more,
        "kl_nats": found.kl,
        "kl_standard_error": found.kl_standard_error,
        "perplexity_ratio": found.sparse_perplexity / found.dense_perplexity,
        "dense_perplexity": found.dense_perplexity,
        "same_top_fraction": found.same_top_fraction,
        **seconds,
    }


def mean_of(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean row of several texts; perplexities by their geometric mean."""
    if len(parts) == 1:
        return parts[0]
    row = dict(parts[0])
    for key, value in parts[0].items():
        values = [part[key] for part in parts]
        if key in ("perplexity_ratio", "dense_perplexity"):
            row[key] = math.exp(sum(map(math.log, values)) / len(values))
        elif key == "kl_standard_error":
            row[key] = math.hypot(*values) / len(values)
        elif isinstance(value, float):
            row[key] = sum(values) / len(values)
    return {**row, "kl_nats_by_part": [part["kl_nats"] for part in parts]}


def model_and_tokens(packed: Path | None) -> tuple[Any, list[int], str]:
    """Return the model in fp32, the tokens of the long text, and what the weights are."""
    if packed is None:
        model, tokenizer = smollm2.load()
        ids = tokenizer(long_text(), add_special_tokens=False, verbose=False)["input_ids"]
        return model, ids, "4-bit weights de-quantised, fp32"
    sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
    import pack_model

    model, tokens = pack_model.load(packed, "cuda" if torch.cuda.is_available() else "cpu")
    return model.float(), tokens.tolist(), "4-bit weights de-quantised to bf16, computed in fp32"


def say(line: str) -> None:
    """Print one line."""
    print(line, flush=True)  # noqa: T201 (a script talks)


def read(file: Path, empty: dict[str, Any]) -> dict[str, Any]:
    """Return what the file holds, `empty` where there is none of this length."""
    found = json.loads(file.read_text()) if file.exists() else {}
    return found if found.get("tokens") == empty["tokens"] else empty


def write(file: Path, text: dict[str, Any]) -> None:
    """Write the file at once, for another run may read it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(json.dumps(text, indent=1) + "\n")
    new.replace(file)


def main() -> None:
    """Choose, measure the missing rows, and write each as it comes."""
    parser = argparse.ArgumentParser(description="Policies and precisions: quality and density.")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--precision-tokens", type=int, default=4096)
    parser.add_argument("--parts", type=int, default=1, help="texts to judge on")
    parser.add_argument("--packed", type=Path, help="folder of tools/pack_model.py")
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--fresh", action="store_true", help="measure rows that exist again")
    parser.add_argument("--backwards", action="store_true", help="beside a run from the front")
    given = parser.parse_args()
    torch.set_num_threads(1)  # on busy cores more threads wait for each other
    model, ids, weights = model_and_tokens(given.packed)
    empty: dict[str, Any] = {
        "model": f"SmolLM2-135M-Instruct, {weights}",
        "text": "pydoc topics; one text, an anecdote",
        "timing": "each pass once: no speed can be read from it",
        "search": f"every third layer of one dense pass over {given.tokens} tokens from token 0; "
        "spans: by the mass inside, of 64 sampled rows of every layer",
        "tokens": given.tokens,
        "precision_tokens": f"{given.precision_tokens}",
        "parts": PARTS,
        "judged_parts": given.parts,
        "chosen": [],
        "rows": [],
    }
    if given.fresh:
        write(given.out, empty)

    def part(name: str, num_tokens: int, index: int = 0) -> Tensor:
        start = PARTS[name] + index * given.tokens
        return torch.tensor([ids[start : start + num_tokens]], device=model.device)

    where = environment()
    dense: dict[tuple[int, int], Tensor] = {}

    def run(job: dict[str, Any], num_tokens: int) -> None:
        job = {**job, "part": "judge", "tokens": num_tokens}
        if any(job.items() <= row.items() for row in read(given.out, empty)["rows"]):
            return
        policy = Policy.from_json(job["policy"]) if "policy" in job else None
        parts: list[dict[str, Any]] = []
        for index in range(given.parts):
            tokens = part("judge", num_tokens, index)
            key = num_tokens, index
            if key not in dense:
                dense[key], _, seconds = read_states(model, tokens, policy=None)
                say(f"dense, {num_tokens} tokens: {seconds:.1f} s")
            precision = PRECISIONS.get(job["kind"])
            parts.append(measure(model, tokens, dense[key], policy, precision))
        found = mean_of(parts)
        text = read(given.out, empty)
        if any(job.items() <= row.items() for row in text["rows"]):
            return
        text["rows"].append({**job, **found, **where})
        write(given.out, text)
        say(
            f"{job['kind']:26} {job['wanted_density'] or ''!s:4} density {found['density']:.3f} "
            f"KL {found['kl_nats']:.5f} +- {found['kl_standard_error']:.5f} "
            f"ppl x {found['perplexity_ratio']:.4f} top {found['same_top_fraction']:.4f} "
            f"L2 {found['relative_l2_error'] or 0:.4f} {found['seconds']:.1f} s {found.get('impl')}"
        )

    def run_policies() -> None:
        if not read(given.out, empty)["chosen"]:
            chosen = choose(model, part("select", given.tokens))
            write(given.out, {**read(given.out, empty), "chosen": chosen})
        for job in read(given.out, empty)["chosen"][:: -1 if given.backwards else 1]:
            run({"what": "policy", **job}, given.tokens)

    def run_precisions() -> None:
        numbers = {"bf16, by torch": None, **PRECISIONS}
        for kind, precision in numbers.items():
            job = {"what": "precision", "kind": kind, "wanted_density": None}
            run({**job, "precision": repr(precision)}, given.precision_tokens)

    stages = (run_policies, run_precisions)
    for stage in stages[:: -1 if given.backwards else 1]:
        stage()


if __name__ == "__main__":
    main()
