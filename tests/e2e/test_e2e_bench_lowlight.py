"""`foveal bench lowlight` on two small photographs, by a small model of the user's own."""

import json
import runpy
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from foveal._core.media import write_image
from foveal._core.video import VideoWriter
from foveal.cli import main
from foveal.cli.bench_pictures import frames
from foveal.lowlight import ConcaveCurve
from foveal.lowlight.bench_table import Table

pytestmark = pytest.mark.e2e

MODEL = '''
import torch


class Levels(torch.nn.Module):
    """Names the brightness of a picture, in eight steps."""

    size = 32

    def forward(self, x):
        level = (x.mean((1, 2, 3)) * 8).long().clamp(0, 7)
        return {"logits": torch.nn.functional.one_hot(level, 8).float()}


class Halves(torch.nn.Module):
    """Finds the left half, and the right one in bright pictures."""

    def detect(self, images, *, threshold=0.3):
        from foveal.teachers import Detections

        found = []
        for x in images:
            h, w = x.shape[1:]
            boxes = torch.tensor([[0.0, 0, w / 2, h], [w / 2, 0, w, h]])
            boxes = boxes[: int(x.mean() > 0.1) + int(x.mean() > 0.3)]
            labels = torch.zeros(len(boxes), dtype=torch.long)
            found.append(Detections(boxes, torch.ones(len(boxes)), labels, ("face",)))
        return found


class Kinds(torch.nn.Module):
    """Three classes by brightness, of images and of clips."""

    def preprocess(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 4)

    def forward(self, x):
        level = (x.flatten(1).mean(1) * 3).long().clamp(0, 2)
        return torch.nn.functional.one_hot(level, 3).float()


class Named(Kinds):
    classes = ("Low", "Mid", "High")


def later():
    """Import what lies beside this file, when it is called."""
    from helper_NAME import Levels as Same

    return Same()


number = 3


def nothing():
    return "no module"
'''


@pytest.fixture
def cli(monkeypatch, capsys):
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["foveal", *map(str, arguments)])
        with pytest.raises(SystemExit) as info:
            main()
        out, err = capsys.readouterr()
        return int(info.value.code or 0), out, err

    return run


@pytest.fixture
def bench(cli, tmp_path, monkeypatch):
    """Run the suite in a folder with two photographs and a module of models."""
    monkeypatch.chdir(tmp_path)
    name = f"own_{tmp_path.name}"  # modules are kept by name
    Path(f"{name}.py").write_text(MODEL.replace("NAME", tmp_path.name))
    Path(f"helper_{tmp_path.name}.py").write_text(f"from {name} import Levels\n")
    Path("photos").mkdir()
    for i in range(2):
        ramp = torch.linspace(0.2 + 0.3 * i, 0.9, 72).expand(3, 40, 72)
        write_image(Path("photos") / f"{i}.png", ramp)
    fixed = {"photos": "photos", "model": f"{name}:Levels", "most": 4, "draws": 2}
    fixed |= {"device": "cpu", "baselines": "gamma", "curves": "", "triples": "1"}

    def run(*flags: object, **options: object) -> tuple[int, str, str]:
        chosen = {**fixed, **options}
        words = [x for k, v in chosen.items() if v is not None for x in ("-o", f"{k}={v}")]
        return cli("bench", "lowlight", *words, *flags)

    run.name = name
    return run


def test_both_tables_and_the_gate(bench) -> None:
    ConcaveCurve().save("mine.safetensors")
    code, text, err = bench(
        "--out",
        "t.json",
        tables="machine,human",
        curves="mine.safetensors",
        denoise="true",
        auto="true",
    )
    assert code == 0, err
    for words in ("by the gate: 0 well-lit", "PSNR", "denoise, then mine", "auto gate, mine"):
        assert words in text
    assert "reciprocal 0" not in text
    found = json.loads(Path("t.json").read_text())
    assert found["where"]["pictures"] == 4
    assert found["where"]["source"] == "4 crops of 2 photographs, photos"
    assert {r["num_items"] for r in found["rows"] + found["human_rows"]} == {8}
    assert {r["method"] for r in found["rows"]} > {"mine", "untouched", "gamma", "reciprocal 0.1"}
    table = Table.read(Path("t.json"))
    assert json.loads(json.dumps(table.to_json())) == found
    (outcomes,) = table.machine.values()
    assert outcomes.difference("mine", (1, "gamma")).num_groups == 2
    assert str(Path.cwd()) not in Path("t.json").read_text()


