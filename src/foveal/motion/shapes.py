"""The solids of a clip in world space: plain arrays that any renderer can take."""

from dataclasses import dataclass

import numpy as np

from foveal.errors import ArgumentError
from foveal.motion import rotations as rot
from foveal.motion.clip import Clip, capsule_frame
from foveal.motion.rotations import Array


@dataclass(frozen=True, eq=False)
class WorldShapes:
    """Boxes and capsules in every frame; z is up, m.

    Attributes:
        bodies: Name of the body of each solid.
        is_box: Which are boxes (shapes,).
        centers: (frames, shapes, 3), m.
        turns: Rotations (frames, shapes, 3, 3); the columns are a solid's own axes. A capsule lies
            along its own z.
        sizes: (shapes, 3), m. Box: half sides. Capsule: radius, radius, half the distance between
            the centers of its ends.
    """

    bodies: tuple[str, ...]
    is_box: tuple[bool, ...]
    centers: Array
    turns: Array
    sizes: Array

    def ends(self) -> tuple[Array, Array]:
        """Centers of both round ends of the capsules alone (frames, capsules, 3), m."""
        round_ = ~np.array(self.is_box)
        along = self.turns[..., 2][:, round_] * self.sizes[round_, 2:]
        return self.centers[:, round_] - along, self.centers[:, round_] + along

    def mirrored(self) -> "WorldShapes":
        """Left and right exchanged: y becomes -y. Names of bodies stay with their solids."""
        flip = np.array([1.0, -1.0, 1.0])
        return WorldShapes(
            self.bodies, self.is_box, self.centers * flip, self.turns * np.outer(flip, flip),
            self.sizes,
        )  # fmt: skip


def world_shapes(clip: Clip, *, every: int = 1) -> WorldShapes:
    """Return the solids of a clip, one for each shape of its skeleton.

    Args:
        clip: Any clip.
        every: Take each n-th frame, from the first.

    Raises:
        ArgumentError: `every` is below 1.
    """
    if every < 1:
        raise ArgumentError(f"world_shapes: every is {every}, must be >= 1")
    shapes = clip.skeleton.shapes
    bodies = [shape.body for shape in shapes]
    world = clip.world_rotations[::every][:, bodies]
    local, sizes = np.zeros((len(shapes), 4)), np.zeros((len(shapes), 3))
    for i, shape in enumerate(shapes):
        if shape.kind == "box":
            local[i], sizes[i] = shape.turn, shape.end
        else:
            local[i], half = capsule_frame(shape.start, shape.end)
            sizes[i] = shape.radius, shape.radius, half
    center = np.array([shape.center for shape in shapes])
    return WorldShapes(
        tuple(clip.skeleton.names[i] for i in bodies),
        tuple(shape.kind == "box" for shape in shapes),
        clip.positions[::every][:, bodies] + rot.rotate(world, center),
        rot.to_matrix(rot.multiply(world, local)),
        sizes,
    )
