"""Clips of scripted actions for training and judging: varied motions, cameras, paint and light.

`bank` computes the motions once (on the CPU, by several processes), `Clips` draws them from there
as often as wanted. Splits differ in the seeds of motions, paint and light, and test looks from
where training never stood.
"""

import dataclasses
import math
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from foveal import motion
from foveal.data.figure_looks import draw_cameras, draw_looks
from foveal.data.figures import Cameras, Looks, Solids, render
from foveal.motion.director.commands import MIN_DT, Keyframe
from foveal.motion.director.providers import Plan, Scripted
from foveal.motion.shapes import world_shapes

NAMES = tuple(motion.ACTIONS)
FPS = 30
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SPLITS = {"train": 1, "val": 2, "test": 3}
_PARTS = {
    "head": 0, "neck": 0, "forearm": 0, "hand": 0, "fingers": 0, "chest": 1, "spine": 1,
    "clavicle": 1, "upper_arm": 1,
    "pelvis": 2, "thigh": 2, "shin": 2, "foot": 3, "toes": 3,
}  # fmt: skip
AZIMUTHS = {
    "train": ((-110.0, -60.0), (-35.0, 35.0), (60.0, 110.0)),
    "test": ((-60.0, -35.0), (35.0, 60.0)),
}
"""Degrees from where the figure faces; validation looks from where training does."""

_LEGS = tuple(f"{s}_{n}" for s in ("left", "right") for n in ("hip", "knee", "ankle", "toes"))


class Varied:
    """The action library, done a little otherwise: time, reach and the bend of each joint."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def plan(self, instruction: str) -> Plan:
        """Vary the scripted plan."""
        plan = Scripted().plan(instruction)
        rng, limits = self._rng, {h.name: (h.lower, h.upper) for h in motion.humanoid().hinges}
        pace, reach = rng.uniform(0.78, 1.3), rng.uniform(0.85, 1.12)
        habit = {name: rng.normal(0, math.radians(4)) for name in limits}
        keys: list[Keyframe] = []
        for key in plan.keyframes:
            bend = {name: 0.0 for name in habit if not name.startswith(_LEGS)} | dict(key.angles)
            angles = {
                name: float(np.clip(
                    reach * value + habit[name] + rng.normal(0, math.radians(2.5)), *limits[name]
                ))
                for name, value in bend.items()
            }  # fmt: skip
            feet = {
                side: dataclasses.replace(f, position=tuple(reach * v for v in f.position))
                for side, f in key.feet.items()
            }
            keys.append(dataclasses.replace(
                key, angles=angles, feet=feet, tilt=reach * key.tilt,
                pelvis=tuple(reach * v for v in key.pelvis),
                dt=max(MIN_DT, key.dt * pace * rng.uniform(0.92, 1.08)) if keys else 0.0,
            ))  # fmt: skip
        return dataclasses.replace(plan, keyframes=tuple(keys))


def motion_of(job: tuple[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return (frames, shapes, 12) places and (shapes, 3) sizes of one action that shows it.

    The motion is drawn until its predicate holds, so that its name is true.
    """
    name, seed = job
    side = ("left", "right")[seed % 2]
    for again in range(50):
        clip = motion.generate(
            f"{name} {side}", provider=Varied(seed * 50 + again), track="kinematic", fps=FPS
        )
        if clip.receipt.details["predicate_failures"] == 0:
            break
    else:
        raise RuntimeError(f"{name}: no variant of seed {seed} shows it")
    shapes = world_shapes(clip)
    places = np.concatenate([shapes.centers, shapes.turns.reshape(*shapes.turns.shape[:2], 9)], -1)
    return places.astype(np.float32), shapes.sizes.astype(np.float32)


@dataclasses.dataclass
class Bank:
    """Motions end to end: `places` of all frames, where each begins, how long it is, its action."""

    places: Tensor
    sizes: Tensor
    first: Tensor
    length: Tensor
    label: Tensor


def bank(
    split: str, each: int, device: str, *, seed: int = 0, names: Sequence[str] = NAMES
) -> Bank:
    """Compute `each` motions an action. Call it before CUDA is used: it forks."""
    base = 10_000_000 * SPLITS[split] + 100_000 * seed
    jobs = [(name, base + 1000 * c + i) for c, name in enumerate(names) for i in range(each)]
    workers = min(len(jobs), len(os.sched_getaffinity(0)))
    if workers > 2:
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            found = pool.map(motion_of, jobs, chunksize=4)
    else:
        found = [motion_of(job) for job in jobs]
    length = torch.tensor([len(p) for p, _ in found])
    return Bank(
        torch.from_numpy(np.concatenate([p for p, _ in found])).to(device),
        torch.from_numpy(found[0][1]).to(device),
        (length.cumsum(0) - length),
        length,
        torch.arange(len(names)).repeat_interleave(each),
    )


def photographs(folder: Path | None, side: int, device: str) -> Tensor | None:
    """Return the middle squares of all photographs as uint8 (n, 3, side, side), None if None.

    A folder that is missing or empty ends the program: nobody who names one wants painted walls.
    """
    from PIL import Image

    if folder is None:
        return None
    squares = []
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    for file in (x for x in found if x.suffix.lower() in SUFFIXES):
        image = Image.open(file).convert("RGB")
        least = min(image.size)
        left, top = (image.width - least) // 2, (image.height - least) // 2
        box = (left, top, left + least, top + least)
        array = np.array(image.resize((side, side), Image.Resampling.BILINEAR, box=box))
        squares.append(torch.from_numpy(array).permute(2, 0, 1))
    if not squares:
        raise SystemExit(f"{folder} holds no picture; run tools/prepare_photos.py")
    return torch.stack(squares).to(device)