def test_a_method_is_added_and_a_changed_curve_is_judged_anew(bench, monkeypatch) -> None:
    torch.manual_seed(0)
    ConcaveCurve().save("mine.safetensors")
    whole = bench("--json", curves="mine.safetensors", baselines="gamma,log", triples="1,3")
    assert bench("--out", "t.json", triples="3,1")[0] == 0
    from foveal.lowlight import evaluate

    judged: list[set[str]] = []
    real = evaluate.judge_in_the_dark

    def watch(teacher, pictures, groups, methods, **options):
        judged.append(set(methods))
        return real(teacher, pictures, groups, methods, **options)

    monkeypatch.setattr(evaluate, "judge_in_the_dark", watch)
    added = {"curves": "mine.safetensors", "baselines": "gamma,log", "triples": "1,3"}
    code, text, err = bench("--out", "t.json", "--json", **added)
    assert code == 0, err
    assert judged == [{"mine", "log"}]

    def rows(text: str) -> dict:
        return {(*r["triple"], r["method"]): r for r in json.loads(text)["rows"]}

    assert rows(text) == rows(whole[1])
    code, text, _ = bench("--out", "t.json", **added)
    assert len(judged) == 1  # nothing is left, and the table is printed all the same
    assert text.count("any reciprocal right") == 2
    curve = ConcaveCurve()
    torch.nn.init.constant_(curve.fc.bias, 1.0)
    curve.save("mine.safetensors")
    assert bench("--out", "t.json", **added)[0] == 0
    assert judged[1:] == [{"mine"}]


def test_shards_are_joined(bench, monkeypatch) -> None:
    small = {"tables": "machine,human", "most": 2, "draws": 1}
    for i in (0, 4):
        assert bench("--out", f"{i}.json", triples=i, **small)[0] == 0
    join = Path(__file__).parents[2] / "benchmarks" / "join_lowlight.py"
    monkeypatch.setattr(sys, "argv", ["join", "all.json", "0.json", "4.json"])
    runpy.run_path(str(join), run_name="__main__")
    code, whole, err = bench("--json", triples="0,4", **small)
    assert code == 0, err
    assert json.loads(whole[whole.index("{") :]) == json.loads(Path("all.json").read_text())
    assert bench("--out", "other.json", **{**small, "seed": 1})[0] == 0
    monkeypatch.setattr(sys, "argv", ["join", "all.json", "0.json", "other.json"])
    with pytest.raises(ValueError, match="another seed"):
        runpy.run_path(str(join), run_name="__main__")


def test_detectors_see_whole_photographs_or_crops(bench) -> None:
    model = f"{bench.name}:Halves"
    code, text, err = bench("--json", model=model, size=None, triples="0")
    assert code == 0, err
    found = json.loads(text)
    assert found["things"] == "2 2"
    assert found["where"]["source"] == "2 photographs, photos"
    rows = {r["method"]: r for r in found["rows"]}
    assert rows["untouched"]["agreement"] == 0.5  # one of two things on each
    assert rows["any reciprocal right, picture by picture"]["agreement"] == 1
    found = json.loads(bench("--json", model=model, size=32)[1])
    assert found["where"]["source"] == "4 crops of 2 photographs, photos"


