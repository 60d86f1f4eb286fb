"""The command line on paths, folders with a bad file, and what a target's format cannot hold."""

import sys

import pytest
import torch

from foveal._core.media import write_image
from foveal.cli import main

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
