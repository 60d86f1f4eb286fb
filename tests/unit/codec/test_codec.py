"""The public functions of the codec with a tiny model, and its golden bytes."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveal import codec
from foveal.codec.prior.codebook_global import CodebookGlobalPrior, IntegerPrior, laplace_bits
from foveal.errors import ArgumentError, BitstreamError, ShapeError, UnsupportedError

GOLDEN = Path(__file__).parents[2] / "golden" / "codec"
SHAPE = (4, 8, 8)


@pytest.fixture(scope="module")
def model() -> codec.FeatureCodec:
    return codec.load(GOLDEN / "tiny.safetensors")


def features(batch: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn((batch, *SHAPE), generator=torch.Generator().manual_seed(seed))


def test_golden_bytes_give_the_golden_integers(model: codec.FeatureCodec) -> None:
    payload = (GOLDEN / "tiny.fvl").read_bytes()
    wanted = np.load(GOLDEN / "tiny_symbols.npy", allow_pickle=False)
    assert np.array_equal(codec.decode_symbols(model, payload).reshape(3, -1), wanted)


def test_golden_symbols_give_the_golden_bytes(tmp_path: Path) -> None:
    script = (GOLDEN / "make_golden.py").read_text()
    (tmp_path / "make_golden.py").write_text(script)
    subprocess.run([sys.executable, tmp_path / "make_golden.py"], check=True, timeout=60)
    for name in ("tiny.fvl", "tiny.safetensors"):
        assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("batch", [1, 3, 17])
def test_round_trip(model: codec.FeatureCodec, batch: int) -> None:
    x = features(batch)
    stream = codec.encode(model, x)
    _, wanted = model.symbols(x)
    assert np.array_equal(codec.decode_symbols(model, stream.payload).reshape(batch, -1), wanted)
    decoded = codec.decode(model, stream.payload)
    with torch.no_grad():
        y = torch.from_numpy(wanted).float().reshape(batch, *model.latent_shape)
        assert torch.equal(decoded, model.synthesise(y))
    assert len(np.unique(wanted)) > 1


def test_one_by_one_and_in_lanes_are_the_same_streams(model: codec.FeatureCodec) -> None:
    _, together = model.symbols(features(17))
    payload = codec.encode(model, features(17)).payload
    sizes = codec.inspect(payload)["stream_bytes"]
    for i in (0, 16):
        part = features(17)[i : i + 1]
        if np.array_equal(model.symbols(part)[1][0], together[i]):
            alone = codec.encode(model, part).payload
            assert codec.inspect(alone)["stream_bytes"] == [sizes[i]]


def test_a_fresh_process_decodes_identical_integers(model: codec.FeatureCodec) -> None:
    payload = codec.encode(model, features(2)).payload
    code = (
        "import sys; from foveal import codec; m = codec.load(sys.argv[1]);"
        "y = codec.decode_symbols(m, bytes.fromhex(sys.argv[2]));"
        "import json; sys.stdout.write(json.dumps(y.tolist()))"
    )
    path = str(GOLDEN / "tiny.safetensors")
    out = subprocess.run(
        [sys.executable, "-c", code, path, payload.hex()],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert json.loads(out.stdout) == codec.decode_symbols(model, payload).tolist()


def test_receipt(model: codec.FeatureCodec) -> None:
    x = features(3)
    plain = codec.encode(model, x).receipt
    assert (plain.stage, plain.unit, plain.loss) == ("codec", "bytes", None)
    assert plain.full == x.numel() * 4
    assert plain.details["full_is"] == "raw features"
    stream = codec.encode(model, x, head=lambda f: f.mean((2, 3)), pixel_bytes=900)
    assert stream.receipt.full == 900
    assert stream.receipt.details["full_is"] == "best pixel codec"
    assert stream.receipt.spent == len(stream.payload)
    decoded = codec.decode(model, stream.payload)
    same = decoded.mean((2, 3)).argmax(1) == x.mean((2, 3)).argmax(1)
    assert stream.receipt.loss == pytest.approx(1 - float(same.double().mean()))
    bits = stream.receipt.details["y_bits"] + stream.receipt.details["z_bits"]
    assert 0 <= sum(codec.inspect(stream.payload)["stream_bytes"]) - bits / 8 <= 3 * 3


def test_inspect_adds_up(model: codec.FeatureCodec) -> None:
    payload = codec.encode(model, features(3)).payload
    found = codec.inspect(payload)
    parts = found["header_bytes"] + found["index_bytes"] + found["checksum_bytes"]
    assert parts + sum(found["stream_bytes"]) == found["total_bytes"] == len(payload)
    assert found["model_id"] == model.model_id.hex()


def test_bad_features_are_named(model: codec.FeatureCodec) -> None:
    bad = features(2)
    bad[0, 0, 0, 0] = float("nan")
    for value, error, text in (
        (bad, ArgumentError, "features has NaN"),
        (features(2).long(), ArgumentError, "features has dtype"),
        (features(2)[0], ShapeError, "features has shape"),
        (features(2)[:, :3], ShapeError, "features has shape"),
        (features(2)[:0], ShapeError, "features has batch 0"),
    ):
        with pytest.raises(error, match=text):
            codec.encode(model, value)
    with pytest.raises(ArgumentError, match="pixel_bytes"):
        codec.encode(model, features(1), pixel_bytes=0)


def test_half_precision_features_are_accepted(model: codec.FeatureCodec) -> None:
    assert codec.encode(model, features(1).half()).payload


def test_huge_features_are_clipped_not_crashed(model: codec.FeatureCodec) -> None:
    payload = codec.encode(model, features(1) * 1e30).payload
    assert np.abs(codec.decode_symbols(model, payload)).max() <= 1 << 15


def test_another_model_is_refused(model: codec.FeatureCodec) -> None:
    other = codec.FeatureCodec(model.config).finalise()
    payload = codec.encode(other, features(1)).payload
    with pytest.raises(BitstreamError, match="is of model"):
        codec.decode(model, payload)


def test_too_many_images_are_refused(model: codec.FeatureCodec) -> None:
    payload = codec.encode(model, features(3)).payload
    with pytest.raises(BitstreamError, match="max_streams"):
        codec.decode(model, payload, max_images=2)


def test_an_unfinished_model_is_refused() -> None:
    with pytest.raises(ArgumentError, match="finalise"):
        codec.encode(codec.FeatureCodec(), torch.zeros(1, 112, 14, 14))


def test_unknown_name_and_damaged_file(tmp_path: Path, model: codec.FeatureCodec) -> None:
    with pytest.raises(ArgumentError, match="no-such-codec"):
        codec.load("no-such-codec")
    model.save(tmp_path / "m.safetensors")
    data = bytearray((tmp_path / "m.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "m.safetensors").write_bytes(bytes(data))
    with pytest.raises(ArgumentError):
        codec.load(tmp_path / "m.safetensors")


def test_save_and_load_keep_the_model_id(tmp_path: Path, model: codec.FeatureCodec) -> None:
    model.save(tmp_path / "m.safetensors")
    assert codec.load(tmp_path / "m.safetensors").model_id == model.model_id


def test_packaged_size_is_under_five_megabytes(tmp_path: Path) -> None:
    codec.FeatureCodec().finalise().save(tmp_path / "full.safetensors")
    assert (tmp_path / "full.safetensors").stat().st_size < 5_000_000


def test_bad_config_is_named() -> None:
    for values in ({"in_size": 7}, {"levels": 1}, {"hyper": 0}, {"hidden": 1 << 20}):
        with pytest.raises(ArgumentError, match=next(iter(values))):
            codec.CodecConfig(**values)


def test_integer_indices_follow_the_float_twin() -> None:
    torch.manual_seed(0)
    prior = CodebookGlobalPrior(channels=6, size=4, hyper=5)
    with torch.no_grad():
        prior.codebook.mul_(3)
    integer = prior.export()
    z = torch.randint(-4, 5, (8, 5)).float()
    with torch.no_grad():
        level = torch.log(prior.scales(z).flatten(1) / prior.scale_min) / prior.log_step
    index = integer.indices(z.long().numpy())
    assert np.abs(index - level.numpy()).max() < 0.51
    assert len(np.unique(index)) > 10


def test_prior_refuses_overflow_and_wild_z() -> None:
    prior = CodebookGlobalPrior(channels=2, size=2, hyper=2, codewords=2).export()
    with pytest.raises(BitstreamError, match="z is within"):
        prior.indices(np.array([[128, 0]]))
    with pytest.raises(ArgumentError, match="must stay below"):
        IntegerPrior(
            prior.z_tables,
            prior.y_tables,
            prior.mix + (1 << 40),
            prior.mix_bias,
            prior.codebook + (1 << 30),
            prior.base,
        )
    with pytest.raises(ArgumentError, match="have shapes"):
        IntegerPrior(
            prior.z_tables,
            prior.y_tables,
            prior.mix,
            prior.mix_bias,
            prior.codebook[:1],
            prior.base,
        )
    with pytest.raises(ArgumentError, match="missing"):
        IntegerPrior.from_tensors({})


def test_laplace_bits_are_those_of_the_mass() -> None:
    x = torch.tensor([0.0, 0.3, -0.3, 0.5, 1.0, -4.0], dtype=torch.float64)
    scale = torch.tensor(1.3, dtype=torch.float64)
    density = torch.distributions.Laplace(torch.zeros((), dtype=torch.float64), scale)
    wanted = -torch.log2(density.cdf(x + 0.5) - density.cdf(x - 0.5))
    torch.testing.assert_close(laplace_bits(x, scale), wanted)


def test_training_lowers_rate_and_distortion() -> None:
    torch.manual_seed(0)
    config = codec.CodecConfig(in_channels=4, in_size=8, latent_channels=6, hidden=8, blocks=1)
    net = codec.FeatureCodec(config)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    x = features(16)
    weight = torch.randn(10, 4)
    first, last = 0.0, 0.0
    for step in range(40):
        loss, parts = codec.rate_task_loss(
            net, x, lambda f: f.mean((2, 3)) @ weight.T, trade_off=0.01, pixels=32 * 32
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first, last = (float(loss.detach()) if step == 0 else first), float(loss.detach())
        assert set(parts) == {"y_bits", "z_bits", "mse", "kl"}
    assert last < 0.9 * first


def test_pixel_ladder_reports_real_files() -> None:
    x = torch.linspace(0, 1, 3 * 48 * 64).reshape(3, 48, 64)
    rows = codec.pixel_baselines(
        x, lambda y: 1 - float((x - y).abs().mean()), formats=("jpeg", "webp"), qualities=(5, 60)
    )
    assert len(rows) == 2 * 2 * 5
    assert [r.bytes for r in rows] == sorted(r.bytes for r in rows)
    assert {r.size for r in rows} == {48, 36, 24, 18, 12}
    row = next(r for r in rows if (r.format, r.quality, r.size) == ("jpeg", 60, 48))
    buffer = io.BytesIO()
    pixels = (x * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(buffer, format="jpeg", quality=60, optimize=True)
    assert row.bytes == len(buffer.getvalue())
    best = codec.cheapest(rows, min_agreement=0.9)
    assert best is not None
    assert best.bytes == min(r.bytes for r in rows if r.agreement >= 0.9)
    assert codec.cheapest(rows, min_agreement=2.0) is None


def test_pixel_ladder_names_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(3, 16, 16)

    def agree(_: torch.Tensor) -> float:
        return 1.0

    with pytest.raises(ShapeError, match="image has shape"):
        codec.pixel_baselines(x[None], agree)
    with pytest.raises(ArgumentError, match="image is"):
        codec.pixel_baselines((x * 255).byte(), agree)
    with pytest.raises(ArgumentError, match="formats"):
        codec.pixel_baselines(x, agree, formats=("gif",))
    with pytest.raises(ArgumentError, match="qualities"):
        codec.pixel_baselines(x, agree, qualities=(101,))
    with pytest.raises(ArgumentError, match="sizes"):
        codec.pixel_baselines(x, agree, sizes=(17,))
    monkeypatch.setattr("PIL.features.check", lambda _: False)
    with pytest.raises(UnsupportedError, match="avif"):
        codec.pixel_baselines(x, agree, formats=("avif",))
