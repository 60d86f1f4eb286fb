import dataclasses

import pytest
import torch
from torch.nn import functional as F

from foveal.data import samples
from foveal.errors import ArgumentError, ShapeError
from foveal.teachers import Preprocessing, coco, disagreement
from foveal.teachers.centernet import CenterNet
from foveal.teachers.mtcnn import MTCNN
from foveal.teachers.nanodet import NanoDet
from foveal.teachers.protocol import box_overlap, suppress


def photo(name):
    from foveal.lowlight import read_image

    return read_image(samples.path(name))[None]


def dark(images, factor=0.02):
    """Less light, in linear light, without noise."""
    linear = torch.where(images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055) ** 2.4)
    return (linear * factor * 12.92).clamp(0, 1)


@pytest.fixture(scope="module")
def centernet():
    return CenterNet.load()


def best(detections, name):
    """Score and box of the best detection of a class."""
    at = detections.classes.index(name)
    return detections.scores[at].item(), detections.boxes[at]


@pytest.mark.assets
def test_centernet_finds_what_is_there(centernet) -> None:
    """Boxes by eye, in pixels of the photograph of 576 x 768."""
    found = centernet.detect(photo("darknet-dog"))[0]
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    for name, box in (("dog", (130, 220, 310, 540)), ("bicycle", (120, 130, 570, 430))):
        score, where = best(found, name)
        assert score > 0.3
        assert box_overlap(where[None], torch.tensor([box]).float()).item() > 0.7
    horses = centernet.detect(photo("darknet-horses"))[0]
    assert horses.classes.count("horse") == 3


@pytest.mark.assets
def test_nanodet_finds_what_is_there() -> None:
    model = NanoDet.load()
    found = model.detect(photo("darknet-dog"))[0]
    for name, box in (("dog", (130, 220, 310, 540)), ("bicycle", (120, 130, 570, 430))):
        score, where = best(found, name)
        assert score > 0.5
        assert box_overlap(where[None], torch.tensor([box]).float()).item() > 0.7
    giraffe = model.detect(photo("darknet-giraffe"))[0]
    assert giraffe.classes[:2] == ["giraffe", "zebra"]


@pytest.mark.assets
def test_nanodet_gives_the_answers_that_its_file_declares() -> None:
    from foveal.teachers.graph import GraphModule, read_tfjs

    files = samples.fetch(["nanodet-model", "nanodet-weights"])
    whole = GraphModule(read_tfjs(files[0], shards=[files[1]]))
    model = NanoDet.load()
    x = model.preprocess(photo("darknet-kite"))
    with torch.no_grad():
        got = model(x).sigmoid()
        out = whole(model.preprocessing.normalize(x))
    wanted = torch.cat([out[n] for n in ("Identity", "Identity_1", "Identity_2")], 1)
    torch.testing.assert_close(got.transpose(1, 2), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.assets
def test_mtcnn_finds_faces_and_their_points() -> None:
    """The astronaut's eyes, nose and mouth, by eye, in a photograph of 512 x 512."""
    model = MTCNN.load()
    found = model.detect(photo("skimage-astronaut"))[0]
    assert found.classes == ["face"]
    assert found.scores[0] > 0.95
    by_eye = torch.tensor([[204, 102], [246, 103], [224, 127], [203, 141], [245, 142]]).float()
    assert (found.landmarks[0] - by_eye).norm(dim=1).max() < 8
    three = model.detect(photo("labelme-2011-000006"))[0]
    assert len(three) == 3
    assert three.landmarks.shape == (3, 5, 2)
    inside = (three.landmarks >= three.boxes[:, None, :2]) & (
        three.landmarks <= three.boxes[:, None, 2:]
    )
    assert inside.all()
    none = model.detect(torch.zeros(2, 3, 30, 50))
    assert [len(d) for d in none] == [0, 0]
    assert none[0].boxes.shape == (0, 4)
    with pytest.raises(ArgumentError, match="smallest_face is 5, must be in"):
        MTCNN(smallest_face=5)
    with pytest.raises(ArgumentError, match="size is 3"):
        MTCNN(size=3)


@pytest.mark.assets
def test_a_damaged_converted_copy_is_made_again(tmp_path, monkeypatch) -> None:
    import shutil

    from foveal.errors import MediaError
    from foveal.teachers.states import packaged_state

    source = samples.path("mtcnn-pnet")
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path))
    target = samples.catalogue()["mtcnn-pnet"].cached
    target.parent.mkdir(parents=True)
    shutil.copy(source, target)
    first = packaged_state("mtcnn-pnet")
    copy = next((tmp_path / "converted").iterdir())
    copy.write_bytes(b"x" * 20)
    assert torch.equal(packaged_state("mtcnn-pnet")["conv1.weight"], first["conv1.weight"])
    copy.unlink()
    target.write_bytes(source.read_bytes()[:-1])
    with pytest.raises(MediaError, match="was changed"):
        packaged_state("mtcnn-pnet")


