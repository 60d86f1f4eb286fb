"""`foveal enhance` on patterns, several sources, previews, deep and odd videos, and cameras."""

import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveal import lowlight
from foveal._core import video_planes
from foveal._core.media import read_image, write_image
from foveal._core.video import VideoWriter, probe_video, read_video
from foveal.cli import main

pytestmark = pytest.mark.e2e


@pytest.fixture
def cli(monkeypatch, capsys):
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["foveal", *map(str, arguments)])
        with pytest.raises(SystemExit) as info:
            main()
        out, err = capsys.readouterr()
        return int(info.value.code or 0), out, err

    return run


def picture(path, light: float = 0.2, size: tuple[int, int] = (24, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, torch.rand(3, *size) * light)


def clip(path, frames: int = 6, size: tuple[int, int] = (32, 48)) -> None:
    with VideoWriter(path, fps=Fraction(10), crf=10) as writer:
        for k in range(frames):
            writer.write(torch.full((3, *size), 0.05 + k / 100))


def names(folder) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_patterns_and_several_sources_go_into_a_folder_and_resume(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/b.jpg", "in/sub/c.png", "d.png"):
        picture(tmp_path / name)
    assert cli("enhance", "in/*.png", "d.png", "out")[0] == 0
    assert names(tmp_path / "out") == ["a.png", "d.png"]
    code, out, _ = cli("enhance", "in/**/*.*", "out", "--json")
    assert code == 0
    rows = json.loads(out)["files"]
    assert {row["output"]: "skipped" in row for row in rows} == {
        "out/a.png": True,
        "out/b.jpg": False,
        "out/c.png": False,
    }
    code, _, err = cli("enhance", "nothing*.png", "out")
    assert code == 2
    assert "nothing*.png matches nothing" in err
    code, _, err = cli("enhance", "in/a.png", "d.png", ".")
    assert code == 2
    assert "d.png is the input" in err


def test_a_dry_run_writes_nothing_and_names_what_is_wrong(cli, tmp_path) -> None:
    picture(tmp_path / "in" / "a.png")
    clip(tmp_path / "in" / "b.mp4")
    (tmp_path / "in" / "c.png").write_text("no")
    before = names(tmp_path)
    code, out, _ = cli("enhance", tmp_path / "in", tmp_path / "out", "--dry-run", "--json")
    assert code == 2
    rows = json.loads(out)["files"]
    assert (rows[0]["width"], rows[0]["height"], rows[0]["bit_depth"]) == (32, 24, 8)
    assert (rows[1]["width"], rows[1]["frames"]) == (48, 6)
    assert "not a readable image" in rows[2]["error"]
    assert names(tmp_path) == before


@pytest.mark.parametrize("kind", ["a.png", "a.mp4"])
def test_a_preview_is_one_frame_before_and_after(cli, tmp_path, kind) -> None:
    source = tmp_path / kind
    if kind.endswith("png"):
        picture(source)
    else:
        clip(source)
    assert cli("enhance", source, tmp_path / "p.png", "--preview")[0] == 0
    both = read_image(tmp_path / "p.png")
    width = both.shape[2] // 2
    assert both.shape[2] == 2 * (32 if kind.endswith("png") else 48)
    assert both[..., width:].mean() > both[..., :width].mean() + 0.05
    if kind.endswith("png"):
        assert (both[..., :width] - read_image(source)).abs().max() < 1e-6
        assert cli("enhance", source, tmp_path / "b.png")[0] == 0
        assert (both[..., width:] - read_image(tmp_path / "b.png")).abs().max() < 1.01 / 255
    code, _, err = cli("enhance", source, tmp_path / "p.mp4", "--preview")
    assert code == 2
    assert "for a preview" in err


def test_grey_stays_grey_and_black_and_white_stay(cli, tmp_path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 60, (20, 30), np.uint8)).save(tmp_path / "grey.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "black.png")
    Image.new("RGB", (9, 9), (255, 255, 255)).save(tmp_path / "white.png")
    for name in ("grey", "black", "white"):
        assert cli("enhance", tmp_path / f"{name}.png", tmp_path / f"{name}-o.png")[0] == 0
    with Image.open(tmp_path / "grey-o.png") as back, Image.open(tmp_path / "grey.png") as was:
        assert back.mode == "L"
        assert np.asarray(back).mean() > np.asarray(was).mean() + 10
    assert read_image(tmp_path / "black-o.png").max() == 0
    assert read_image(tmp_path / "white-o.png").min() == 1


def test_the_human_look_keeps_greys_grey_and_highlights_apart(cli, tmp_path) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (4, 1, 3))
    Image.fromarray(ramp // 4).save(tmp_path / "dark.png")
    Image.fromarray(ramp).save(tmp_path / "full.png")
    for name in ("dark", "full"):
        arguments = (tmp_path / f"{name}.png", tmp_path / f"{name}-o.png", "-o", "look=human")
        assert cli("enhance", *arguments)[0] == 0
        out = np.asarray(Image.open(tmp_path / f"{name}-o.png")).astype(int)
        assert (out[..., 0] == out[..., 1]).all()
        assert (out[..., 0] == out[..., 2]).all()
    assert len(np.unique(out[0, 128:, 0])) >= 0.3 * 128 - 1


def test_10_bits_metadata_and_sound_of_a_video_are_kept(cli, tmp_path) -> None:
    import av

    source = tmp_path / "a.mkv"
    with av.open(str(source), "w") as container:
        container.metadata["title"] = "Night"
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p10le"
        video.options = {"crf": "5"}
        sound = container.add_stream("aac", rate=8000, layout="mono")
        for _ in range(5):
            ramp = np.tile(np.arange(64, dtype=np.uint16) + 100, (48, 1))
            planes = np.concatenate([ramp.reshape(-1), np.full(2 * 24 * 32, 512, np.uint16)])
            frame = av.VideoFrame.from_ndarray(planes.reshape(72, 64), format="yuv420p10le")
            for packet in video.encode(frame):
                container.mux(packet)
        tone = np.zeros((1, 4000), np.float32)
        audio = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        audio.sample_rate = 8000
        for packet in [*sound.encode(audio), *sound.encode(None), *video.encode(None)]:
            container.mux(packet)
    code, out, _ = cli("enhance", source, tmp_path / "b.mkv", "--json")
    assert code == 0
    row = json.loads(out)["files"][0]
    assert (row["frames"], row["dropped"]) == (5, [])
    with av.open(str(tmp_path / "b.mkv")) as back:
        assert back.streams.video[0].format.name == "yuv420p10le"
        assert back.metadata["title"] == "Night"
        assert len(back.streams.audio) == 1
        frame = next(back.decode(video=0)).to_ndarray()
    # more tones than 8 bits could hold on this ramp: it kept its depth
    assert len(np.unique(frame[:48])) > 50


def test_a_clip_that_changes_its_size_is_refused(cli, tmp_path) -> None:
    import av

    for name, size in (("a", (32, 48)), ("b", (16, 32))):
        clip(tmp_path / f"{name}.mp4", frames=4, size=size)
    # two H.264 streams one behind the other, as recorders leave them
    with (tmp_path / "joined.mpg").open("wb") as handle:
        for name in ("a", "b"):
            raw = tmp_path / f"{name}.h264"
            with av.open(str(tmp_path / f"{name}.mp4")) as old, av.open(str(raw), "w") as new:
                stream = new.add_stream_from_template(old.streams.video[0])
                bits = av.BitStreamFilterContext("h264_mp4toannexb", old.streams.video[0], stream)
                for packet in old.demux(video=0):
                    for out in bits.filter(packet):
                        out.stream = stream
                        new.mux(out)
            handle.write(raw.read_bytes())
            raw.unlink()
    code, _, err = cli("enhance", tmp_path / "joined.mpg", tmp_path / "o.mkv")
    assert code == 2
    assert "changes from 48 x 32 to 32 x 16 pixels at frame 4" in err
    assert names(tmp_path) == ["a.mp4", "b.mp4", "joined.mpg"]


def test_options_that_can_have_no_effect_are_refused(cli, tmp_path) -> None:
    picture(tmp_path / "a.png")
    clip(tmp_path / "a.mp4")
    for source, target, option in (
        ("a.png", "o.png", "curve=stream"),
        ("a.png", "o.png", "preset=slow"),
        ("a.png", "o.png", "seconds=3"),
        ("a.mp4", "o.mp4", "half_life_s=1"),
        ("a.mp4", "o.mp4", "look=pretty"),
        ("a.mp4", "o.mp4", "preset=quick"),
        ("a.mp4", "o.mp4", "curve=none"),
    ):
        code, _, err = cli("enhance", tmp_path / source, tmp_path / target, "-o", option)
        assert code == 2, option
        assert option.split("=")[0] in err
    assert names(tmp_path) == ["a.mp4", "a.png"]


def test_a_stream_of_curves_finds_the_cut(cli, tmp_path) -> None:
    with VideoWriter(tmp_path / "a.mp4", fps=Fraction(10), crf=5) as writer:
        for k in range(12):
            image = torch.zeros(3, 32, 48)
            half = slice(0, 24) if k < 6 else slice(24, 48)
            image[:, :, half] = 0.15
            writer.write(image)
    code, out, _ = cli(
        "enhance", tmp_path / "a.mp4", tmp_path / "b.mp4", "-o", "curve=stream", "--json"
    )
    assert code == 0
    assert json.loads(out)["files"][0]["cuts"] == [6]


def test_a_camera_is_recorded_until_its_time_is_up(cli, tmp_path, monkeypatch) -> None:
    """A file stands for the device: FFmpeg opens both alike."""
    clip(tmp_path / "device.mkv", frames=8)
    address = (str(tmp_path / "device.mkv"), "matroska", {})
    monkeypatch.setattr(video_planes, "camera_address", lambda index, system, fps: address)
    monkeypatch.chdir(tmp_path)
    code, out, _ = cli("enhance", "3", "o.mkv", "-o", "seconds=0.5", "--json")
    assert code == 0
    row = json.loads(out)["files"][0]
    assert (row["input"], row["frames"]) == (3, 5)
    bright = [f.mean().item() for f in read_video("o.mkv")]
    dark = [f.mean().item() for f in read_video("device.mkv")]
    assert len(bright) == 5
    assert all(b > d + 0.03 for b, d in zip(bright, dark[:5], strict=True))
    assert cli("enhance", "3", "p.png", "--preview")[0] == 0
    assert cli("enhance", "3", "o.mkv", "-o", "curve=clip")[0] == 2


def test_ctrl_c_ends_a_camera_with_a_good_file(cli, tmp_path, monkeypatch) -> None:
    from foveal.lowlight import video

    clip(tmp_path / "device.mkv", frames=8)
    address = (str(tmp_path / "device.mkv"), "matroska", {})
    monkeypatch.setattr(video_planes, "camera_address", lambda index, system, fps: address)
    frames = video.read_camera

    def three(index: int, *, fps: int):
        for k, planes in enumerate(frames(index, fps=fps)):
            if k == 3:
                raise KeyboardInterrupt
            yield planes

    monkeypatch.setattr(video, "read_camera", three)
    monkeypatch.chdir(tmp_path)
    assert cli("enhance", "0", "o.mp4")[0] == 0
    assert len(list(read_video("o.mp4"))) == 3
    assert probe_video("o.mp4").width == 48


def test_a_camera_that_is_not_there_is_named(cli, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(video_planes.platform, "system", lambda: "Linux")
    code, _, err = cli("enhance", "97", "o.mp4")
    assert code == 2
    assert "camera: 97 cannot be opened" in err
    assert names(tmp_path) == []
    monkeypatch.setattr(video_planes.platform, "system", lambda: "Windows")
    code, _, err = cli("enhance", "0", "o.mp4")
    assert code == 2
    assert "on Windows" in err


@pytest.mark.parametrize("suffix", [".onnx", ".py", ".cube"])
def test_export_writes_what_other_programs_read(cli, tmp_path, suffix) -> None:
    picture(tmp_path / "a.png")
    of = ("--of", tmp_path / "a.png") if suffix == ".cube" else ()
    target = tmp_path / "o" / f"curve{suffix}"
    code, out, _ = cli("export", target, *of, "--json")
    assert code == 0
    rows = json.loads(out)["files"]
    assert rows[0]["output"] == str(target)
    assert names(tmp_path / "o") == sorted(row["output"].split("/")[-1] for row in rows)


@pytest.mark.parametrize("kind", ["a.png", "a.mp4"])
def test_the_cube_of_a_file_is_the_curve_that_enhance_applies(cli, tmp_path, kind) -> None:
    picture(tmp_path / "a.png")
    clip(tmp_path / "a.mp4")
    of = ("--of", tmp_path / kind, "-o", "look=human", "-o", "strength=0.5")
    assert cli("export", tmp_path / "c.cube", *of)[0] == 0
    rows = [line.split() for line in (tmp_path / "c.cube").read_text().splitlines()[4:]]
    model = lowlight.ConcaveCurve.load()
    run = lowlight.enhance_video if kind == "a.mp4" else lowlight.enhance_file
    target = tmp_path / f"o{kind[1:]}"
    wanted = run(tmp_path / kind, target, model, look="human", strength=0.5).curve
    assert np.abs(np.array(rows, float).T - wanted.numpy()).max() < 1e-6


def test_export_refuses_by_name(cli, tmp_path) -> None:
    picture(tmp_path / "a.png")
    for arguments, words in (
        (("c.txt",), "must end in one of"),
        (("c.cube",), "--of: is None"),
        (("c.onnx", "--of", tmp_path / "a.png"), "--of: is"),
        (("c.py", "-o", "strength=0.5"), "strength is given"),
        (("c.cube", "--of", tmp_path), "is a folder"),
        (("c.onnx", "-o", "look=odd"), "look is 'odd'"),
        (("c.onnx", "-o", "weights=none"), "name is 'none'"),
    ):
        code, _, err = cli("export", tmp_path / arguments[0], *arguments[1:])
        assert code == 2, arguments
        assert words in err
    assert names(tmp_path) == ["a.png"]


def test_the_receipt_times_the_whole_and_not_the_network_alone(tmp_path, monkeypatch) -> None:
    import time

    from foveal.lowlight import files, video

    picture(tmp_path / "a.png")
    clip(tmp_path / "a.mp4", frames=2)
    model = lowlight.ConcaveCurve.load()
    for module in (files, video):
        translate = module.translate

        def slow(*arguments, translate=translate):
            time.sleep(0.1)
            return translate(*arguments)

        monkeypatch.setattr(module, "translate", slow)
    image = lowlight.enhance_file(tmp_path / "a.png", tmp_path / "b.png", model)
    assert image.receipt.seconds > 0.3  # three channels
    film = lowlight.enhance_video(tmp_path / "a.mp4", tmp_path / "b.mp4", model)
    assert film.receipt.seconds > 0.6


def test_the_gate_leaves_bright_images_and_names_what_limits_dark_ones(cli, tmp_path):
    def scene(light: float, noise: float) -> torch.Tensor:
        y, x = torch.meshgrid(torch.linspace(0, 1, 192), torch.linspace(0, 1, 256), indexing="ij")
        base = torch.stack([x, y, 1 - x]) * light
        return (base + noise * torch.randn(3, 192, 256)).clamp(0, 1)

    write_image(tmp_path / "in/bright.png", scene(0.9, 0.005))
    write_image(tmp_path / "in/dark.png", scene(0.1, 0.001))
    write_image(tmp_path / "in/noisy.png", scene(0.12, 0.08))
    code, out, err = cli("enhance", tmp_path / "in", tmp_path / "out", "-o", "gate=auto", "--json")
    assert code == 0, err
    rows = {row["input"].rsplit("/", 1)[1]: row for row in json.loads(out)["files"]}
    assert {k: row["regime"] for k, row in rows.items()} == {
        "bright.png": "well-lit",
        "dark.png": "light-limited",
        "noisy.png": "noise-limited",
    }
    same = [
        torch.equal(read_image(tmp_path / "in" / name), read_image(tmp_path / "out" / name))
        for name in rows
    ]
    assert dict(zip(rows, same, strict=True)) == {
        "bright.png": True,
        "dark.png": False,
        "noisy.png": False,
    }
    code, out, _ = cli("enhance", tmp_path / "in/noisy.png", tmp_path / "n.png", "-o", "gate=auto")
    assert (code, "noise-limited: light" in out) == (0, True)
    clip(tmp_path / "a.mp4")
    wrong = {
        "gate=auto": "must be for images",
        "denoise=true": "must be for images",
        "gate=on": "gate is 'on'",
        "denoise=x": "denoise",
    }
    for bad, words in wrong.items():
        code, _, err = cli("enhance", tmp_path / "a.mp4", tmp_path / "b.mp4", "-o", bad)
        assert (code, words in err) == (2, True)


def test_noise_is_taken_off_before_the_curve(cli, tmp_path):
    ramp = torch.linspace(0.02, 0.2, 256).expand(3, 192, 256)
    noise = torch.randn(3, 192, 256, generator=torch.Generator().manual_seed(0))
    write_image(tmp_path / "in/noisy.png", (ramp + 0.02 * noise).clamp(0, 1))
    write_image(tmp_path / "in/flat.png", torch.full((3, 64, 64), 0.05))
    rough = {}
    for name, options in (("as it is", ()), ("clean", ("-o", "denoise=true"))):
        out = tmp_path / name
        code, text, err = cli("enhance", tmp_path / "in", out, *options, "--json")
        assert code == 0, err
        rows = {Path(x["input"]).name: x for x in json.loads(text)["files"]}
        bright = read_image(out / "noisy.png")
        assert bright.mean() > 1.5 * ramp.mean()
        rough[name] = (bright.diff(dim=2) - bright.diff(dim=2).mean(1, keepdim=True)).std()
    assert rough["clean"] < rough["as it is"] / 2
    assert rows["noisy.png"]["denoised"] is True
    assert rows["flat.png"]["denoised"] is False  # no noise can be told
    code, text, _ = cli("enhance", tmp_path / "in", tmp_path / "x", "-o", "denoise=true")
    assert (code, text.count("not denoised: its noise cannot be estimated")) == (0, 1)
    only = lowlight.enhance_file(  # without a curve
        tmp_path / "in/noisy.png",
        tmp_path / "only.png",
        lowlight.ConcaveCurve.load(),
        strength=0.0,
        denoise=True,
    )
    before, after = (read_image(tmp_path / x) for x in ("in/noisy.png", "only.png"))
    assert only.denoised
    assert after.diff(dim=1).std() < before.diff(dim=1).std() / 2
    assert abs(float(after.mean() - before.mean())) < 0.01
    assert torch.equal(
        read_image(tmp_path / "clean/flat.png"), read_image(tmp_path / "as it is/flat.png")
    )


def test_sixteen_bits_and_grey_are_denoised_in_their_own_form(tmp_path):
    ramp = np.linspace(1500, 9000, 160)[None].repeat(128, 0)
    noisy = ramp + np.random.default_rng(0).normal(0, 900, ramp.shape)
    Image.fromarray(noisy.clip(0).astype("uint16")).save(tmp_path / "a.png")
    model = lowlight.ConcaveCurve.load()
    done = lowlight.enhance_file(tmp_path / "a.png", tmp_path / "b.png", model, denoise=True)
    plain = lowlight.enhance_file(tmp_path / "a.png", tmp_path / "c.png", model)
    clean, dirty = (np.asarray(Image.open(tmp_path / f"{x}.png")) for x in "bc")
    assert (done.denoised, plain.denoised) == (True, False)
    assert clean.dtype == np.uint16
    assert clean.shape == ramp.shape
    assert (
        np.diff(clean.astype(float), axis=0).std()
        < np.diff(dirty.astype(float), axis=0).std() * 0.75
    )


def test_the_curve_of_a_clip_is_of_its_whole_length(tmp_path):
    model = lowlight.ConcaveCurve.load()
    curves = {}
    for name, late in (("dark", 0.03), ("late light", 0.9)):
        with VideoWriter(tmp_path / f"{name}.mp4", fps=Fraction(25), crf=10) as film:
            for i in range(31):  # two frames short of every other one of sixteen
                film.write(torch.full((3, 32, 48), 0.03 if i < 16 else late))
        curves[name] = lowlight.video_curve(tmp_path / f"{name}.mp4", model)
    assert (curves["dark"] - curves["late light"]).abs().max() > 0.01
