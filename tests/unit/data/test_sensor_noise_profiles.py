import json
from pathlib import Path

import pytest
import torch

from foveal.data.sensor_noise import camera_profiles, draw_shot, read_profiles, shoot
from foveal.errors import ArgumentError, MediaError


def _file(tmp_path: Path, profiles: object) -> Path:
    path = tmp_path / "p.json"
    rows = [{"maker": "M", "models": [{"model": "X", "profiles": profiles}]}]
    path.write_text(json.dumps({"version": 0, "noiseprofiles": rows}))
    return path


def _row(iso: int, a: float, b: float = 1e-7, **more: object) -> dict[str, object]:
    return {"iso": iso, "a": [a, a / 2, a], "b": [b, b, b], "name": "n", **more}


def test_lines_between_speeds_averages_and_skips(tmp_path: Path) -> None:
    found = read_profiles(
        _file(
            tmp_path,
            [
                _row(200, 2e-4),
                _row(100, 1e-4, -1e-8),
                _row(200, 4e-4),
                _row(400, 9.0, skip=True),
                _row(800, -1e-4),
            ],
        )
    )
    assert (found.num_profiles, found.num_skipped, found.num_impossible) == (5, 1, 1)
    assert len(found.usable) == 3
    assert found.usable[1].noise.read == (0, 0, 0)  # a fit below zero
    middle = found.noise("M", "X", 150)
    assert middle.shot == pytest.approx((2e-4, 1e-4, 2e-4))
    assert found.noise("M", "X", 200).shot[0] == pytest.approx(3e-4)
    with pytest.raises(ArgumentError, match="iso is 300, must be in 100 to 200"):
        found.noise("M", "X", 300)
    with pytest.raises(ArgumentError, match="none of this camera"):
        found.noise("M", "Y", 100)
    draw = draw_shot(0, source="profiles", profiles=found, iso=(150, 250))
    assert draw.source == "profile:M X ISO 200"
    with pytest.raises(ArgumentError, match="no profile is within"):
        draw_shot(0, source="profiles", profiles=found, iso=(300, 400))


@pytest.mark.parametrize(
    "profiles",
    [
        None,
        {},
        [1],
        [{"iso": 100}],
        [_row(0, 1e-4)],
        [_row(True, 1e-4)],
        [{**_row(100, 1e-4), "iso": 1e400}],
        [{**_row(100, 1e-4), "a": [1, 2]}],
        [{**_row(100, 1e-4), "a": [1, 2, "3"]}],
        [{**_row(100, 1e-4), "b": [1, 2, float("nan")]}],
        [{**_row(100, 1e-4), "b": [1, 2, 10**400]}],
        [_row(100, 1e-4, skip=True)],
    ],
    ids=range(12),
)
def test_damaged_files_are_refused(tmp_path: Path, profiles: object) -> None:
    with pytest.raises(MediaError, match="profiles: "):
        read_profiles(_file(tmp_path, profiles))


def test_files_that_are_no_profiles(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for data in (b"{", b"[" * 100_000, b"\xff\xfe", b"{}", b"[]"):
        path.write_bytes(data)
        with pytest.raises(MediaError, match="profiles: "):
            read_profiles(path)
    path.write_bytes(b" " * ((16 << 20) + 1))
    with pytest.raises(MediaError, match="must be smaller"):
        read_profiles(path)
    with pytest.raises(ArgumentError, match="noise profiles"):
        read_profiles(tmp_path / "missing.json")


@pytest.mark.assets
def test_the_packaged_profiles() -> None:
    found = camera_profiles()
    assert (found.num_cameras, found.num_profiles) == (374, 7045)
    assert len(found.usable) == 7045 - found.num_skipped - found.num_impossible > 5000
    assert len(found.cameras()) > 300
    assert max(p.iso for p in found.usable) > 100_000
    noise = found.noise("Sony", "ILCE-7M3", 12800)
    assert 1e-5 < noise.shot[1] < 1e-3
    louder = found.noise("Sony", "ILCE-7M3", 25600)
    assert all(b > a for a, b in zip(noise.shot, louder.shot, strict=True))
    shots = [draw_shot(s, source="profiles", profiles=found) for s in range(3)]
    out = shoot(torch.rand(3, 3, 16, 16), shots)
    assert torch.isfinite(out).all()
