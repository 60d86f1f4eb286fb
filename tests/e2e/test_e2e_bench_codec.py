"""`foveal bench codec` on two images, one anchor, and its refusals."""

import json
import sys
from pathlib import Path

import pytest

from foveal.cli import main
from foveal.codec.evaluate import tracks
from foveal.codec.evaluate.tracks import Bundle
from foveal.errors import MissingExtraError

pytestmark = pytest.mark.e2e

SMALL = ["-o", "scales=0.25", "-o", "resamples=20", "-o", "device=cpu"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a suite; return the exit code, output and errors."""

    def run(*arguments: str, suite: str = "codec") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["foveal", "bench", suite, *arguments])
        with pytest.raises(SystemExit) as info:
            main()
        out, err = capsys.readouterr()
        return int(info.value.code or 0), out, err

    return run


def test_two_strips_and_one_anchor(bench, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    out, kept = tmp_path / "table.json", tmp_path / "kept"
    options = ["--track", "stereo", "--images", "2", "--anchors", "jpeg", *SMALL]
    code, printed, _ = bench(*options, "--resume", str(kept), "--out", str(out))
    assert code == 0
    assert "stereo: 2 strips of one stereo pair" in printed
    assert "anecdote" in printed
    assert "stereo, bytes of a file at retention" in printed
    table = json.loads(out.read_text())
    assert (table["suite"], table["schema"]) == ("codec", 1)
    assert table["options"]["images"] == 2
    assert str(tmp_path) not in out.read_text()
    assert list(table["settings"]) == ["jpeg"]
    (track,) = table["tracks"]
    assert (track["images_that_choose"], track["images_that_judge"]) == (1, 1)
    (jpeg,) = (c for c in track["codecs"] if c["codec"] == "jpeg")
    for point in jpeg["points"]:
        assert point["bytes"]["value"] > 0
        assert point["tasks"]["stereo"]["retention"]["value"] < 1.5
    written = {p: p.stat().st_mtime_ns for p in kept.rglob("*.npz")}
    assert len(written) == 12
    code, printed, _ = bench(*options, "--resume", str(kept), "--json")
    assert code == 0
    assert json.loads(printed)["tracks"] == table["tracks"]
    assert written == {p: p.stat().st_mtime_ns for p in kept.rglob("*.npz")}


def test_a_track_without_its_package_is_left_out(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, **more: object) -> Bundle:
        raise MissingExtraError("scikit-image is missing")

    monkeypatch.setattr(tracks, "make", fail)
    code, printed, _ = bench("--track", "stereo", "--anchors", "jpeg", *SMALL)
    assert code == 0
    assert "stereo: left out: scikit-image is missing" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--track", "moon"], "-o track: track is 'moon', must be of efficientnet-lite0"),
        (["--anchors", "gif"], "-o anchors: anchors is 'gif', must be of jpeg, webp"),
        (["--images", "-1"], "-o workers, images, resamples: are 0, -1, 1000"),
        (["-o", "retention=high"], "-o retention: retention is 'high', must be numbers"),
        (["-o", "retention=2"], "levels is (2.0,), must be within (0, 1]"),
        (["-o", "scales=2"], "scale is 2.0, must be in (0, 1]"),
        (["--model", "no-such-codec"], "no-such-codec"),
        (["-o", "colour=red"], "option is 'colour=red'"),
    ],
    ids=["track", "anchors", "images", "words", "retention", "scales", "model", "option"],
)
def test_refusals(bench, arguments: list[str], message: str) -> None:
    code, _, errors = bench(*arguments)
    assert code == 2
    assert message in " ".join(errors.split())


def test_another_table_is_not_written_over(bench, tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    out.write_text('{"suite": "lowlight"}')
    code, _, errors = bench("--track", "stereo", "--out", str(out))
    assert code == 2
    assert "its suite is 'lowlight', must be 'codec'" in " ".join(errors.split())
    assert out.read_text() == '{"suite": "lowlight"}'


def test_options_of_this_suite_are_none_of_another(bench) -> None:
    code, _, errors = bench("--track", "words", suite="attention")
    assert code == 2
    assert "option is 'track=words'" in errors