class Marker(torch.nn.Module):
    """Marks all of a bright picture, and a third of a dark one."""

    size = 32

    def mask(self, images):
        found = torch.zeros(len(images), 1, *images.shape[2:])
        found[..., : images.shape[3] // 3] = 1
        found[images.mean((1, 2, 3)) > 0.3] = 1
        return found


def test_masks_are_of_whole_photographs(bench, monkeypatch) -> None:
    monkeypatch.setattr("foveal.cli.own_model.load_teacher", lambda *_: Marker())
    code, text, err = bench("--json")
    assert code == 0, err
    found = json.loads(text)
    assert found["where"]["answers"] == "masks"
    assert found["where"]["source"] == "2 photographs, photos"
    rows = {r["method"]: r["agreement"] for r in found["rows"]}
    assert (rows["untouched"], rows["reciprocal 0.00501"]) == (0, 1)


def test_a_model_may_import_what_lies_beside_it_when_it_is_called(bench) -> None:
    code, _, err = bench("--json", model=f"{bench.name}:later")
    assert code == 0, err
    assert str(Path.cwd()) not in sys.path


def test_a_curve_may_not_be_called_as_what_is_always_there(bench) -> None:
    for name in ("untouched", "reciprocal 0.1"):
        ConcaveCurve().save(f"{name}.safetensors")
        code, _, err = bench(curves=f"{name}.safetensors")
        assert (code, f"a method is called {name!r}" in err) == (2, True)


def test_frames_are_resampled_by_parts_of_the_video(bench) -> None:
    with VideoWriter("night.mp4", fps=Fraction(25), crf=5) as writer:
        for i in range(24):
            writer.write(torch.full((3, 32, 48), 0.3 + 0.02 * i))
    asked = {"photos": None, "video": "night.mp4", "draws": 1}
    code, text, err = bench("--json", frames=12, **asked)
    assert code == 0, err
    found = json.loads(text)
    assert found["where"]["source"] == "12 frames of night.mp4"
    assert np.unique(found["groups"].split(), return_counts=True)[1].sum() == 12
    assert {r["gain"]["num_groups"] for r in found["rows"]} == {10}
    for i in range(2, 5):
        write_image(Path("photos") / f"{i}.png", torch.full((3, 20, 30), 0.2 * i))
    spread = frames("photos", 2, 512)
    assert torch.allclose(spread[1], torch.full((3, 20, 30), 0.4), atol=0.01)  # the third of five
    code, text, err = bench("--json", frames=2, photos=None, video="photos", draws=1)
    assert (code, json.loads(text)["where"]["source"]) == (0, "2 frames of photos")
    last = frames("night.mp4", 13, 512)[-1]  # of 24: the 23rd, and not the 13th
    assert float(last.mean()) == pytest.approx(0.3 + 0.02 * 22, abs=0.01)
    Path("photos/._0.png").write_text("no image")
    last = frames("photos", 3, 512)[-1]  # of five: the fourth
    assert torch.allclose(last, torch.full((3, 20, 30), 0.6), atol=0.01)
    code, _, err = bench(frames=25, **asked)
    assert (code, "frames is 25, must be at most the 24" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draws": 0}, "draws is 0"),
        ({"most": 0}, "most is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"triples": "5"}, "triples is '5', must be of 0, 1, 2, 3, 4"),
        ({"tables": "both"}, "tables is 'both'"),
        ({"tables": ""}, 'tables is ""'),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"video": "a.mp4"}, "frames is 0"),
        ({"frames": 3}, "without photos"),
        ({"model": None, "teacher": "eye"}, "name is 'eye'"),
        ({"model": "own"}, "must be module:attribute"),
        ({"model": "own_nowhere:Net"}, "cannot be imported"),
        ({"model": "{name}:Nothing"}, "cannot be imported"),
        ({"model": "{name}:number"}, "must be callable"),
        ({"model": "{name}:nothing"}, "gives str, must give a torch module"),
        ({"baselines": "magic"}, "name is 'magic'"),
        ({"baselines": "gamma:weights"}, "no option 'source'"),
        ({"baselines": "gamma,gamma"}, "two methods are called 'gamma'"),
        ({"photos": "nowhere"}, "must be a folder of photographs"),
        ({"size": 64}, "size is 64"),
    ],
    ids=lambda x: None if isinstance(x, str) else "-".join(f"{k}={v}" for k, v in x.items()),
)
def test_bad_options_are_named_in_one_line(bench, options, words) -> None:
    named = {k: v.format(name=bench.name) if isinstance(v, str) else v for k, v in options.items()}
    code, _, err = bench(**named)
    assert (code, err.count("\n"), words in err) == (2, 1, True), err


def test_a_file_that_is_no_such_table_is_named(bench) -> None:
    assert bench("--out", "t.json")[0] == 0
    good = json.loads(Path("t.json").read_text())
    code, _, err = bench("--out", "t.json", seed=1)
    assert (code, "other options (seed)" in err) == (2, True)
    for broken in (
        "",
        "{",
        "[]",
        '{"suite": "attention"}',
        json.dumps({**good, "machine": 3}),
        json.dumps({**good, "groups": "0 1"}),
        json.dumps({**good, "where": [1]}),
    ):
        Path("bad.json").write_text(broken)
        code, _, err = bench("--out", "bad.json")
        assert (code, err.count("\n"), "bad.json" in err) == (2, 1, True), err


NO_DARKENING = {"photos": None, "draws": None, "triples": None, "most": None}


