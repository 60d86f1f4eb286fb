"""From a map of text to rectangles: connected regions, and the smallest rectangle around each."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def regions(mask: NDArray[np.bool_], *, most: int = 1000) -> list[NDArray[np.int64]]:
    """Pixels (row, column) of each 8-connected region, the largest regions first.

    Runs of each row are joined with those of the row above that they touch.

    Args:
        mask: (height, width).
        most: How many regions are kept.
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    edges = np.diff(padded, axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first = np.searchsorted(rows, np.arange(height + 1))
    for row in range(1, height):
        i, j = int(first[row - 1]), int(first[row])
        above, here = j, int(first[row + 1])
        while i < above and j < here:
            if starts[i] <= ends[j] and starts[j] <= ends[i]:
                parent[root(j)] = root(i)
            if ends[i] < ends[j]:
                i += 1
            else:
                j += 1
    groups: dict[int, list[int]] = {}
    for run in range(len(rows)):
        groups.setdefault(root(run), []).append(run)
    sizes = {key: int(sum(ends[r] - starts[r] for r in runs)) for key, runs in groups.items()}
    largest = sorted(groups, key=lambda key: -sizes[key])[:most]
    return [
        np.concatenate(
            [
                np.stack([np.full(ends[r] - starts[r], rows[r]), np.arange(starts[r], ends[r])], 1)
                for r in groups[key]
            ]
        )
        for key in largest
    ]


def hull(points: Array) -> Array:
    """Corners of the convex hull of points (n, 2), in order around it."""
    ordered = np.unique(points, axis=0)
    if len(ordered) < 3:
        return ordered

    def half(rows: Array) -> list[Array]:
        out: list[Array] = []
        for p in rows:
            while len(out) > 1:
                a, b = out[-1] - out[-2], p - out[-2]
                if a[0] * b[1] - a[1] * b[0] > 0:
                    break
                out.pop()
            out.append(p)
        return out

    return np.array(half(ordered)[:-1] + half(ordered[::-1])[:-1])


def smallest_rectangle(points: Array) -> Array:
    """Corners (4, 2) of the rectangle of least area around points x y.

    One of its sides lies on a side of the hull. The corners start at the top left and go clockwise
    as the picture shows them (y down).
    """
    corners = hull(points)
    if len(corners) == 1:
        return np.repeat(corners, 4, 0)
    sides = np.roll(corners, -1, 0) - corners
    sides = sides / np.linalg.norm(sides, axis=1, keepdims=True)
    best: tuple[float, Array] | None = None
    for x, y in sides:
        turn = np.array([[x, y], [-y, x]])
        there = corners @ turn.T
        low, high = there.min(0), there.max(0)
        area = float(np.prod(high - low))
        if best is None or area < best[0] - 1e-9:
            box = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
            best = (area, box @ turn)
    found = np.repeat(corners[:1], 4, 0) if best is None else best[1]
    return _ordered(found)


def _ordered(box: Array) -> Array:
    """The corners of a rectangle from its top left, clockwise."""
    a, b = box[1] - box[0], box[2] - box[1]
    if a[0] * b[1] - a[1] * b[0] < 0:
        box = box[::-1]
    return np.roll(box, -int(np.argmin(box.sum(1))), 0)


def grown(box: Array, ratio: float) -> Array:
    """A rectangle moved out on all sides by area * ratio / circumference."""
    right, down = box[1] - box[0], box[3] - box[0]
    width, height = float(np.linalg.norm(right)), float(np.linalg.norm(down))
    if width == 0 or height == 0:
        return box
    by = width * height * ratio / (2 * (width + height))
    right, down = right / width * by, down / height * by
    return box + np.array([-right - down, right - down, right + down, down - right])
