"""Draw docs/attention/gallery.png: the cells that XAttention keeps in the heads of a real model.

    python tools/draw_gallery.py [--tokens 8192]

Rows are layers, columns query heads. Needs the `llm` extra and the packaged model.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from precision import capture  # noqa: E402 - found through the path above

from foveal.attention import XAttention  # noqa: E402

PAPER, INK, GAP = (232, 235, 240), (14, 110, 110), 10


def main() -> None:
    """Capture, select, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=8192)
    tokens = parser.parse_args().tokens
    cells = tokens // 64
    rows = []
    with torch.inference_mode():
        for q, k, _ in capture(tokens).values():
            kept = XAttention().layout(q, k).to_bool()[0].numpy()
            row = []
            for head in kept:
                tile = np.full((cells + GAP, cells + GAP, 3), 255, np.uint8)
                tile[:cells, :cells] = np.where(head[..., None], INK, PAPER)
                tile[:cells, :cells][np.triu_indices(cells, 1)] = 255
                row.append(tile)
            rows.append(np.concatenate(row, 1))
    picture = Image.fromarray(np.concatenate(rows, 0)).quantize(8)
    picture.save(ROOT / "docs" / "attention" / "gallery.png", optimize=True)


if __name__ == "__main__":
    main()
