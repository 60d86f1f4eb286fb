"""Draw docs/motion/actions.webp: every action of the fixed list, six moments each.

    python tools/draw_motions.py [--out sheet.webp] [--only "tennis serve" --size 200 --shown 12]

The scripted provider in kinematic mode and the package's own software pictures; no GPU, half a
minute. `--only` draws one action large, to look at it closely.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from foveal import motion
from foveal.motion.between import in_between
from foveal.motion.clip import Clip
from foveal.motion.director.library.keysets import KEYSETS
from foveal.motion.director.library.scenes import DEFAULTS
from foveal.motion.director.picture import (
    View,
    _cast,  # pyright: ignore[reportPrivateUsage]
    _solids,  # pyright: ignore[reportPrivateUsage]
)
from foveal.motion.director.pose import Pose
from foveal.motion.director.scene_facts import load_scene
from foveal.motion.posecodes.actions import action_facts

ROOT = Path(__file__).parent.parent
COLUMNS, GAP, LABEL = 3, 8, 15
PAPER, INK = (255, 255, 255), (60, 66, 74)
SIDEWAYS = ("walk", "run", "crawl", "stairs", "stones", "step up", "throw", "kick", "lie", "lunge")


def clip_of(name: str) -> Clip:
    """Make the clip of an action of the list."""
    if name in KEYSETS:
        return in_between(KEYSETS[name](), title=name)
    return motion.generate(name, track="kinematic")


def strip(name: str, shown: int, size: int) -> NDArray[np.uint8]:
    """Draw an action at evenly spaced moments, one beside the other."""
    clip, scene = clip_of(name), load_scene(DEFAULTS.get(name))
    azimuth = 1.15 if any(word in name for word in SIDEWAYS) else 0.75
    # not the standing that most begin and end with
    end = clip.num_frames - 1 - (0.09 * clip.num_frames if clip.contacts[-1].all() else 0)
    first = 0.09 * clip.num_frames
    out = np.empty((size, shown * size, 3), np.uint8)
    for k, frame in enumerate(np.linspace(first, end, shown).round().astype(int)):
        pose = Pose(clip.root_positions[frame], clip.root_rotations[frame], clip.angles[frame])
        center = clip.root_positions[frame].copy()
        center[2] = 1.0 + float(clip.root_positions[frame, 2] > 1.05) * 0.25
        planted = [
            part
            for part, on in zip(("left_foot", "right_foot"), clip.contacts[frame], strict=True)
            if on
        ]
        view = View("", azimuth, 0.2, center, 2.25)
        picture = _cast(view, _solids(clip.skeleton, pose, scene, planted), size)
        out[:, k * size : (k + 1) * size] = picture
    return out


def sheet(names: Sequence[str], shown: int, size: int, columns: int) -> Image.Image:
    """Lay the strips of actions out, each under its name."""
    rows = -(-len(names) // columns)
    wide, high = shown * size + GAP, size + LABEL
    out = Image.new("RGB", (columns * wide - GAP, rows * high), PAPER)
    draw, font = ImageDraw.Draw(out), ImageFont.load_default(11)
    for i, name in enumerate(names):
        x, y = i // rows * wide, i % rows * high
        draw.text((x, y), name, INK, font)
        out.paste(Image.fromarray(strip(name, shown, size)), (x, y + LABEL))
    return out


def main() -> None:
    """Draw the sheet of all actions, or one action."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "motion" / "actions.webp")
    parser.add_argument("--only", choices=list(action_facts()))
    parser.add_argument("--size", type=int, default=70)
    parser.add_argument("--shown", type=int, default=6)
    args = parser.parse_args()
    names = [args.only] if args.only else list(action_facts())
    made = sheet(names, args.shown, args.size, 1 if args.only else COLUMNS)
    made.save(args.out, quality=62, method=6)


if __name__ == "__main__":
    main()
