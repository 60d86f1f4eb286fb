"""Transforms with a linear part: principal components to start with, nothing lost that fits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from foveal.codec import schemes
from foveal.codec.config import CodecConfig, Source
from foveal.codec.encoding import encode
from foveal.codec.model import FeatureCodec
from foveal.codec.stream import decode
from foveal.codec.training import TrainOptions, train
from foveal.codec.transforms import (
    Analysis,
    cells,
    least_squares,
    pad_to_cells,
    principal,
    spread,
)
from foveal.errors import ArgumentError

SIZES = schemes.Sizes(12, 2, 8, 8, 1, side=3, codewords=4, hyper_hidden=5, linear=True)


def data(source: Source, count: int = 64, seed: int = 0) -> Tensor:
    """Return features of three numbers a cell of 2 x 2 positions, so that 3 latents tell all."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(source.channels * 4, 3, generator=torch.Generator().manual_seed(9))
    rows, columns = -(-source.height // 2), -(-source.width // 2)
    hidden = torch.randn(count, 3, rows, columns, generator=generator)
    wide = torch.einsum("dk,bkuv->bduv", mixing, hidden)
    return spread(wide, (2, 2), (source.height, source.width)) + 3


def model(source: Source, sizes: schemes.Sizes = SIZES) -> FeatureCodec:
    torch.manual_seed(0)
    made = FeatureCodec(schemes.joint([source], sizes))
    made.start({source.name: data(source)})
    return made


def test_cells_by_hand() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    # one row of two cells; the last column is repeated
    wanted = torch.tensor([[0, 2], [1, 2], [3, 5], [4, 5]], dtype=torch.float32)
    assert torch.equal(cells(x, (2, 2))[0, :, 0], wanted)
    assert torch.equal(pad_to_cells(x, (2, 2))[0, 0, 0], torch.tensor([0.0, 1, 2, 2]))
    assert torch.equal(spread(cells(x, (2, 2)), (2, 2), (2, 3)), x)
    assert torch.equal(cells(x, (1, 1)), x)


def test_least_squares_by_hand() -> None:
    y = torch.randn(5, 2, 3, 4)
    target = torch.stack([2 * y[:, 0] - y[:, 1] + 1, y[:, 1] - 4], dim=1)
    weight, bias = least_squares(y, target)
    assert torch.allclose(weight[:, :, 0, 0], torch.tensor([[2.0, -1], [0, 1]]), atol=1e-4)
    assert torch.allclose(bias, torch.tensor([1.0, -4]), atol=1e-4)
    # a latent that never changes is no reason to fail
    still = torch.cat([y, torch.ones(5, 1, 3, 4)], dim=1)
    weight, bias = least_squares(still, target)
    assert torch.isfinite(weight).all()
    assert torch.allclose(weight[:, :2, 0, 0], torch.tensor([[2.0, -1], [0, 1]]), atol=1e-4)


def test_principal_components_are_orthonormal_by_falling_variance() -> None:
    analysis = Analysis(
        inputs=3, hidden=4, outputs=14, size=(6, 6), stride=2, blocks=0, linear=True
    )
    x = torch.randn(50, 3, 6, 6) * torch.tensor([4.0, 2.0, 1.0])[:, None, None]
    weight = principal(x, analysis)
    assert weight.shape == (14, 3, 2, 2)
    flat = weight[:12].flatten(1)
    assert torch.allclose(flat @ flat.T, torch.eye(12), atol=1e-5)
    # a cell of 2 x 2 x 3 has 12 numbers
    assert torch.equal(weight[12:], torch.zeros(2, 3, 2, 2))
    with torch.no_grad():
        assert analysis.linear is not None
        analysis.linear.weight.copy_(weight)
        variance = analysis(x).var(dim=(0, 2, 3))
    assert (variance[:12].diff() < 1e-3).all()
    assert variance[0] == pytest.approx(16, rel=0.4)


@pytest.mark.parametrize("size", [(6, 8), (5, 7)], ids=str)
def test_what_fits_into_the_latents_comes_back_before_any_training(size: tuple[int, int]) -> None:
    source = Source("a", 5, "map", *size)
    made = model(source)
    fresh = data(source, 7, seed=1)
    latents = made.analyse(made.config.layers[0], {"a": fresh})
    # three hidden numbers a cell: the other latents are nothing
    if size == (6, 8):
        assert float(latents[:, 3:].detach().abs().max()) < 1e-3 * float(latents.detach().std())
    back = made.synthesise("a", {"joint": latents})
    inside = back[..., : size[0] - size[0] % 2, : size[1] - size[1] % 2]
    wanted = fresh[..., : inside.shape[2], : inside.shape[3]]
    assert torch.allclose(inside, wanted, atol=0.02 * float(fresh.std()))


def test_streams_files_and_training_know_it(tmp_path: Path) -> None:
    source = Source("a", 5, "map", 6, 8)
    made = model(source)
    before = {k: v.clone() for k, v in made.state_dict().items()}
    x = data(source, 16, seed=1)

    def batches(count: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {"a": data(source, count, int(torch.randint(1 << 20, (), generator=generator)))}

    train(made, batches, {}, TrainOptions(steps=3, batch=4))
    changed = {k for k, v in made.state_dict().items() if not torch.equal(v, before[k])}
    assert "layers.joint.analysis.linear.weight" in changed
    assert "heads.a.linear.weight" in changed
    made.finalise({"a": data(source)})
    made.save(tmp_path / "m.safetensors")
    again = FeatureCodec.load(tmp_path / "m.safetensors")
    assert again.model_id == made.model_id
    assert (again.config.layers[0].linear, again.config.heads[0].linear) == (True, True)
    payload = encode(made, {"a": x}, quality=63).payload
    assert torch.equal(decode(again, payload)["a"], decode(made, payload)["a"])
    gap = decode(made, payload)["a"] - x
    assert float(gap.square().mean()) < 0.05 * float(x.var())


def test_several_layers_and_heads_start_with_the_least_error() -> None:
    sources = [Source("a", 2, "map", 4, 4), Source("b", 3, "map", 4, 4)]
    x = {"a": torch.randn(90, 2, 4, 4), "b": torch.randn(90, 3, 4, 4)}
    made = FeatureCodec(schemes.separate(sources, replace(SIZES, channels=12)))
    made.start(x)
    with torch.no_grad():
        values = {s.name: made.analyse(made.config.layers[i], x) for i, s in enumerate(sources)}
        back = made.synthesise("b", {"b": values["b"]})
    # 12 latents for 12 numbers a cell
    assert torch.allclose(back, x["b"], atol=1e-3)


def test_other_models_say_nothing_of_it() -> None:
    source = Source("a", 5, "map", 6, 8)
    plain = schemes.joint([source], replace(SIZES, linear=False)).to_dict()
    assert "linear" not in plain["layers"][0]
    assert "linear" not in plain["heads"][0]
    linear = schemes.joint([source], SIZES)
    assert CodecConfig.from_dict(linear.to_dict()) == linear


def test_a_cell_that_is_too_large_is_named() -> None:
    wide = Source("a", 1025, "map", 8, 8)
    with pytest.raises(ArgumentError, match="linear with 4100 numbers a cell, must be at most"):
        schemes.joint([wide], SIZES)
