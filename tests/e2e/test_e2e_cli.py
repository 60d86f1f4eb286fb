"""The command line: what it does with good files, and with every kind of bad one."""

import importlib
import json
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from foveal._core.media import read_picture, write_image
from foveal._core.video import VideoWriter, probe_video
from foveal.cli import main

pytestmark = pytest.mark.e2e


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Run the command line in this process."""
    monkeypatch.setattr(sys, "argv", ["foveal", *map(str, arguments)])
    with pytest.raises(SystemExit) as info:
        main()
    out, err = capsys.readouterr()
    return int(info.value.code or 0), out, err


@pytest.fixture
def cli(monkeypatch, capsys):
    return lambda *a: run(monkeypatch, capsys, *a)


def picture(path, height: int = 24, width: int = 32, **extra) -> None:
    write_image(path, torch.rand(3, height, width) * 0.2, **extra)


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (24, 32)])
def test_enhance_any_size(cli, tmp_path, size) -> None:
    picture(tmp_path / "a.png", *size)
    code, out, _ = cli("enhance", tmp_path / "a.png", tmp_path / "b.png", "--json")
    assert code == 0
    assert json.loads(out)["files"][0]["receipt"]["stage"] == "lowlight"
    before, after = read_picture(tmp_path / "a.png"), read_picture(tmp_path / "b.png")
    assert after.pixels.shape == before.pixels.shape
    assert (after.pixels >= before.pixels - 1e-6).all()


def test_enhance_keeps_16_bits_and_alpha(cli, tmp_path) -> None:
    picture(tmp_path / "a.png", bit_depth=16, alpha=torch.rand(1, 24, 32))
    assert cli("enhance", tmp_path / "a.png", tmp_path / "b.png")[0] == 0
    before, after = read_picture(tmp_path / "a.png"), read_picture(tmp_path / "b.png")
    assert after.bit_depth == 16
    assert before.alpha is not None
    assert after.alpha is not None
    assert torch.equal(before.alpha, after.alpha)


def test_enhance_folder_resumes(cli, tmp_path) -> None:
    for name in ("a.png", "sub/b.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(tmp_path / "in" / name)
    assert cli("enhance", tmp_path / "in", tmp_path / "out")[0] == 0
    first = (tmp_path / "out" / "sub" / "b.jpg").stat().st_mtime_ns
    code, out, _ = cli("enhance", tmp_path / "in", tmp_path / "out", "--json")
    assert code == 0
    assert all(row["skipped"] for row in json.loads(out)["files"])
    assert (tmp_path / "out" / "sub" / "b.jpg").stat().st_mtime_ns == first
    code, out, _ = cli("enhance", tmp_path / "in", tmp_path / "out", "--json", "--overwrite")
    assert not any("skipped" in row for row in json.loads(out)["files"])


def test_a_folder_inside_the_input_is_no_input(cli, tmp_path) -> None:
    picture(tmp_path / "a.png")
    for _ in range(2):
        assert cli("enhance", tmp_path, tmp_path / "out")[0] == 0
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png")) == [
        "a.png",
        "out/a.png",
    ]


def test_a_folder_around_the_input_may_be_the_output(cli, tmp_path) -> None:
    (tmp_path / "photos").mkdir()
    picture(tmp_path / "photos" / "a.png")
    assert cli("enhance", tmp_path / "photos", tmp_path)[0] == 0
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("verb", ["decode", "inspect"])
def test_a_damaged_stream_is_named(cli, tmp_path, verb) -> None:
    (tmp_path / "bad.fvl").write_bytes(b"FV" + bytes(40))
    code, _, err = cli(verb, tmp_path / "bad.fvl")
    assert code == 2
    assert "bad.fvl cannot be decoded" in err
    assert err.count("\n") == 1


def test_a_folder_keeps_what_its_videos_are(cli, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    for suffix in (".mp4", ".mkv", ".mov"):
        with VideoWriter(tmp_path / "in" / f"a{suffix}", fps=Fraction(10)) as writer:
            writer.write(torch.rand(3, 16, 16) * 0.1)
    assert cli("enhance", tmp_path / "in", tmp_path / "out")[0] == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.mp4", "a.mkv", "a.mov"}


def test_no_arguments_show_the_help(cli) -> None:
    code, out, err = cli()
    assert code == 2
    assert "enhance" in out + err


def test_interrupt_is_one_line_and_leaves_nothing(cli, tmp_path, monkeypatch) -> None:
    stage = importlib.import_module("foveal.lowlight.video")

    with VideoWriter(tmp_path / "a.mp4", fps=Fraction(10)) as writer:
        for _ in range(3):
            writer.write(torch.rand(3, 16, 16))
    translate, calls = stage.translate, []

    def interrupt(*args, **kwargs):
        calls.append(1)
        if len(calls) == 5:  # in the second frame
            raise KeyboardInterrupt
        return translate(*args, **kwargs)

    monkeypatch.setattr(stage, "translate", interrupt)
    code, _, err = cli("enhance", tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert (code, err) == (130, "foveal: stopped\n")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_enhance_odd_video_keeps_its_size(cli, tmp_path) -> None:
    with VideoWriter(tmp_path / "a.mp4", fps=Fraction(10)) as writer:
        for _ in range(4):
            writer.write(torch.rand(3, 35, 51) * 0.1)
    assert cli("enhance", tmp_path / "a.mp4", tmp_path / "b.mp4")[0] == 0
    info = probe_video(tmp_path / "b.mp4")
    assert (info.height, info.width) == (35, 51)


BAD = {
    "missing file": ("enhance", "nope.png", "o.png"),
    "text named .mp4": ("enhance", "text.mp4", "o.mp4"),
    "text named .png": ("enhance", "text.png", "o.png"),
    "empty file": ("enhance", "empty.png", "o.png"),
    "truncated image": ("enhance", "cut.png", "o.png"),
    "unknown suffix": ("enhance", "text.txt", "o.png"),
    "unknown output suffix": ("enhance", "good.png", "o.xyz"),
    "unknown method": ("enhance", "good.png", "o.png", "-m", "magic"),
    "unknown option": ("enhance", "good.png", "o.png", "-o", "power=2"),
    "bad option value": ("enhance", "good.png", "o.png", "-o", "strength=much"),
    "strength out of range": ("enhance", "good.png", "o.png", "-o", "strength=2"),
    "output folder is a file": ("enhance", "good.png", "text.txt/o.png"),
    "empty folder": ("enhance", "hollow", "o"),
    "empty instruction": ("move", " ", "o.glb"),
    "unknown instruction": ("move", "defenestrate", "o.glb"),
    "unknown motion suffix": ("move", "bow", "o.fbx"),
    "unknown track": ("move", "bow", "o.glb", "-o", "track=magic"),
    "inspect text": ("inspect", "text.txt"),
    "truncated stream": ("inspect", "cut.fvl"),
    "decode a missing stream": ("decode", "nope.fvl"),
    "run on nothing": ("run", "nope.mp4", "--out", "o"),
    "run on text": ("run", "text.mp4", "--out", "o"),
    "run, every 0": ("run", "good.png", "--out", "o", "-o", "every=0"),
    "encode, every 0": ("encode", "good.png", "o.fvl", "-o", "every=0"),
    "encode to another suffix": ("encode", "good.png", "o.bin"),
    "decode has no such option": ("decode", "cut.fvl", "-o", "every=2"),
    "move into a new folder": ("move", " ", "new/o.glb"),
    "negative seed": ("move", "bow", "o.glb", "-o", "seed=-1"),
    "output is the input": ("enhance", "good.png", "good.png", "--overwrite"),
    "output folder is the input": ("enhance", "pair", "pair"),
    "two inputs, one output": ("enhance", "pair", "o"),
    "name too long": ("enhance", "good.png", "o" * 300 + ".png"),
    "animated": ("enhance", "moving.webp", "o.webp"),
    "no such verb": ("fly",),
    "no such flag": ("enhance", "--fly"),
    "argument missing": ("enhance", "good.png"),
    "demo, quick and full": ("demo", "--quick", "--full", "--out", "o"),
    "demo, seed too large": ("demo", "--seed", str(1 << 64), "--out", "o"),
    "demo, negative seed": ("demo", "--seed", "-1", "--out", "o"),
    "unknown sample": ("samples", "fetch", "nothing"),
    "out is a file": ("demo", "--out", "text.txt"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(cli, tmp_path, monkeypatch, case) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("text.mp4", "text.png", "text.txt"):
        (tmp_path / name).write_text("no picture")
    (tmp_path / "empty.png").touch()
    for name in ("hollow", "pair"):
        (tmp_path / name).mkdir()
    for name in ("a.avi", "a.webm"):
        (tmp_path / "pair" / name).write_text("both would become a.mkv")
    picture(tmp_path / "good.png")
    frames = [Image.new("RGB", (8, 8), (k, 0, 0)) for k in (0, 90)]
    frames[0].save("moving.webp", save_all=True, append_images=frames[1:])
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save("w.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "w.png").read_bytes()[:3000])
    (tmp_path / "cut.fvl").write_bytes(b"FV")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    code, out, err = cli(*BAD[case])
    assert code == 2, (out, err)
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1, err
    assert lines[0].startswith("foveal: ")
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(cli, tmp_path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "ro").mkdir(mode=0o500)
    code, _, err = cli("enhance", tmp_path / "a.png", tmp_path / "ro" / "b.png")
    assert code == 2
    assert "cannot be written" in err


def test_read_only_folder_by_error(cli, tmp_path, monkeypatch) -> None:
    """The same as root, for whom permissions do not bite: mkstemp says what it would say."""
    import tempfile

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    picture(tmp_path / "a.png")
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    code, _, err = cli("enhance", tmp_path / "a.png", tmp_path / "ro" / "b.png")
    assert code == 2
    assert "Permission denied" in err
    assert not (tmp_path / "ro").exists()


@pytest.mark.parametrize("suffix", [".bvh", ".glb", ".npz", ".html"])
def test_move_writes_every_format(cli, tmp_path, suffix) -> None:
    target = tmp_path / f"m{suffix}"
    code, out, _ = cli("move", "bow and then wave", target, "-o", "track=kinematic", "--json")
    assert code == 0
    assert target.stat().st_size > 1000
    assert json.loads(out)["status"] == "kinematic"


def test_doctor_json(cli) -> None:
    code, out, _ = cli("doctor", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert "triton" in " ".join(facts["fast_paths"])


def test_samples_list_json(cli) -> None:
    code, out, _ = cli("samples", "list", "--json")
    assert code == 0
    assert len(json.loads(out)["samples"]) > 20


def test_a_real_process_exits_with_2(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "foveal", "enhance", "nope.png", "o.png"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "nope.png does not exist" in done.stderr


BENCH = ("tokens=64", "heads=2", "kv_heads=1", "width=16", "full=false", "seconds=0")


def bench(cli, *options):
    return cli("bench", "attention", "--json", *(x for o in (*BENCH, *options) for x in ("-o", o)))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("tokens=abc", "tokens is 'abc', must be whole numbers between commas"),
        ("tokens=64.5", "tokens is '64.5'"),
        ("tokens=inf", "tokens is 'inf'"),
        ("tokens=,", "tokens is ','"),
        ("tokens=0", "must have sizes >= 1"),
        ("width=0", "must have sizes >= 1"),
        ("kv_heads=3", "num_kv_heads must divide num_heads"),
        ("densities=2", "densities is (2.0,), must be in (0, 1)"),
        ("densities=nan", "densities is (nan,), must be in (0, 1)"),
        ("densities=few", "densities is 'few', must be numbers"),
        ("seconds=nan", "budget_seconds is nan"),
        ("seconds=-1", "budget_seconds is -1.0"),
        ("device=nowhere", "device is 'nowhere', must be one that runs here"),
        ("device=cuda:99", "device is 'cuda:99', must be one that runs here"),
        ("device=meta", "device is 'meta', must be one that runs here"),
        ("dtype=float64", "dtype is 'float64'"),
    ],
)
def test_bench_refuses_in_one_line(cli, option, words):
    code, out, err = bench(cli, option)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_bench_measures(cli):
    code, out, err = bench(cli, "densities=0.5")
    assert code == 0, err
    table = json.loads(out)
    assert table["device"]
    assert {"torch SDPA, default", "foveal, exact"} <= {x["name"] for x in table["rows"]}


@pytest.mark.assets
def test_encode_decode_inspect_and_run(cli, tmp_path) -> None:
    from foveal.data import samples

    photo = samples.path("photo-16")
    code, out, _ = cli("encode", photo, tmp_path / "a.fvl", "-o", "quality=16", "--json")
    assert code == 0
    size = json.loads(out)["bytes"]
    assert size == (tmp_path / "a.fvl").stat().st_size < 2000
    assert json.loads(out)["receipt"]["loss"] in (0.0, 1.0)
    code, out, _ = cli(
        "decode", tmp_path / "a.fvl", "--features", tmp_path / "f.safetensors", "--json"
    )
    assert code == 0
    (row,) = json.loads(out)["images"]
    assert len(row["class"]["classes"]) == len(row["class"]["probabilities"]) == 5
    assert (tmp_path / "f.safetensors").stat().st_size > 112 * 14 * 14 * 4
    assert cli("inspect", tmp_path / "a.fvl")[0] == 0
    (tmp_path / "cut.fvl").write_bytes((tmp_path / "a.fvl").read_bytes()[:-5])
    code, _, err = cli("decode", tmp_path / "cut.fvl")
    assert code == 2
    assert err.count("\n") == 1
    code, _, err = cli("run", photo, "--out", tmp_path / "run")
    assert code == 0, err
    assert {p.suffix for p in (tmp_path / "run").iterdir()} == {".png", ".fvl", ".json", ".html"}
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["files"][0]["codec"]["spent"] > 0
    assert summary["files"][0]["codec"]["loss"] in (0.0, 1.0)


@pytest.mark.assets
@pytest.mark.slow
def test_demo_at_its_smallest(cli, tmp_path) -> None:
    code, _, err = cli("demo", "--quick", "--out", tmp_path)
    assert code == 0, err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {"lowlight", "codec", "attention", "motion"} <= set(summary)
    text = (tmp_path / "report.html").read_text()
    assert "https://" not in text
    assert text.count("<section>") == 5
