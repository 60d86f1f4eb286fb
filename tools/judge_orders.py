"""Judge a conditional codec in several orders of its layers: given, learned, best for each picture.

    PYTHONPATH=src:tools python tools/judge_orders.py --features features --out out \
        --model conditional-global.safetensors

Writes out/conditional-ORDER.npz as train_task_codecs.py does, and out/orders.json with the order
that was learned on the validation scenes, what each order costs there, and how often each is best.
"""

import argparse
import json
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from task_features import read
from train_task_codecs import judge

from foveal.codec.model import FeatureCodec
from foveal.codec.taxonomy import cheapest_order, learn_order, order_costs
from foveal.data import taskworld
from foveal.teachers.task_network import TaskBank


def costs_of_orders(costs: dict[tuple[int, frozenset[int]], NDArray[np.int64]]) -> Any:
    """Return the bytes of every order and picture [orders, n], and the orders."""
    numbers = sorted({number for number, _ in costs})
    orders = list(permutations(numbers))
    rows = [
        sum(costs[number, frozenset(order[:i])] for i, number in enumerate(order))
        for order in orders
    ]
    return orders, np.stack([np.asarray(row) for row in rows])


def run(args: argparse.Namespace) -> None:
    """Judge all orders."""
    device = torch.device(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    bank = TaskBank.load(taskworld.TASKS).to(device)
    splits = {name: read(args.features, name, device) for name in ("val", "test")}
    model = FeatureCodec.load(args.model).to(device)
    given = {
        name: {key: part[f"features/{key}"].float() for key in model.inputs}
        for name, part in splits.items()
    }
    names = [layer.name for layer in model.config.layers]
    costs = order_costs(model, given["val"], quality=args.quality)
    orders, sizes = costs_of_orders(costs)
    best = Counter(int(i) for i in sizes.argmin(0))
    means = sizes.mean(1)
    found: dict[str, Any] = {
        "quality": args.quality,
        "scenes": sizes.shape[1],
        "alone_bytes": float(sum(costs[i, frozenset()].mean() for i in range(len(names)))),
        "orders": [
            {"order": [names[i] for i in o], "bytes": float(m), "best_for": best[k]}
            for k, (o, m) in enumerate(zip(orders, means.tolist(), strict=True))
        ],
        "best_of_each_bytes": float(sizes.min(0).mean()),
    }
    worst = tuple(names[i] for i in orders[int(means.argmax())])
    cheapest = cheapest_order({key: float(v.sum()) for key, v in costs.items()})
    learned = learn_order(model, given["val"], quality=args.quality)
    found["learned"] = list(learned)
    if learned != tuple(names[i] for i in cheapest):
        raise RuntimeError("learn_order and cheapest_order differ")
    asked = {"learned": None, "given": tuple(names), "worst": worst, "best": "best"}
    for name, order in asked.items():
        rows: dict[str, NDArray[Any]] = {"qualities": np.array(args.qualities)}
        judged = judge(model, bank, splits["test"], qualities=tuple(args.qualities), order=order)
        rows |= {f"test/{key}": value for key, value in judged.items()}
        np.savez_compressed(args.out / f"conditional-{name}.npz", **rows)  # type: ignore[arg-type]
    (args.out / "orders.json").write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, required=True, help="folder of task_features.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--quality", type=int, default=40, help="of the costs of orders")
    parser.add_argument("--qualities", nargs="+", type=int, default=[6, 18, 30, 40, 50, 63])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
