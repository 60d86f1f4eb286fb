"""The summaries of key cells as plain loops in fp64, with the Gram matrix written out."""

import torch
from jaxtyping import Float
from torch import Tensor

CELL = 64


def summarize_keys_reference(
    k: Float[Tensor, "b g t d"], *, mean: Float[Tensor, "b g 1 d"] | None
) -> tuple[Float[Tensor, "b g m d"], Float[Tensor, "b g m"]]:
    """Return the mean key and the self-similarity of each 64-token cell, after subtracting `mean`.

    Self-similarity is the mean of the Gram matrix of the normalized keys; zero keys stay zero.
    """
    b, g, t, d = k.shape
    starts = range(0, t, CELL)
    pooled = torch.zeros(b, g, len(starts), d, dtype=torch.float64)
    similarity = torch.zeros(b, g, len(starts), dtype=torch.float64)
    for i in range(b):
        for j in range(g):
            for cell, start in enumerate(starts):
                rows = k[i, j, start : start + CELL].double()
                if mean is not None:
                    rows = rows - mean[i, j].double()
                pooled[i, j, cell] = rows.mean(0)
                unit = torch.stack([row if row.norm() == 0 else row / row.norm() for row in rows])
                similarity[i, j, cell] = (unit @ unit.T).mean()
    return pooled, similarity
