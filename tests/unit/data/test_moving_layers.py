"""Scenes of moving layers: the flow is that of the pictures, by hand and by warping."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from foveal.data.moving_layers import (
    PURE,
    Layers,
    draw_layers,
    moving_layers,
    procedural_textures,
    render_layers,
)
from foveal.errors import ArgumentError, ShapeError

SIZE = (64, 80)


def still(batch: int = 1, *, size=SIZE, num_shapes: int = 1, **changes) -> Layers:
    """Layers that stand, turned and scaled by nothing, but for what is changed."""
    layers = draw_layers(batch, size=size, num_shapes=num_shapes, displacement=8, seed=3)
    zero = torch.zeros_like(layers.angle)
    plain = {
        "center": torch.zeros_like(layers.center),
        "velocity": torch.zeros_like(layers.velocity),
        **dict.fromkeys(("angle", "spin", "growth"), zero),
        "scale": zero + 1,
    }
    return dataclasses.replace(layers, **plain | {k: v.float() for k, v in changes.items()})


def warped(frame: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Fetch, for each pixel, what lies where its flow points to; written apart from the library."""
    _, _, height, width = frame.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    column = 2 * (x + flow[:, 0]) / (width - 1) - 1
    row = 2 * (y + flow[:, 1]) / (height - 1) - 1
    return F.grid_sample(frame, torch.stack([column, row], -1), align_corners=True)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_next_frame_taken_back_along_the_flow_is_this_frame(seed) -> None:
    scenes = moving_layers(3, size=SIZE, num_frames=4, num_shapes=4, displacement=10, seed=seed)
    assert 0.4 < scenes.valid.float().mean() < 0.99
    for i in range(3):
        here, there, flow = scenes.frames[:, i], scenes.frames[:, i + 1], scenes.flow[:, i]
        valid = scenes.valid[:, i]
        error = (warped(there, flow) - here).abs().mean(1)[valid]
        moved = (there - here).abs().mean(1)[valid]
        assert error.mean() < 0.012
        assert error.quantile(0.99) < 0.06
        assert error.mean() < 0.2 * moved.mean()
        # The flow is not right with another sign, or with its axes swapped.
        for wrong in (-flow, flow.flip(1)):
            assert (warped(there, wrong) - here).abs().mean(1)[valid].mean() > 3 * error.mean()