@pytest.mark.assets
def test_centernet_decodes_as_its_own_graph_does(centernet) -> None:
    """The file holds a decoder too: 100 rows of x1 y1 x2 y2 score class, at 512 x 512."""
    from foveal.teachers.graph import GraphModule, read_tfjs

    files = samples.fetch(["centernet-model", "centernet-weights"])
    whole = GraphModule(read_tfjs(files[0], shards=[files[1]]), outputs=["tower_0/detections"])
    x, _ = centernet.preprocessing.place(photo("darknet-person"))
    with torch.no_grad():
        rows = whole(x.permute(0, 2, 3, 1) * 255)["tower_0/detections"][0]
    rows = rows[rows[:, 4] > 0.1]
    found = centernet.detect(x, threshold=0.1)[0]
    assert len(found) == len(rows) > 5
    torch.testing.assert_close(found.scores, rows[:, 4], rtol=1e-3, atol=1e-4)
    assert found.labels.tolist() == rows[:, 5].int().tolist()
    torch.testing.assert_close(found.boxes, rows[:, :4].clamp(0, 512), rtol=1e-3, atol=0.05)


@pytest.mark.assets
@pytest.mark.parametrize("kind", [CenterNet, NanoDet, MTCNN])
def test_gradients_reach_the_picture_and_a_batch_is_its_parts(kind) -> None:
    model = kind.load().train()
    names = ("skimage-astronaut", "labelme-2011-000006")
    names = names if kind is MTCNN else ("darknet-dog", "darknet-horses")
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    day = torch.cat([model.preprocess(photo(n)) for n in names])
    with torch.no_grad():
        wanted = model(day)
        alone = torch.cat([model(x[None]) for x in day])
    torch.testing.assert_close(wanted, alone, rtol=1e-3, atol=1e-3)
    gain = torch.ones(2, 1, 1, 1, requires_grad=True)
    night = dark(day)
    loss = disagreement(model((night * gain).clamp(0, 1)), wanted, model.activation)
    assert (loss > 0.1).all()
    loss.sum().backward()
    assert (gain.grad < 0).all()  # more light agrees better
    with torch.no_grad():
        step = disagreement(model((night * 3).clamp(0, 1)), wanted, model.activation)
    assert (step < loss).all()


@pytest.mark.assets
@pytest.mark.parametrize("kind", [CenterNet, NanoDet, MTCNN])
def test_features_at_every_point(kind) -> None:
    model = kind.load()
    x = torch.rand(1, 3, model.size, model.size)
    for point in model.points:
        y = model.features(x, point)
        if point.startswith("stride"):
            assert y.shape[-1] == model.size // int(point.removeprefix("stride"))
        assert y.shape[0] == 1
        assert y.ndim == 4
    assert torch.equal(model.features(x), model.features(x, model.points[0]))
    with pytest.raises(ArgumentError, match="point is 'nowhere', must be one of"):
        model.features(x, "nowhere")
    with pytest.raises(ShapeError, match="images has shape .*use preprocess"):
        model(x[..., :-1])
    with pytest.raises(ShapeError, match="images has shape .*use preprocess"):
        model.features(x[:, :1])


@pytest.mark.assets
def test_bad_pictures_are_named(centernet) -> None:
    x = torch.rand(1, 3, 40, 60)
    for bad in (x[:, :1], x[0], torch.rand(1, 4, 8, 8), x[..., :0]):
        with pytest.raises(ShapeError, match="images has shape"):
            centernet.detect(bad)
    with pytest.raises(ArgumentError, match=r"must be in \[0, 1\] without NaN"):
        centernet.detect(torch.full_like(x, float("nan")))
    with pytest.raises(ArgumentError, match=r"values from .* to 255"):
        centernet.detect(torch.full_like(x, 255.0))
    with pytest.raises(ArgumentError, match="images is torch.uint8"):
        centernet.detect((x * 255).byte())
    with pytest.raises(ArgumentError, match="threshold is 1.5"):
        centernet.detect(x, threshold=1.5)
    for shape in ((1, 1), (3, 701), (1000, 2)):
        boxes = centernet.detect(torch.rand(1, 3, *shape), threshold=0.01)[0].boxes
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([shape[1], shape[0]] * 2)).all()