class Clips:
    """Draws clips of a bank: (b, t, 3, size, size), sRGB, and their actions."""

    def __init__(
        self, bank: Bank, split: str, *, size: int, frames: int, photos: Tensor | None, seed: int
    ) -> None:
        self.bank, self.size, self.frames, self.photos = bank, size, frames, photos
        self.device = bank.places.device
        self.azimuths = AZIMUTHS["test" if split == "test" else "train"]
        self.generator = torch.Generator().manual_seed(1000 * seed + SPLITS[split])
        self.simple = 0.0
        """Share of clips, in [0, 1], of plain bodies before a plain room: what one learns first."""
        skeleton = motion.humanoid()
        shapes = [skeleton.names[shape.body] for shape in skeleton.shapes]
        self.is_box = tuple(shape.kind == "box" for shape in skeleton.shapes)
        self.parts = [_PARTS[n.removeprefix("left_").removeprefix("right_")] for n in shapes]

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)

    def solids(self, which: Tensor) -> Solids:
        """Cut clips out of motions: any start around the middle, 1.5 to 2.2 s long."""
        b, t = len(which), self.frames
        length = self.bank.length[which].float()
        span = 45 + 22 * self._rand(b)
        loose = 0.2 * span + (length - 2.2 * span).clamp_min(0) / 2
        start = (length - span) / 2 + (2 * self._rand(b) - 1) * loose
        at = start[:, None] + span[:, None] * torch.linspace(0, 1, t)
        at = at.round().long().clamp_min(0).minimum(self.bank.length[which][:, None] - 1)
        index = (self.bank.first[which][:, None] + at).to(self.device)
        places = self.bank.places[index]
        centers, turns = places[..., :3].clone(), places[..., 3:].unflatten(-1, (3, 3))
        centers[..., :2] -= centers[:, :, :1, :2].mean(1, keepdim=True)
        flip = torch.ones(b, 3)
        flip[:, 1] = torch.where(self._rand(b) < 0.5, -1.0, 1.0)
        flip = flip.to(self.device)
        tall = (0.85 + 0.3 * self._rand(b, 1, 1)).to(self.device)
        stout = (0.8 + 0.5 * self._rand(b, len(self.is_box), 1)).to(self.device)
        sizes = self.bank.sizes[None].expand(b, -1, -1).clone()
        sizes[..., :2] *= stout
        return Solids(
            centers * flip[:, None, None] * tall[..., None],
            turns * (flip[:, :, None] * flip[:, None])[:, None, None],
            sizes * tall,
            self.is_box,
        )

    def looks(self, count: int) -> tuple[Cameras, Looks]:
        """Draw cameras and what is seen beside the motion."""
        cameras = draw_cameras(
            count, self.generator, azimuth_degrees=self.azimuths, device=self.device,
            elevation_degrees=(-3.0, 25.0), distance=(2.2, 3.3),
        )  # fmt: skip
        backdrops = None
        if self.photos is not None:
            side = self.photos.shape[-1]
            pick = torch.randint(len(self.photos), (count,), generator=self.generator).tolist()
            room = (self._rand(count, 2) * (side - self.size + 1)).long().tolist()
            cuts = [
                self.photos[i, :, y : y + self.size, x : x + self.size]
                for i, (y, x) in zip(pick, room, strict=True)
            ]
            backdrops = torch.stack(cuts).float() / 255
        looks = draw_looks(
            self.parts, count, self.generator, azimuth=cameras.azimuth, backdrops=backdrops,
            device=self.device,
        )  # fmt: skip
        return cameras, self._simpler(looks) if self.simple else looks

    def _simpler(self, looks: Looks) -> Looks:
        plain = (self._rand(len(looks.behind)) < self.simple).to(self.device)
        dark = (self._rand(len(plain), 1, 1, 1) < 0.5).to(self.device)
        tone = torch.where(dark, 0.03, 0.5).expand(-1, looks.pattern.shape[1], -1, -1).clone()
        tone[:, -2:] = torch.where(dark, 0.5, 0.03)
        colors = torch.lerp(tone.expand_as(looks.colors), looks.colors, 0.2)
        return dataclasses.replace(
            looks,
            pattern=torch.where(plain[:, None], 0, looks.pattern),
            behind=torch.where(plain, 0, looks.behind),
            colors=torch.where(plain[:, None, None, None], colors, looks.colors),
        )

    def draw(self, which: Tensor, *, samples: int = 1) -> tuple[Tensor, Tensor]:
        """Return clips of these motions, and their actions."""
        cameras, looks = self.looks(len(which))
        frames = render(
            self.solids(which), cameras, looks, height=self.size, width=self.size, samples=samples
        )
        return frames, self.bank.label[which].to(self.device)

    def batch(self, count: int, *, samples: int = 1) -> tuple[Tensor, Tensor]:
        """Return clips of random motions."""
        which = torch.randint(len(self.bank.label), (count,), generator=self.generator)
        return self.draw(which, samples=samples)
