"""Training scripts refuse at once what would be lost or ignored hours later."""

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[3] / "tools"


@pytest.fixture
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module(request.param)


@pytest.mark.parametrize(
    ("out", "log", "message"),
    [
        ("m.safetensors", "m.json", "--log is .*m.json, which belongs to the model"),
        ("m.safetensors", "./m.safetensors", "which belongs to the model, must be another"),
        ("m.bin", "log.json", "--out is .*m.bin, must end in .safetensors"),
        ("m.safetensors", "none/log.json", "none is no folder, must be one; make it first"),
        ("none/m.safetensors", "log.json", "none is no folder"),
    ],
)
@pytest.mark.parametrize("tool", ["train_codec"], indirect=True)
def test_paths_are_looked_at_before_training(
    tool: ModuleType,
    out: str,
    log: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--photos", str(tmp_path), "--out", str(tmp_path / out), "--log", str(tmp_path / log)]
    monkeypatch.setattr("sys.argv", ["train_codec.py", *words])
    with pytest.raises(SystemExit) as ended:
        tool.main()
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert tool.wrong_paths(tmp_path / out, tmp_path / log) in text
    assert re.search(message, text)


@pytest.mark.parametrize("tool", ["train_codec"], indirect=True)
def test_good_paths_pass(tool: ModuleType, tmp_path: Path) -> None:
    assert tool.wrong_paths(tmp_path / "m.safetensors", tmp_path / "m.log.json") == ""


@pytest.mark.parametrize("tool", ["train_task_codecs"], indirect=True)
def test_jobs_with_unknown_words_are_refused(tool: ModuleType) -> None:
    job = tool.Job.of("joint:spatial:scene,normal:2:small:channels=8,frozen=analysis,lr=0.001")
    assert job.tasks == ("scene", "normal")
    assert job.options == {"channels": "8", "frozen": "analysis", "lr": "0.001"}
    with pytest.raises(SystemExit, match=r"options \['width'\], must have"):
        tool.Job.of("joint:spatial:scene:2:small:width=8")
    with pytest.raises(SystemExit, match="scheme 'both'"):
        tool.Job.of("both:spatial:scene:2")
