"""The learned codec over a track: files of one image, bytes, and what is judged."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from foveal.codec.config import Source
from foveal.codec.encoding import encode
from foveal.codec.evaluate.learned import codec_points, match, one_file_each
from foveal.codec.evaluate.track import Cut, Track, TrackTask, features_of
from foveal.codec.model import FeatureCodec
from foveal.codec.schemes import Sizes, joint, separate
from foveal.codec.stream import decode
from foveal.errors import ArgumentError

SIZES = Sizes(channels=4, hidden=8, head_hidden=8, side=4, codewords=4, hyper_hidden=8)


def track(names: Sequence[str] = ("a", "b"), sha256: str = "") -> Track:
    """Tasks whose features are 4 x 4 means of the image and whose answer is their sum."""
    g = np.random.default_rng(0)
    images = [g.integers(0, 256, (8, 8, 3)).astype(np.uint8) for _ in range(5)]

    def encode_(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)

    def sums(answer: Tensor, items: Sequence[int]) -> Tensor:
        return torch.stack([answer.double(), torch.ones(len(answer), dtype=torch.float64)], 1)

    cut = Cut(encode_, lambda f: f.sum((1, 2, 3)), "means", sha256)
    tasks = {
        name: TrackTask(
            name, lambda x: x, sums, {"sum": lambda t: t[0] / t[1]}, True,
            np.ones((5, 2)), "hand", cut,
        )
        for name in names
    }  # fmt: skip
    return Track("noise", images, tasks, "five")


def model(names: Sequence[str] = ("a", "b"), *, scheme=joint, sha256: str = "") -> FeatureCodec:
    torch.manual_seed(0)
    sources = [Source(n, 3, height=4, width=4, nonnegative=True, sha256=sha256) for n in names]
    codec = FeatureCodec(scheme(sources, SIZES))
    features = {n: torch.rand(20, 3, 4, 4) for n in names}
    codec.start(features)
    return codec.finalise(features)


@pytest.mark.parametrize("scheme", [joint, separate], ids=["joint", "separate"])
def test_bytes_are_those_of_files_of_one_image(scheme) -> None:
    t, codec = track(), model(scheme=scheme)
    features = {name: features_of(t, name) for name in t.tasks}
    done: list[int] = []
    points = codec_points(
        t, codec, features, qualities=(0, 63), batch=3, label="mine",
        progress=lambda a, b: done.append(a),
    )  # fmt: skip
    assert done == [1, 2]
    for point in points:
        quality = point.settings["quality"]
        for i in range(5):
            alone = {name: x[i : i + 1] for name, x in features.items()}
            file = encode(codec, alone, quality=quality).payload
            assert point.bytes[i] == len(file)
        assert point.label == "mine"
        assert (point.side >= 0).all()
        assert (point.payload >= 0).all()
        layers = len(codec.config.layers)
        assert point.container.tolist() == [11 + layers - 1] * 5
    assert points[0].bytes.sum() <= points[1].bytes.sum()


def test_what_is_judged_is_what_the_files_hold() -> None:
    t, codec = track(), model()
    features = {name: features_of(t, name) for name in t.tasks}
    (point,) = codec_points(t, codec, features, qualities=(50,), batch=2)
    stream = encode(codec, features, quality=50)
    files = one_file_each(stream.payload)
    assert len(files) == 5
    for i, file in enumerate(files):
        back = decode(codec, file)
        for name in ("a", "b"):
            assert point.sums[name][i, 0] == pytest.approx(float(back[name].sum()), rel=1e-4)


def test_some_tasks_cost_less_than_all_of_separate_layers() -> None:
    t, codec = track(), model(scheme=separate)
    features = {name: features_of(t, name) for name in t.tasks}
    (every,) = codec_points(t, codec, features, qualities=(63,))
    (one,) = codec_points(t, codec, features, qualities=(63,), tasks=["a"])
    assert list(one.sums) == ["a"]
    assert (one.bytes < every.bytes).all()
    assert np.allclose(one.sums["a"], every.sums["a"])


def test_models_match_by_name_or_alone_and_by_network() -> None:
    assert match(model(), track()) == {"a": "a", "b": "b"}
    assert match(model(["x"]), track(["a"])) == {"x": "a"}
    assert match(model(["a", "x"]), track()) == {"a": "a"}
    with pytest.raises(ArgumentError, match=r"model has sources \['x', 'y'\], of which noise has"):
        match(model(["x", "y"]), track())
    with pytest.raises(ArgumentError, match="source a of the model is of network 12345678, must"):
        match(model(["a"], sha256="123456789"), track(["a"], sha256="abc"))
    assert match(model(["a"], sha256="abc"), track(["a"], sha256="abc")) == {"a": "a"}


def test_a_model_of_one_source_is_judged_by_the_only_task() -> None:
    t, codec = track(["a"]), model(["x"])
    (point,) = codec_points(t, codec, {"x": features_of(t, "a")}, qualities=(30,))
    assert list(point.sums) == ["a"]
