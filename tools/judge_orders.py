"""What a conditional codec's bytes are in several orders of its layers.

    PYTHONPATH=src:tools python tools/judge_orders.py --features features --out orders.json \
        --model conditional-global.safetensors

On the validation scenes all orders are compared at one quality, and one is learned. On the test
scenes the learned order, the given, the worst and the best of each picture code at every quality:
bytes of each picture's own file, and the squared error of the normalised features, which an order
changes only by the rounding of the centers.
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
from torch import Tensor

from foveal.codec.model import FeatureCodec
from foveal.codec.stream import decode, encode, split
from foveal.codec.taxonomy import learn_order, order_costs


def costs_of_orders(costs: dict[tuple[int, frozenset[int]], NDArray[np.int64]]) -> Any:
    """Return the bytes of every order and picture [orders, n], and the orders."""
    numbers = sorted({number for number, _ in costs})
    orders = list(permutations(numbers))
    rows = [
        sum(costs[number, frozenset(order[:i])] for i, number in enumerate(order))
        for order in orders
    ]
    return orders, np.stack([np.asarray(row) for row in rows])


def coded(
    model: FeatureCodec, features: dict[str, Tensor], quality: int, order: Any
) -> tuple[NDArray[np.int64], float]:
    """Return the bytes of each picture's own file, and the error of the features."""
    stream = encode(model, features, quality=quality, order=order)
    back = decode(model, stream.payload, max_symbols=1 << 40)
    gaps = [
        (model.normalise(t, x) - model.normalise(t, features[t])).square().mean()
        for t, x in back.items()
    ]
    sizes = np.array([len(one) for one in split(stream.payload)])
    return sizes, float(torch.stack(gaps).mean())


def run(args: argparse.Namespace) -> None:
    """Compare all orders."""
    device = torch.device(args.device)
    model = FeatureCodec.load(args.model).to(device)
    given: dict[str, dict[str, Tensor]] = {}
    for name in ("val", "test"):
        part = read(args.features, name, device)
        given[name] = {key: part[f"features/{key}"].float() for key in model.inputs}
    names = [layer.name for layer in model.config.layers]
    costs = order_costs(model, given["val"], quality=args.quality)
    orders, sizes = costs_of_orders(costs)
    best = Counter(int(i) for i in sizes.argmin(0))
    means = sizes.mean(1)
    found: dict[str, Any] = {
        "commit": args.commit,
        "device": "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device),
        "model_id": model.model_id.hex(),
        "validation": {
            "quality": args.quality,
            "scenes": sizes.shape[1],
            "alone_bytes": float(sum(costs[i, frozenset()].mean() for i in range(len(names)))),
            "best_of_each_bytes": float(sizes.min(0).mean()),
            "orders": [
                {"order": [names[i] for i in o], "bytes": float(m), "best_for": best[k]}
                for k, (o, m) in enumerate(zip(orders, means.tolist(), strict=True))
            ],
        },
    }
    worst = tuple(names[i] for i in orders[int(means.argmax())])
    learned = learn_order(model, given["val"], quality=args.quality)
    found["learned"], found["worst"] = list(learned), list(worst)
    asked = {"given": tuple(names), "learned": learned, "worst": worst, "best": "best"}
    rows: list[dict[str, Any]] = []
    for quality in args.qualities:
        each = {n: coded(model, given["test"], quality, o) for n, o in asked.items()}
        base = each["given"][0]
        for name, (own, error) in each.items():
            pick = np.random.default_rng(0).integers(len(own), size=(1000, len(own)))
            shares = own[pick].sum(1) / base[pick].sum(1)
            low, high = np.quantile(shares, [0.025, 0.975]).tolist()
            rows.append(
                {
                    "quality": quality,
                    "order": name,
                    "scenes": len(own),
                    "bytes": float(own.mean()),
                    "share_of_given": {"value": own.sum() / base.sum(), "low": low, "high": high},
                    "mse": error,
                }
            )
    found["test"] = rows
    args.out.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, required=True, help="folder of task_features.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--quality", type=int, default=40, help="of the costs of orders")
    parser.add_argument("--commit", default="")
    parser.add_argument("--qualities", nargs="+", type=int, default=[6, 18, 30, 40, 50, 63])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
