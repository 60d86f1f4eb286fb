"""The rotated jigsaw: nine turned and shuffled cells, whose order a small head must tell."""

from collections.abc import Sequence
from functools import cache
from itertools import permutations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

NUM_PERMUTATIONS = 30
GRID = 3
_INSET = 21 / 85
"""Part of a cell's side that is cut off, at a random place: edges do not continue."""
_WIDTH = 64


@cache
def far_permutations(num: int = NUM_PERMUTATIONS, *, seed: int = 0) -> Int64[Tensor, "num 9"]:
    """Return permutations of nine cells that are far from each other.

    Greedy: each is the one of all 9! whose least Hamming distance to those chosen is largest, and
    of these the one with the largest mean distance.

    Source: Noroozi and Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw
    Puzzles", ECCV 2016, arXiv:1603.09246. Differs: by the mean alone two may differ in two cells.
    Cost: num passes over 362,880 permutations, about 0.1 s each.
    """
    every = torch.tensor(list(permutations(range(GRID**2))), dtype=torch.int8)
    generator = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(every), (), generator=generator))]
    total = torch.zeros(len(every), dtype=torch.int32)
    least = torch.full((len(every),), GRID**2, dtype=torch.int32)
    for _ in range(num - 1):
        distance = (every != every[chosen[-1]]).sum(1, dtype=torch.int32)
        total += distance
        least = torch.minimum(least, distance)
        chosen.append(int((least * 1000 + total).argmax()))
    return every[chosen].long()


def shuffle(
    pictures: Float[Tensor, "b *frames 3 size size"],
    order: Int64[Tensor, "b 9"],
    turns: Int64[Tensor, "b 9"],
    generator: torch.Generator,
    *,
    jitter: float = 0.0,
) -> Float[Tensor, "b *frames 3 small small"]:
    """Cut pictures into 3 x 3 cells, turn each, and put them together in another order.

    Every cell is cut at a random place inside its ninth, 64 of 85 pixels wide. All frames of a clip
    are treated alike.

    Args:
        pictures: Squares.
        order: Place p of the result shows cell `order[p]`.
        turns: Quarter turns of what place p shows, in [0, 3].
        generator: On the CPU; where cells are cut, and their jitter.
        jitter: Each cell is made brighter or darker by up to this part, in [0, 1).

    Returns: Squares of side 3 floor(64 / 255 size).

    Source: SACC's pretext task as far as it is known (3 x 3, rotated, weight 1); cells, gaps and
    permutations of its ancestor, Wang et al., "HLA-Face", CVPR 2021.
    """
    size = pictures.shape[-1]
    cell = size // GRID
    small = cell - round(cell * _INSET)
    rows: list[Tensor] = []
    for i, picture in enumerate(pictures):
        offsets = torch.randint(cell - small + 1, (GRID**2, 2), generator=generator).tolist()
        shades = 1 + jitter * (2 * torch.rand(GRID**2, generator=generator) - 1)
        cells: list[Tensor] = []
        for place, (at, turn) in enumerate(zip(order[i].tolist(), turns[i].tolist(), strict=True)):
            top = at // GRID * cell + offsets[place][0]
            left = at % GRID * cell + offsets[place][1]
            piece = picture[..., top : top + small, left : left + small]
            piece = torch.rot90(piece, turn, (-2, -1))
            cells.append((piece * shades[place]).clamp(0, 1) if jitter else piece)
        lines = [torch.cat(cells[i : i + GRID], -1) for i in range(0, GRID**2, GRID)]
        rows.append(torch.cat(lines, -2))
    return torch.stack(rows)


class JigsawHead(nn.Module):
    """Tells the permutation (30-way) and the turn of each cell (4-way) from features.

    One branch per feature level: two 3 x 3 convolutions to 64 channels, a mean over each of the
    nine places, a linear layer.

    Args:
        channels: Channels of each level.
        num_permutations: Classes.

    Source: as `shuffle`. Differs: places are pooled one by one and not all together, and the turns
    are told too; both make the head learn in hundreds of steps.
    """

    def __init__(
        self, channels: Sequence[int], *, num_permutations: int = NUM_PERMUTATIONS
    ) -> None:
        """Make the branches."""
        super().__init__()

        def branch(width: int) -> nn.Sequential:
            return nn.Sequential(
                nn.GroupNorm(1, width),  # levels differ in size by orders of magnitude
                nn.Conv2d(width, _WIDTH, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(GRID),
            )

        self.branches = nn.ModuleList(branch(width) for width in channels)
        self.order = nn.ModuleList(nn.Linear(_WIDTH * GRID**2, num_permutations) for _ in channels)
        self.turns = nn.ModuleList(nn.Conv2d(_WIDTH, 4, 1) for _ in channels)

    def forward(self, levels: Sequence[Float[Tensor, "b _ _ _"]]) -> list[tuple[Tensor, Tensor]]:
        """Return logits of the permutation, (b, permutations), and of turns, (b, 4, 9), a level."""
        answers: list[tuple[Tensor, Tensor]] = []
        for x, branch, order, turns in zip(
            levels, self.branches, self.order, self.turns, strict=True
        ):
            places = branch(x)
            answers.append((order(places.flatten(1)), turns(places).flatten(2)))
        return answers

    def loss(
        self,
        levels: Sequence[Float[Tensor, "b _ _ _"]],
        label: Int64[Tensor, "b"],
        turns: Int64[Tensor, "b 9"],
    ) -> tuple[Float[Tensor, ""], float]:
        """Return the cross-entropies summed over levels, and the share of right permutations."""
        total = torch.zeros((), device=label.device)
        right = 0.0
        answers = self(levels)
        for order_logits, turn_logits in answers:
            total = total + F.cross_entropy(order_logits, label)
            total = total + F.cross_entropy(turn_logits, turns)
            right += float((order_logits.argmax(1) == label).float().mean())
        return total, right / len(answers)
