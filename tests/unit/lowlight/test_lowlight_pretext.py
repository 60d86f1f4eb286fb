"""The rotated jigsaw, by hand."""

import torch

from foveal.lowlight.pretext import JigsawHead, far_permutations, shuffle


def test_permutations_are_permutations_and_far_apart() -> None:
    found = far_permutations()
    assert found.shape == (30, 9)
    assert torch.equal(found.sort(1).values, torch.arange(9).expand(30, 9))
    distance = (found[:, None] != found[None]).sum(-1)
    assert distance[~torch.eye(30, dtype=torch.bool)].min() >= 7


def test_cells_go_where_the_order_says_turned_and_with_gaps() -> None:
    """Each pixel holds the number of its cell, and which corner it is near."""
    size = 90
    rows = torch.arange(size)
    number = (rows[:, None] // 30 * 3 + rows // 30).float() / 10
    picture = torch.stack(
        [number, rows[:, None].expand(size, size) / size, rows / size + number * 0]
    )
    order = torch.tensor([[8, 1, 2, 3, 4, 5, 6, 7, 0]])
    turns = torch.tensor([[1, 0, 0, 0, 0, 0, 0, 0, 2]])
    found = shuffle(picture[None], order, turns, torch.Generator().manual_seed(0))[0]
    small = 30 - round(30 * 21 / 85)
    assert found.shape == (3, 3 * small, 3 * small)
    cells = found.unflatten(1, (3, small)).unflatten(3, (3, small)).permute(1, 3, 0, 2, 4)
    for place, number in enumerate(order[0].tolist()):
        cell = cells[place // 3, place % 3]
        assert (cell[0] == number / 10).all()
        down = (cell[1, -1, 0] - cell[1, 0, 0]).item()
        across = (cell[1, 0, -1] - cell[1, 0, 0]).item()
        if place == 0:  # a quarter turn counterclockwise: what went down goes right
            assert abs(down) < 1e-6 < across
        elif place == 8:
            assert down < 0
        else:
            assert down > 0
    starts = {round(float(cells[i, j, 1].min() * size)) % 30 for i in range(3) for j in range(3)}
    assert len(starts) > 1  # cut at random places
    assert max(starts) <= 30 - small


def test_frames_of_a_clip_are_treated_alike() -> None:
    frames = torch.rand(1, 3, 60, 60)
    clip = frames[:, None].repeat(1, 4, 1, 1, 1)
    order = torch.randperm(9)[None]
    turns = torch.randint(4, (1, 9))
    found = shuffle(clip, order, turns, torch.Generator().manual_seed(3), jitter=0.2)
    alone = shuffle(frames, order, turns, torch.Generator().manual_seed(3), jitter=0.2)
    for frame in found[0]:
        assert torch.equal(frame, alone[0])


def test_a_head_can_learn_and_its_loss_starts_at_chance() -> None:
    torch.manual_seed(0)
    head = JigsawHead([4, 6])
    levels = [torch.rand(64, 4, 12, 12), torch.rand(64, 6, 6, 6)]
    label, turns = torch.randint(30, (64,)), torch.randint(4, (64, 9))
    loss, right = head.loss(levels, label, turns)
    chance = 2 * (torch.tensor(30.0).log() + torch.tensor(4.0).log())
    assert abs(loss.item() / chance.item() - 1) < 0.1
    assert right < 0.2
    loss.backward()
    assert all(p.grad is not None for p in head.parameters())