def test_a_whole_translation_moves_whole_pixels() -> None:
    velocity = torch.tensor([[[3, -2], [3, -2]]])
    scenes = render_layers(still(velocity=velocity), size=SIZE, num_frames=3)
    torch.testing.assert_close(scenes.flow[0, 1, 0], torch.full(SIZE, 3.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(scenes.flow[0, 0, 1], torch.full(SIZE, -2.0), atol=1e-4, rtol=0)
    one, two = scenes.frames[0, :2]
    torch.testing.assert_close(two[:, :-2, 3:], one[:, 2:, :-3], atol=1e-4, rtol=0)
    inside = scenes.valid[0, 0]
    assert not inside[:2].any()
    assert not inside[:, -3:].any()
    assert inside[2:, :-3].float().mean() > 0.9  # all but the outline of the shape


def test_a_quarter_turn_is_that_of_rot90() -> None:
    layers = still(size=(64, 64), spin=torch.full((1, 2), math.pi / 2))
    scenes = render_layers(layers, size=(64, 64))
    one, two = scenes.frames[0]
    # From x (right) to y (down): clockwise on the screen.
    torch.testing.assert_close(two, one.rot90(-1, (1, 2)), atol=2e-3, rtol=0)
    corner = scenes.flow[0, 0, :, 0, 0]  # the upper left pixel goes to the upper right
    torch.testing.assert_close(corner, torch.tensor([63.0, 0.0]), atol=1e-3, rtol=0)


def test_growth_moves_points_away_from_the_center_of_their_layer() -> None:
    layers = still(
        center=torch.tensor([[[0, 0], [8, 4]]]), growth=torch.tensor([[0.0, math.log(1.5)]])
    )
    scenes = render_layers(layers, size=SIZE)
    # Pixel (row 36, column 56) lies 8.5 to the right and 0.5 below the center of the shape.
    torch.testing.assert_close(
        scenes.flow[0, 0, :, 36, 56], torch.tensor([4.25, 0.25]), atol=1e-4, rtol=0
    )
    assert not scenes.flow[0, 0, :, 0, 0].any()


def test_what_a_shape_will_cover_and_what_leaves_the_frame_is_not_valid() -> None:
    shape = still()
    alpha = torch.zeros_like(shape.patches)
    alpha[..., 8:24, 8:24] = 1  # a white square of 16 pixels, rows 24 to 39, columns 32 to 47
    layers = dataclasses.replace(
        shape, patches=alpha, velocity=torch.tensor([[[0.0, 0.0], [10.0, 0.0]]])
    )
    scenes = render_layers(layers, size=SIZE)
    expected = torch.ones(SIZE, dtype=torch.bool)
    expected[24:40, 48:58] = False  # behind the square in the next frame
    assert torch.equal(scenes.valid[0, 0], expected)
    assert (scenes.flow[0, 0, 0, 24:40, 32:48] == 10).all()
    assert scenes.flow[0, 0].sum() == 10 * 16 * 16
    assert (scenes.frames[0, 1, :, 24:40, 42:58] == 1).all()


def test_the_layer_in_front_hides_the_others() -> None:
    layers = still(num_shapes=2, velocity=torch.tensor([[[1, 0], [2, 0], [3, 0]]]))
    patches = layers.patches.clone()
    patches[:, :, 3] = 0.4  # each lets 0.6 through: shares 0.36, 0.24, 0.4
    scenes = render_layers(dataclasses.replace(layers, patches=patches), size=SIZE)
    assert scenes.flow[0, 0, 0, 32, 40] == pytest.approx(3)
    patches[:, 1, 3] = 0.3  # 0.42, 0.28, 0.3: the background has the largest share
    scenes = render_layers(dataclasses.replace(layers, patches=patches), size=SIZE)
    assert scenes.flow[0, 0, 0, 32, 40] == pytest.approx(1)
    assert not scenes.valid[0, 0, 32, 40]  # nothing has `PURE` of it
    assert PURE > 0.5


@pytest.mark.parametrize("num_frames", [2, 8])
def test_no_pixel_moves_further_than_the_displacement(num_frames) -> None:
    options = {"size": (48, 48), "num_frames": num_frames, "num_shapes": 3, "displacement": 12.0}
    flow = moving_layers(16, **options, seed=1).flow
    assert 6 < flow.norm(dim=2).max() <= 12
    # Of all points that a layer may show: none, in the last frame that something moves from.
    layers = draw_layers(512, **options, seed=2)
    late = layers.pose(num_frames - 2)
    reach = late.scale * layers.patches.shape[-1] / math.sqrt(2)
    reach[:, 0] = 24 * math.sqrt(2) + late.center[:, 0].norm(dim=-1)
    turned = (layers.growth.abs().exp() - 1) + layers.spin.abs()
    far = layers.velocity.norm(dim=-1) + turned * reach
    assert 9 < far[:, 1:].max() <= 12
    assert 9 < far[:, 0].max() <= 12


def test_the_same_seed_gives_the_same_bits() -> None:
    one, two, other = (moving_layers(2, size=SIZE, seed=s) for s in (5, 5, 6))
    for name in ("frames", "flow", "valid", "source"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert not torch.equal(one.frames, other.frames)
    torch.manual_seed(99)  # the global generator plays no part
    assert torch.equal(moving_layers(2, size=SIZE, seed=5).frames, one.frames)


def test_textures_and_cutouts_are_used_and_named() -> None:
    levels = torch.tensor([0, 85, 170, 255], dtype=torch.uint8)
    textures = levels[:, None, None, None].expand(4, 3, 40, 50)
    green = torch.zeros(1, 4, 9, 9)
    green[:, 1] = green[:, 3] = 1
    options = {"size": SIZE, "textures": textures, "backgrounds": [3, 0, 1], "seed": 2}
    scenes = moving_layers(3, num_shapes=6, cutouts=green, **options)
    assert scenes.source.tolist() == [3, 0, 1]
    assert scenes.frames[0].amin(1).max() == 1  # white behind
    red, lime = scenes.frames[:, :, 0], scenes.frames[:, :, 1]
    assert ((lime > 0.99) & (red < 0.01)).float().mean() > 0.01
    as_float = moving_layers(
        3, num_shapes=6, cutouts=green, **{**options, "textures": textures.float() / 255}
    )
    torch.testing.assert_close(as_float.frames, scenes.frames)
    grey = moving_layers(3, num_shapes=6, **options).frames
    torch.testing.assert_close(grey[:, :, 0], grey[:, :, 1])
    layers = draw_layers(3, num_shapes=6, cutouts=green, **options)
    assert layers.source.shape == (3, 7)
    assert {-1} < set(layers.source[:, 1:].flatten().tolist()) <= {-1, 0, 1, 2, 3}


def test_of_many_small_textures_those_that_are_used_are_enlarged(monkeypatch) -> None:
    sizes: list[tuple[int, ...]] = []
    enlarge = F.interpolate

    def watch(x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        sizes.append(tuple(x.shape))
        return enlarge(x, *args, **kwargs)

    levels = torch.arange(250, dtype=torch.uint8)
    textures = levels[:, None, None, None].expand(250, 3, 8, 10)
    monkeypatch.setattr(F, "interpolate", watch)
    layers = draw_layers(2, size=SIZE, num_shapes=3, textures=textures, displacement=4, seed=1)
    assert sizes == [(6, 3, 8, 10)]
    color, alpha = layers.patches[:, :, 0].amax((2, 3)), layers.patches[:, :, 3].amax((2, 3))
    assert bool((alpha == 1).all())
    torch.testing.assert_close(color, layers.source[:, 1:] / 255)


def test_procedural_textures_fill_the_range() -> None:
    made = procedural_textures(4, 96, torch.Generator().manual_seed(0))
    assert made.shape == (4, 3, 96, 96)
    assert made.min() >= 0
    assert made.max() <= 1
    assert made.std() > 0.15


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"num_frames": 1}, "num_frames is 1"),
        ({"num_shapes": 0}, "num_shapes is 0"),
        ({"size": (8, 64)}, "height is 8"),
        ({"size": (64, 8)}, "width is 8"),
        ({"displacement": 0.0}, "displacement is 0"),
        ({"displacement": math.nan}, "displacement is nan"),
        ({"displacement": 65.0}, "displacement is 65"),
        ({"seed": -1}, "seed is -1"),
        ({"backgrounds": [0]}, "without textures"),
        ({"textures": torch.ones(2, 3, 20, 20), "backgrounds": [2]}, r"backgrounds is \[2\]"),
        ({"textures": torch.ones(2, 3, 20, 20), "backgrounds": [0, 1]}, "must be 1 numbers"),
        ({"textures": torch.full((1, 3, 20, 20), math.nan)}, "textures is torch.float32 with"),
        ({"cutouts": torch.full((1, 4, 20, 20), 2.0)}, "cutouts is torch.float32 with"),
    ],
)
def test_bad_arguments_are_named(options, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        moving_layers(**{"batch": 1, "size": (64, 64), "displacement": 8.0, **options})


@pytest.mark.parametrize("name", ["textures", "cutouts"])
def test_wrong_shapes_are_named(name) -> None:
    with pytest.raises(ShapeError, match=f"{name} has shape"):
        moving_layers(1, size=(64, 64), **{name: torch.rand(1, 2, 20, 20)})
