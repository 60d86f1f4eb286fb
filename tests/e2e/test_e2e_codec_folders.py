"""Folders of pictures and of streams with a damaged one in them, and tasks that were not sent."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from foveal import codec
from foveal.cli.app import app
from foveal.codec.config import Source
from foveal.codec.model import FeatureCodec
from foveal.codec.schemes import Sizes, separate
from foveal.errors import ArgumentError, BitstreamError

pytestmark = pytest.mark.e2e
RUN = CliRunner()
JOINT = ("-o", "weights=joint-4task")


def run(*words: str | Path) -> Result:
    return RUN.invoke(app, [*map(str, words)], catch_exceptions=False)


def foveal(*words: str | Path, code: int = 0) -> dict:
    done = run(*words, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures with a damaged one between them, and streams of tasks with damaged ones."""
    here = tmp_path_factory.mktemp("folders")
    generator = torch.Generator().manual_seed(0)
    (here / "in" / "more").mkdir(parents=True)
    for name in ("a.png", "c.png", "more/d.png"):
        pixels = (torch.rand(60, 70, 3, generator=generator) * 255).byte().numpy()
        Image.fromarray(pixels).save(here / "in" / name)
    (here / "in" / "b.png").write_text("no picture")
    (here / "streams" / "more").mkdir(parents=True)
    for name, tasks in (("all", ""), ("maps", "normal,segmentation"), ("more/one", "scene")):
        words = ("encode", here / "in" / "a.png", here / "streams" / f"{name}.fvl", *JOINT)
        foveal(*words, *(("-o", f"tasks={tasks}") if tasks else ()))
    whole = (here / "streams" / "all.fvl").read_bytes()
    (here / "streams" / "cut.fvl").write_bytes(whole[:-3])
    (here / "streams" / "empty.fvl").touch()
    return here


def test_a_damaged_picture_is_left_out(here: Path, tmp_path: Path) -> None:
    words = ("encode", here / "in", tmp_path / "x.fvl", *JOINT, "-o", "tasks=scene,normal")
    made = foveal(*words, code=2)
    assert (made["images"], made["failed"]) == (3, 1)
    names = [str(Path(row["input"]).relative_to(here / "in")) for row in made["files"]]
    assert names == ["a.png", "b.png", "c.png", "more/d.png"]
    assert [row.get("images") for row in made["files"]] == [1, None, 1, 1]
    assert "b.png is not a readable image" in made["files"][1]["error"]
    said = run(*words)
    assert said.exit_code == 2
    assert f"{here / 'in' / 'b.png'}: left out: " in said.stdout.splitlines()[-1]
    assert said.stderr == "foveal: 1 of 4 files left out; see above\n"
    alone = tmp_path / "alone.fvl"
    foveal("encode", here / "in" / "c.png", alone, *JOINT, "-o", "tasks=scene,normal")
    assert codec.split((tmp_path / "x.fvl").read_bytes())[1] == alone.read_bytes()


