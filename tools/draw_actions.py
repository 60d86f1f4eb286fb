"""Draw docs/lowlight/actions.png: clips that the action recogniser learns from, four frames each.

    python tools/draw_actions.py [--seed 4]

Painted rooms only: the photographs that stand behind in training are other people's works.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from action_clips import NAMES, Clips, bank
from PIL import Image, ImageDraw

ROOT = Path(__file__).parent.parent
SIDE, SHOWN, COLUMNS, GAP, LABEL = 84, 4, 2, 6, 13
PAPER, INK = (255, 255, 255), (60, 66, 74)


def main() -> None:
    """Render each action once, and lay the strips out in two columns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "lowlight" / "actions.png")
    args = parser.parse_args()
    clips = Clips(
        bank("train", 1, "cpu", seed=args.seed), "train", size=SIDE, frames=16, photos=None,
        seed=args.seed,
    )  # fmt: skip
    frames, _ = clips.draw(torch.arange(len(NAMES)), samples=3)
    frames = frames[:, [2, 6, 9, 13]]
    strip, rows = SHOWN * SIDE, -(-len(NAMES) // COLUMNS)
    size = (COLUMNS * strip + (COLUMNS - 1) * 2 * GAP, rows * (SIDE + LABEL + GAP) - GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (name, clip) in enumerate(zip(NAMES, frames, strict=True)):
        x, y = i // rows * (strip + 2 * GAP), i % rows * (SIDE + LABEL + GAP)
        draw.text((x, y), name, fill=INK)
        row = (clip.permute(2, 0, 3, 1).reshape(SIDE, strip, 3) * 255).round().byte()
        sheet.paste(Image.fromarray(np.asarray(row)), (x, y + LABEL))
    sheet.quantize(128, dither=Image.Dither.NONE).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