@pytest.mark.parametrize("fit", ["crop", "letterbox", "stretch"])
@pytest.mark.parametrize("shape", [(60, 100), (100, 60), (31, 32), (7, 400)])
def test_points_come_back_where_they_were(fit, shape) -> None:
    """A bright dot is found in the square, and its place there is undone."""
    fixed = Preprocessing(96, fit, (0.0,) * 3, (1.0,) * 3)
    images = torch.zeros(1, 3, *shape)
    top, left = shape[0] // 2, shape[1] // 2
    images[..., top : top + 1, left : left + 1] = 1
    images = F.interpolate(images, scale_factor=8.0)  # a square of 8 pixels
    x, placement = fixed.place(images)
    assert x.shape == (1, 3, 96, 96)
    weight = (x[0, 0] - (x[0, 0] == 0.5) * 0.5).clamp_min(0)
    ys, xs = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    center = torch.stack([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()
    got = placement.to_image(center[None])[0]
    wanted = torch.tensor([8 * left + 4.0, 8 * top + 4.0])
    torch.testing.assert_close(got, wanted, rtol=0, atol=0.6 * 8 * max(shape) / 96)


def test_preprocessing_orders_and_scales() -> None:
    fixed = Preprocessing(8, "stretch", (0.1, 0.2, 0.3), (1.0, 2.0, 4.0), "bgr")
    x = torch.tensor([0.5, 0.6, 0.7]).reshape(1, 3, 1, 1)
    got = fixed.normalize(x).flatten().tolist()
    assert got == pytest.approx([0.6, 0.2, 0.05])
    assert dataclasses.replace(fixed, channels="rgb").normalize(x).flatten().tolist() == (
        pytest.approx([0.4, 0.2, 0.1])
    )


def test_disagreement_by_hand() -> None:
    a, b = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, float(torch.tensor(3.0).log())]])
    # KL of (1/4, 3/4) from (1/2, 1/2)
    wanted = 0.25 * torch.tensor(0.5).log() + 0.75 * torch.tensor(1.5).log()
    torch.testing.assert_close(disagreement(a, b, "softmax"), wanted[None])
    # two binary answers: 1/2 agrees, 3/4 was wanted; 1.25 things are expected
    torch.testing.assert_close(disagreement(a, b, "sigmoid"), _binary(0.75, 0.5)[None] / 1.25)
    for kind in ("softmax", "sigmoid"):
        x = torch.randn(2, 3, 4, 5)
        torch.testing.assert_close(disagreement(x, x, kind), torch.zeros(2), rtol=0, atol=1e-6)
        assert (disagreement(torch.randn(2, 3, 4, 5), x, kind) > 0).all()


def test_disagreement_refuses() -> None:
    a, b = torch.zeros(1, 2), torch.zeros(1, 2)
    with pytest.raises(ShapeError, match="must be that of wanted"):
        disagreement(a, b[0], "softmax")
    with pytest.raises(ArgumentError, match="activation is 'relu'"):
        disagreement(a, b, "relu")


def _binary(p, q):
    p, q = torch.tensor(p), torch.tensor(q)
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def test_suppression_by_hand() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [4, 4, 6, 6.0]])
    scores = torch.tensor([0.5, 0.9, 0.8, 0.7])
    labels = torch.tensor([0, 0, 1, 1])
    assert box_overlap(boxes[:1], boxes[1:2]).item() == pytest.approx(90 / 110)
    assert suppress(boxes, scores, labels, overlap=0.5).tolist() == [1, 2, 3]
    assert suppress(boxes, scores, labels, overlap=0.9).tolist() == [1, 2, 3, 0]
    small = suppress(boxes, scores, labels, overlap=0.5, by="smaller")
    assert small.tolist() == [1, 2]  # the smallest lies inside of a better one
    assert suppress(boxes[:0], scores[:0], labels[:0], overlap=0.5).tolist() == []


def test_the_names_are_eighty() -> None:
    assert len(set(coco.NAMES)) == 80
    assert (coco.NAMES[0], coco.NAMES[16], coco.NAMES[79]) == ("person", "dog", "toothbrush")
