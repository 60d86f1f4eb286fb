"""The second half of an exported decoder: from integers to features, and its command line.

`export_numpy_decoder` puts what follows the mark behind `numpy_template`, without these imports.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from foveal.codec.numpy_template import (
    LOG_STEP,
    MAX_SYMBOLS,
    SILENT,
    BitstreamError,
    Container,
    Floats,
    Model,
    decode,
    decode_images,
    load,
    log_gain,
    open_payload,
    read_controls,
    windows,
)

# ---- exported from here ----

# Features.


def leaky(x: Floats) -> Floats:
    """Return max(x, x / 10)."""
    return np.maximum(x, np.float32(0.1) * x)


def synthesise(model: Model, head: dict[str, Any], y: Floats, size: tuple[int, int]) -> Floats:
    """Return the features of one task [c, h, w] from the latents [n, u, v] that it reads."""
    start = f"heads.{head['name']}."

    def conv(x: Floats, name: str) -> Floats:
        weight = model.weights[f"{start}{name}.weight"]
        return windows(x, weight) + model.weights[f"{start}{name}.bias"][:, None, None]

    def residual(x: Floats, name: str) -> Floats:
        return x + conv(leaky(conv(leaky(x), f"{name}.first")), f"{name}.second")

    down, across = head["up"]

    def spread(x: Floats) -> Floats:  # channels become down x across positions
        _, rows, columns = x.shape
        x = x.reshape(-1, down, across, rows, columns).transpose(0, 3, 1, 4, 2)
        return x.reshape(-1, rows * down, columns * across)[:, : size[0], : size[1]]

    x = conv(y, "first")
    for i in range(head["blocks"]):
        x = residual(x, f"blocks.{i}")
    x = spread(conv(leaky(x), "spread"))
    x = x + conv(leaky(x), "refine")
    for i in range(head["fine_blocks"]):
        x = residual(x, f"fine.{i}")
    x = conv(leaky(x), "last")
    x = x + spread(conv(y, "linear")) if head["linear"] else x
    scale = f"scales.{head['name']}."
    x = x * model.weights[scale + "std"][:, None, None]
    x = x + model.weights[scale + "mean"][:, None, None]
    return np.maximum(x, np.float32(0)) if head["nonnegative"] else x


def tasks_sent(model: Model, container: Container) -> list[str]:
    """Return the tasks whose layers are there and which are on in every image."""
    heads = {h["name"]: h for h in model.spec["heads"]}
    ready = {t: h for t, h in heads.items() if set(h["layers"]) <= set(container.layers)}
    for _, qualities in read_controls(model, container):
        on = {i for i, value in enumerate(v for part in qualities for v in part) if value >= 0}
        ready = {t: h for t, h in ready.items() if all(on.intersection(p) for p in h["pairs"])}
    return list(ready)


def features(
    payload: bytes, tasks: list[str] | None = None, *, max_symbols: int = MAX_SYMBOLS
) -> dict[str, Floats]:
    """Return the features of each task, fp32 [images, ...]: of all sent with every image.

    Raises BitstreamError like `decode`, and where a named task was not sent.
    """
    model = load()
    heads = {head["name"]: head for head in model.spec["heads"]}
    unknown = [task for task in tasks or [] if task not in heads]
    if unknown:
        raise ValueError(f"features: tasks {unknown} are not among {list(heads)}")
    container = open_payload(model, payload, max_symbols)
    ready = tasks_sent(model, container)
    lacking = [task for task in tasks or [] if task not in ready]
    if lacking:
        raise BitstreamError(f"features: the payload does not send {lacking}, only {ready}")
    out: dict[str, list[Floats]] = {task: [] for task in (ready if tasks is None else tasks)}
    for (_, qualities), known in zip(
        read_controls(model, container), decode_images(model, container), strict=True
    ):
        values: dict[int, Floats] = {}
        for i, latent in known.items():
            log = log_gain(model.layers[i], qualities[i])
            gain = np.exp(np.where(log <= SILENT, 0, log) * (LOG_STEP / 256))
            values[i] = (latent / gain[:, None, None]).astype(np.float32)
        for task, done in out.items():
            head = heads[task]
            shape = values[head["layers"][0]].shape[1:]
            parts = [
                values.get(i, np.zeros((model.layers[i].spec["channels"], *shape), np.float32))
                for i in head["layers"] + head["optional"]
            ]
            size = container.size or (head["height"], head["width"])
            x = synthesise(model, head, np.concatenate(parts), size)
            if head["kind"] == "vector":
                x = x[:, 0, 0]
            elif head["kind"] == "tokens":
                x = x.reshape(len(x), -1).T
            done.append(x)
    return {task: np.stack(parts) for task, parts in out.items()}


def main(arguments: list[str]) -> int:
    """Decode a file into an .npz file of `latents.LAYER` and `features.TASK`."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python decoder.py stream.fvl out.npz\n")
        return 2
    payload = Path(arguments[0]).read_bytes()
    try:
        arrays = {f"latents.{k}": v for k, v in decode(payload).items()}
        arrays |= {f"features.{k}": v for k, v in features(payload).items()}
    except BitstreamError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    np.savez(arguments[1], allow_pickle=False, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