def test_frames_before_a_damage_are_left_out_too(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video that breaks off after 20 frames, which have gone through the networks in part."""
    from foveal.cli import streams

    whole = streams.frames

    def broken(file: Path, every: int):
        if file.name != "b.png":
            yield from whole(file, every)
            return
        for _ in range(20):
            yield torch.zeros(3, 60, 70)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(streams, "frames", broken)
    made = foveal("encode", here / "in", tmp_path / "x.fvl", *JOINT, code=2)
    assert (made["images"], made["failed"]) == (3, 1)
    assert made["files"][1]["error"] == "[Errno 5] Input/output error"
    monkeypatch.setattr(streams, "frames", whole)
    foveal("encode", here / "in", tmp_path / "y.fvl", *JOINT, code=2)
    assert (tmp_path / "x.fvl").read_bytes() == (tmp_path / "y.fvl").read_bytes()


def test_a_folder_of_nothing_but_damage(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_text("no picture")
    with pytest.raises(ArgumentError, match=r"none of 2 files can be read.*a\.png is not a read"):
        run("encode", tmp_path / "in", tmp_path / "x.fvl", *JOINT)
    assert not (tmp_path / "x.fvl").exists()


def test_tasks_that_are_off_are_named(here: Path) -> None:
    stream = here / "streams" / "maps.fvl"
    found = foveal("decode", stream, *JOINT)
    assert found["tasks"] == ["segmentation", "normal"]
    assert found["not_sent"] == ["scene", "reshading"]
    assert [list(row) for row in found["images"]] == [["segmentation", "normal"]]
    assert run("decode", stream, *JOINT).stdout.splitlines()[1:] == ["not sent: scene, reshading"]
    wanted = r"but \['scene'\] were not sent .*, must be some of \['segmentation', 'normal'\]"
    with pytest.raises(BitstreamError, match=wanted):
        run("decode", stream, *JOINT, "-o", "tasks=scene")
    assert foveal("decode", here / "streams" / "all.fvl", *JOINT)["not_sent"] == []


def test_inspect_names_what_it_knows(here: Path, tmp_path: Path) -> None:
    found = foveal("inspect", here / "streams" / "maps.fvl")
    assert (found["layers"], found["not_sent"]) == (["joint"], ["scene", "reshading"])
    model = FeatureCodec(separate([Source("x", 2), Source("y", 2)], Sizes(2, 1, 2, 2, 0)))
    model.finalise().save(tmp_path / "own.safetensors")
    stream = tmp_path / "own.fvl"
    stream.write_bytes(codec.encode(model, {"y": torch.zeros(1, 2, 1, 1)}, tasks=["y"]).payload)
    assert foveal("inspect", stream)["layers"] == [1]
    found = foveal("inspect", stream, "-o", f"weights={tmp_path / 'own.safetensors'}")
    assert (found["layers"], found["tasks"], found["not_sent"]) == (["y"], ["y"], ["x"])
    wanted = f"-o weights: joint-4task is model [0-9a-f]*, must be {model.model_id.hex()}, which"
    with pytest.raises(ArgumentError, match=wanted):
        run("inspect", stream, *JOINT)


def test_a_folder_of_streams_is_decoded(here: Path, tmp_path: Path) -> None:
    words = ("decode", here / "streams", *JOINT, "--pictures", tmp_path / "p")
    found = foveal(*words, "--features", tmp_path / "f", code=2)
    names = [str(Path(row["input"]).relative_to(here / "streams")) for row in found["files"]]
    assert names == ["all.fvl", "cut.fvl", "empty.fvl", "maps.fvl", "more/one.fvl"]
    assert [row.get("tasks", 0) and len(row["tasks"]) for row in found["files"]] == [4, 0, 0, 2, 1]
    assert found["failed"] == 2
    assert "checksum" in found["files"][1]["error"]
    assert "is empty" in found["files"][2]["error"]
    assert found["files"][3]["not_sent"] == ["scene", "reshading"]
    features = {p.relative_to(tmp_path / "f"): load_file(p) for p in tmp_path.rglob("*.safet*")}
    assert {str(path): sorted(value) for path, value in features.items()} == {
        "all.safetensors": ["normal", "reshading", "scene", "segmentation"],
        "maps.safetensors": ["normal", "segmentation"],
        "more/one.safetensors": ["scene"],
    }
    assert (tmp_path / "p" / "maps" / "0000-normal.png").exists()
    said = run(*words)
    assert said.stderr == "foveal: 2 of 5 files left out; see above\n"
    assert f"{here / 'streams' / 'maps.fvl'}: not sent: scene, reshading" in said.stdout
    with pytest.raises(ArgumentError, match=r"tasks is \['none'\], must be a list of some of"):
        run("decode", here / "streams", *JOINT, "-o", "tasks=none")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ArgumentError, match=r"nothing holds no \.fvl, must hold some"):
        run("decode", tmp_path / "nothing", *JOINT)
    with pytest.raises(ArgumentError, match=r"p is given, but no answer of \['scene'\] is a map"):
        run("decode", here / "streams" / "more", *JOINT, "--pictures", tmp_path / "p")


def test_a_folder_of_streams_is_cut(here: Path, tmp_path: Path) -> None:
    words = ("extract", here / "streams", tmp_path / "out", *JOINT, "-o", "tasks=normal")
    found = foveal(*words, code=2)
    assert found["failed"] == 2
    assert [("error" in row) for row in found["files"]] == [False, True, True, False, False]
    done = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.fvl")}
    assert done == {"all.fvl", "maps.fvl", "more/one.fvl"}
    alone = tmp_path / "alone.fvl"
    foveal("extract", here / "streams" / "all.fvl", alone, *JOINT, "-o", "tasks=normal")
    assert (tmp_path / "out" / "all.fvl").read_bytes() == alone.read_bytes()
    said = run(*words)
    assert (said.exit_code, said.stderr) == (2, "foveal: 2 of 5 files left out; see above\n")


def test_cut_streams_never_take_the_place_of_others(here: Path, tmp_path: Path) -> None:
    whole = (here / "streams" / "all.fvl").read_bytes()
    for name in ("in/x.fvl", "in/in/x.fvl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(whole)
    with pytest.raises(ArgumentError, match="in is the input, which would lose layers"):
        run("extract", tmp_path / "in", tmp_path / "in", *JOINT, "-o", "tasks=scene")
    found = foveal("extract", tmp_path / "in", tmp_path, *JOINT, "-o", "tasks=scene", code=2)
    assert "in/x.fvl is an input, must be another" in found["files"][0]["error"]
    assert (tmp_path / "x.fvl").exists()
    for _ in range(2):
        words = ("extract", tmp_path / "in", tmp_path / "in" / "out", *JOINT, "-o", "tasks=scene")
        assert len(foveal(*words)["files"]) == 2