def test_labelled_images_of_ones_own(bench) -> None:
    for kind, level in (("Low", 0.1), ("Mid", 0.5), ("High", 0.9)):
        folder = Path("codan/test_night") / kind
        folder.mkdir(parents=True)
        for i in range(2):
            write_image(folder / f"{i}.png", torch.full((3, 20, 30), level))
    asked = {**NO_DARKENING, "layout": "codan", "root": "codan"}
    model = f"{bench.name}:Named"
    code, text, err = bench("--out", "l.json", "--json", model=model, **asked)
    assert code == 0, err
    found = json.loads(text)
    assert found == json.loads(Path("l.json").read_text())
    assert bench("--out", "l.json", "--json", model=model, **asked)[0] == 0
    Path("other.json").write_text('{"suite": "lowlight"}')
    code, _, err = bench("--out", "other.json", model=model, **asked)
    assert (code, "its suite is 'lowlight'" in err) == (2, True)
    rows = {r["method"]: r for r in found["rows"]}
    assert rows["untouched"]["top1"] == 1
    assert rows["reciprocal 0.00501"]["top1"] == pytest.approx(1 / 3)  # all becomes high
    assert rows["gamma"]["gain"]["num_groups"] == 6
    assert found["classes"] == ["Low", "Mid", "High"]
    # a model without names has them in the order of the alphabet: high, low, mid
    found = json.loads(bench("--json", model=f"{bench.name}:Kinds", **asked)[1])
    assert found["rows"][0]["top1"] == 0
    found = json.loads(bench("--json", model=model, **{**asked, "most": 3})[1])
    dazzled = {r["method"]: r for r in found["rows"]}["reciprocal 0.00501"]
    assert dazzled["top1"] == pytest.approx(1 / 3)  # one of each class, not the first three
    code, text, _ = bench(model=model, **{**asked, "most": 3})
    assert (code, "untouched" in text, "reciprocal 0" in text) == (0, True, False)
    assert "top-1 100.0 %" in text
    code, _, err = bench(model=None, **asked)
    assert (code, "give your model" in err) == (2, True)
    code, _, err = bench(model=f"{bench.name}:Halves", **asked)
    assert (code, "is judged by a classifier" in err) == (2, True)
    Path("arid/Low").mkdir(parents=True)
    with VideoWriter("arid/Low/a.mp4", fps=Fraction(25), crf=5) as writer:
        for _ in range(3):
            writer.write(torch.full((3, 32, 32), 0.2))
    clips = {**asked, "layout": "arid", "root": "arid", "num_frames": 4}
    found = json.loads(bench("--json", model=model, **clips)[1])
    assert found["rows"][0]["top1"] == 1


def test_labelled_boxes_of_ones_own(bench) -> None:
    for folder in ("faces/image", "faces/label"):
        Path(folder).mkdir(parents=True)
    for i, level in enumerate((0.05, 0.5)):
        write_image(Path(f"faces/image/{i}.png"), torch.full((3, 20, 40), level))
        Path(f"faces/label/{i}.txt").write_text("2\n0 0 20 20\n20 0 40 20\n")
    asked = {**NO_DARKENING, "layout": "dark-face", "root": "faces"}
    model = f"{bench.name}:Halves"
    code, text, err = bench("--json", "--out", "f.json", model=model, **asked)
    assert code == 0, err
    rows = {r["method"]: r for r in json.loads(text)["rows"]}
    untouched = rows["untouched"]
    assert (untouched["recall"], untouched["precision"]) == (0.5, 1)
    assert untouched["average_precision"] == pytest.approx(0.5)
    assert rows["reciprocal 0.00501"]["average_precision"] == 1
    assert rows["reciprocal 0.00501"]["gain"]["mean"] == pytest.approx(0.5)
    assert rows["gamma"]["recall"] == pytest.approx(0.75)  # 0.05^0.45 is 0.26
    code, _, err = bench(model=model, **asked, size=320)
    assert (code, "size is 320, must be for a classifier" in err) == (2, True)
    code, text, _ = bench(model=model, **asked)
    assert (code, "mAP@.5" in text, "precision 100.0 %" in text) == (0, True, True)
    code, _, err = bench(model=f"{bench.name}:Levels", **asked)
    assert (code, "is judged by a detector" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layout": "lol"}, "layout is 'lol'"),
        ({"layout": "vbof"}, "foveal.data.layouts.vbof"),
        ({"layout": "codan", "root": None}, "root is not given"),
        ({"layout": "codan", "root": "nowhere"}, "test_night is no folder"),
        ({"layout": "codan", "draws": 3}, "draws is given with layout"),
        ({"layout": "codan", "seed": 1}, "seed is given with layout"),
        ({"layout": "codan", "most": 0}, "most is 0"),
        ({"layout": "arid", "num_frames": 0}, "num_frames is 0"),
        ({"layout": "dark-face", "split": "test"}, "dark-face has none"),
        ({"layout": None}, "root is given without layout"),
    ],
    ids=lambda x: None if isinstance(x, str) else "-".join(f"{k}={v}" for k, v in x.items()),
)
def test_bad_options_of_layouts(bench, options, words) -> None:
    code, _, err = bench(**{**NO_DARKENING, "root": "here", **options})
    assert (code, err.count("\n"), words in err) == (2, 1, True), err


@pytest.mark.assets
def test_the_packaged_recogniser_and_photographs(bench) -> None:
    code, text, err = bench(
        "--json", photos=None, model=None, shorter_side=224, most=2, draws=1, curves=None
    )
    assert code == 0, err
    found = json.loads(text)
    assert found["where"]["source"].startswith("2 crops of 2 photographs, evaluation")
    assert "sacc-efficientnet-lite0" in {r["method"] for r in found["rows"]}
