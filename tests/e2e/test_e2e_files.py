"""The command line on paths, folders with a bad file, and what a target's format cannot hold."""

import json
import sys

import pytest
import torch

from foveal._core.media import read_picture, write_image
from foveal.cli import main
from foveal.codec.sources import EfficientNetCut
from foveal.errors import MediaError

pytestmark = pytest.mark.e2e


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run the command line in this process; returns exit code, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["foveal", *map(str, arguments)])
        with pytest.raises(SystemExit) as info:
            main()
        out, err = capsys.readouterr()
        return int(info.value.code or 0), out, err

    return run


def picture(path, **extra) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, torch.rand(3, 24, 32) * 0.2, **extra)


@pytest.mark.parametrize(
    ("where", "arguments"),
    [
        ("source", ("enhance", "", "o")),
        ("target", ("enhance", "a.png", "")),
        ("source", ("encode", "", "o.fvl")),
        ("target", ("encode", "a.png", "")),
        ("source", ("decode", "")),
        ("--features", ("decode", "a.fvl", "--features", "")),
        ("source", ("inspect", "")),
        ("target", ("move", "bow", "")),
        ("source", ("run", "")),
        ("--out", ("run", "a.png", "--out", "")),
        ("--out", ("demo", "--quick", "--out", "")),
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    cli, tmp_path, monkeypatch, where, arguments
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    code, _, err = cli(*arguments)
    assert code == 2
    assert f"'{where}': it is empty" in err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_one_bad_file_does_not_stop_a_folder(cli, tmp_path) -> None:
    for name in ("a.png", "c.png"):
        picture(tmp_path / "in" / name)
    (tmp_path / "in" / "b.png").write_text("no picture")
    (tmp_path / "in" / "d.mp4").touch()
    code, out, err = cli("enhance", tmp_path / "in", tmp_path / "out", "--json")
    assert code == 2
    assert err == "foveal: 2 of 4 files failed, the others are done; see above\n"
    found = json.loads(out)
    assert found["failed"] == 2
    assert ["error" in row for row in found["files"]] == [False, True, False, True]
    assert "b.png is not a readable image" in found["files"][1]["error"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.png", "c.png"}
    code, out, _ = cli("enhance", tmp_path / "in", tmp_path / "out")
    assert code == 2
    assert out.count("skipped") == 2
    assert "d.mp4: failed: video: " in out


def test_a_wrong_strength_is_one_error_for_a_folder(cli, tmp_path) -> None:
    picture(tmp_path / "in" / "a.png")
    code, out, err = cli("enhance", tmp_path / "in", tmp_path / "out", "-o", "strength=2")
    assert (code, out) == (2, "")
    assert err.startswith("foveal: -o: strength is 2.0")


class _Teacher:
    """Stands for the recogniser, whose weights are fetched."""

    @classmethod
    def load(cls) -> "_Teacher":
        return cls()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(images), 112, 14, 14)

    def head(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean((2, 3))

    def preprocess(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def to(self, device: torch.device) -> "_Teacher":
        return self


def test_run_writes_the_summary_beside_a_bad_file(cli, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("foveal.teachers.efficientnet_lite.EfficientNetLite0", _Teacher)
    monkeypatch.setattr("foveal.codec.sources._load", lambda name: EfficientNetCut())
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b<i>.png").write_text("no picture")
    code, out, err = cli("run", tmp_path / "in", "--out", tmp_path / "out", "--json")
    assert code == 2
    assert err == "foveal: 1 of 2 files failed, the others are done; see above\n"
    found = json.loads(out)
    assert found == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["failed"] == 1
    assert found["files"][0]["codec"]["spent"] > 0
    assert "not a readable image" in found["files"][1]["error"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "failed: step 1 of 2" in page
    assert "b<i>" not in page


@pytest.mark.parametrize(
    ("suffix", "depth", "dropped"),
    [
        (".png", 16, []),
        (".tiff", 16, []),
        (".webp", 16, ["16 bit"]),
        (".webp", 8, []),
        (".jpg", 16, ["alpha", "16 bit"]),
        (".bmp", 8, ["alpha"]),
    ],
)
def test_enhance_says_what_a_format_cannot_hold(cli, tmp_path, suffix, depth, dropped) -> None:
    picture(tmp_path / "a.png", bit_depth=depth, alpha=torch.full((1, 24, 32), 0.2))
    target = tmp_path / f"o{suffix}"
    code, out, _ = cli("enhance", tmp_path / "a.png", target, "--json")
    assert code == 0
    assert json.loads(out)["files"][0]["dropped"] == dropped
    back = read_picture(target)
    assert (back.alpha is None) == ("alpha" in dropped)
    assert back.bit_depth == (16 if depth == 16 and "16 bit" not in dropped else 8)
    _, out, _ = cli("enhance", tmp_path / "a.png", target)
    assert (f"cannot hold it: {', '.join(dropped)})" in out) == bool(dropped)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("encode", "a.png", "o.fvl", "-o", "every=7"), "-o: every is given"),
        (("run", "a.png", "--out", "o", "-o", "every=7"), "-o: every is given"),
        (("move", "bow", "o.bvh", "-o", "track=kinematic", "-o", "seed=3"), "-o: seed is given"),
        (("enhance", "a.png", "o.png", "--overwrite"), "--overwrite: is given with one file"),
        (("enhance", "a.png", "o.mp4"), "target: o.mp4 ends in '.mp4'"),
        (("enhance", "a.mp4", "o.png"), "target: o.png ends in '.png'"),
    ],
)
def test_what_can_have_no_effect_is_refused(cli, tmp_path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    (tmp_path / "a.mp4").write_text("never read")
    code, _, err = cli(*arguments)
    assert code == 2
    assert err.startswith(f"foveal: {message}")
    assert err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "a.png"]


@pytest.mark.parametrize("quiet", [True, False])
def test_demo_reports_its_progress_to_a_terminal_only(cli, tmp_path, monkeypatch, quiet) -> None:
    def refuse(names: object) -> None:
        raise MediaError("no network")

    monkeypatch.setattr("foveal.data.samples.fetch", refuse)
    monkeypatch.setattr("foveal.cli.demo.command.is_quiet", lambda: quiet)
    code, _, err = cli("demo", "--quick", "--out", tmp_path)
    assert code == 2
    assert ("samples: fetching" in err) != quiet
    assert err.endswith("foveal: no network\n")
