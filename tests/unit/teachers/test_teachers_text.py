import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from foveal.errors import ArgumentError, ShapeError
from foveal.teachers import disagreement
from foveal.teachers.graph import Graph
from foveal.teachers.person_mask import PersonMask
from foveal.teachers.pp_ocr import PPOCR, TextReader, straightened
from foveal.teachers.text_regions import grown, hull, regions, smallest_rectangle

PAPER = (235, 230, 220)
LINES = ("Foveal 2026", "light, bits and keyframes", "EXIT 42")


def page(degrees=0):
    """Three lines of text, turned counterclockwise."""
    image = Image.new("RGB", (560, 300), PAPER)
    draw = ImageDraw.Draw(image)
    for (x, y), size, text in zip(((30, 30), (40, 120), (260, 200)), (48, 32, 36), LINES,
                                  strict=True):  # fmt: skip
        draw.text((x, y), text, (20, 20, 60), ImageFont.load_default(size))
    image = image.rotate(degrees, expand=True, fillcolor=PAPER, resample=Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def ocr():
    return PPOCR.load(size=640)


def plain(lines):
    return sorted(line.text.replace(" ", "") for line in lines)


@pytest.mark.assets
@pytest.mark.parametrize("degrees", [0, 20, -30, 90])
def test_lines_are_read_however_they_lie(ocr, degrees) -> None:
    lines = ocr.read(page(degrees))[0]
    assert plain(lines) == sorted(text.replace(" ", "") for text in LINES)
    assert all(line.score > 0.8 for line in lines)
    if degrees in (0, 20, -30):
        for line in lines:
            right = line.corners[1] - line.corners[0]
            angle = math.degrees(math.atan2(-right[1], right[0]))
            assert angle == pytest.approx(degrees, abs=4)


@pytest.mark.assets
def test_boxes_hold_the_ink_and_are_in_pixels_of_the_image(ocr) -> None:
    image = page()
    found = ocr.detector.detect(image)[0]
    assert found.classes == ["text"] * 3
    ink = image[0].mean(0) < 0.5
    for left, top, right, bottom in found.boxes.round().long().tolist():
        ink[max(0, top - 3) : bottom + 3, max(0, left - 3) : right + 3] = False
    assert not ink.any()
    areas = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(1)
    assert (areas < 0.15 * image[0, 0].numel()).all()
    assert ocr.read(torch.zeros(1, 3, 50, 70)) == [[]]


@pytest.mark.assets
def test_score_map_and_characters_are_differentiable(ocr) -> None:
    x = ocr.detector.preprocess(page())
    with torch.no_grad():
        wanted = ocr.detector(x)
    assert wanted.shape == (1, 1, 640, 640)
    gain = torch.full((1,), 0.05, requires_grad=True)
    loss = disagreement(ocr.detector(x * gain), wanted, ocr.detector.activation)
    loss.sum().backward()
    assert gain.grad.item() < 0
    assert ocr.detector.features(x, "neck").shape[-1] == 160
    line = ocr.reader.preprocess(straightened(page(), torch.tensor(
        [[25.0, 30.0], [330.0, 30.0], [330.0, 95.0], [25.0, 95.0]])))  # fmt: skip
    logits = ocr.reader(line)
    assert logits.shape == (1, 6625, line.shape[3] // 8)
    assert ocr.reader.decode(logits)[0][0].replace(" ", "") == "Foveal2026"
    dim = torch.full((1,), 0.1, requires_grad=True)
    disagreement(ocr.reader(line * dim), logits, ocr.reader.activation).sum().backward()
    assert dim.grad.item() < 0
    assert ocr.reader.features(line).shape[:2] == (1, 120)


@pytest.mark.assets
def test_bad_input_is_named(ocr) -> None:
    with pytest.raises(ArgumentError, match="size is 100, must be a multiple of 32"):
        PPOCR.load(size=100)
    with pytest.raises(ArgumentError, match="least_score: threshold is 0"):
        ocr.read(page(), least_score=0)
    with pytest.raises(ShapeError, match="images has shape"):
        ocr.read(page()[0])
    with pytest.raises(ArgumentError, match="without NaN"):
        ocr.read(page() * float("nan"))
    with pytest.raises(ShapeError, match="width a multiple of 8"):
        ocr.reader(torch.rand(1, 3, 48, 321))
    with pytest.raises(ShapeError, match="must be \\(b, 3, 48, width\\)"):
        ocr.reader(torch.rand(1, 3, 40, 320))


def test_reader_wants_an_alphabet(onnx_files) -> None:
    from foveal.teachers.graph import read_onnx

    nodes = [onnx_files.node("Relu", ["x"], ["squeeze_0.tmp_0"]),
             onnx_files.node("Relu", ["x"], ["p2o.Add.277"])]  # fmt: skip
    graph = read_onnx(onnx_files.write(nodes, {"x": (1, 3, 48, None)}, {"p2o.Add.277": ()}))
    assert isinstance(graph, Graph)
    with pytest.raises(ArgumentError, match="has no metadata 'character'"):
        TextReader(graph)


def test_regions_against_flood_fill() -> None:
    rng = np.random.default_rng(0)
    for density in (0.2, 0.5, 0.8):
        mask = rng.random((23, 31)) < density
        found = regions(mask)
        labels = np.zeros(mask.shape, int)
        for number, pixels in enumerate(found, 1):
            assert (labels[pixels[:, 0], pixels[:, 1]] == 0).all()
            labels[pixels[:, 0], pixels[:, 1]] = number
        assert ((labels > 0) == mask).all()
        assert labels.tolist() == flooded(mask, found).tolist()
        assert [len(p) for p in found] == sorted((len(p) for p in found), reverse=True)
    assert regions(np.zeros((3, 4), bool)) == []
    assert [len(p) for p in regions(np.eye(4, dtype=bool), most=1)] == [4]


def flooded(mask, found):
    """Each region anew: from its first pixel to all eight neighbors, again and again."""
    out = np.zeros(mask.shape, int)
    for number, pixels in enumerate(found, 1):
        todo = [tuple(pixels[0])]
        while todo:
            y, x = todo.pop()
            if not (0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]):
                continue
            if not mask[y, x] or out[y, x]:
                continue
            out[y, x] = number
            todo += [(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    return out


@pytest.mark.parametrize("degrees", [0, 10, 33, -25, 44])
def test_smallest_rectangle_is_found(degrees) -> None:
    turn = math.radians(degrees)
    right = np.array([math.cos(turn), math.sin(turn)])
    down = np.array([-right[1], right[0]])
    origin = np.array([50.0, 60.0])
    corners = np.array([origin, origin + 40 * right, origin + 40 * right + 12 * down,
                        origin + 12 * down])  # fmt: skip
    inner = np.random.default_rng(1).random((30, 2))
    points = np.concatenate(
        [corners, origin + inner[:, :1] * 40 * right + inner[:, 1:] * 12 * down]
    )
    assert len(hull(points)) == 4
    box = smallest_rectangle(points)
    np.testing.assert_allclose(box, corners, atol=1e-6)
    big = grown(box, 1.6)
    by = 40 * 12 * 1.6 / 104
    assert np.linalg.norm(big[1] - big[0]) == pytest.approx(40 + 2 * by)
    assert np.linalg.norm(big[3] - big[0]) == pytest.approx(12 + 2 * by)
    np.testing.assert_allclose(big.mean(0), box.mean(0))


def test_points_without_area() -> None:
    one = smallest_rectangle(np.array([[3.0, 4.0]]))
    assert one.tolist() == [[3, 4]] * 4
    line = smallest_rectangle(np.array([[0.0, 0.0], [4.0, 0.0], [2.0, 0.0]]))
    assert np.ptp(line, axis=0).tolist() == [4, 0]
    assert grown(line, 1.6).tolist() == line.tolist()


def test_straightened_takes_the_pixels_of_the_rectangle() -> None:
    image = torch.rand(1, 3, 20, 30, dtype=torch.float64)
    box = torch.tensor([[4.0, 5.0], [16.0, 5.0], [16.0, 13.0], [4.0, 13.0]])
    torch.testing.assert_close(straightened(image, box), image[..., 5:13, 4:16])
    tall = torch.tensor([[4.0, 2.0], [8.0, 2.0], [8.0, 18.0], [4.0, 18.0]])
    turned = straightened(image, tall)  # what is read from the bottom up lies from left to right
    torch.testing.assert_close(turned, image[..., 2:18, 4:8].rot90(-1, (2, 3)))


@pytest.mark.assets
def test_person_mask_by_eye() -> None:
    """Shares of the astronaut's photograph: face and suit are person, flag and shuttle are not."""
    from foveal.data import samples
    from foveal.lowlight import read_image

    model = PersonMask.load()
    image = read_image(samples.path("skimage-astronaut"))[None]
    mask = model.mask(image)
    assert mask.shape == (1, 1, 512, 512)
    assert mask[0, 0, 60:170, 180:260].mean() > 0.95
    assert mask[0, 0, 250:450, 100:300].mean() > 0.95
    assert mask[0, 0, :150, :100].mean() < 0.05
    assert mask[0, 0, 30:230, 380:500].mean() < 0.1
    x = model.preprocess(image)
    sides = {p: model.features(x, p).shape[-1] for p in model.points}
    assert sides == {"stride16": 16, "stride2": 128, "stride4": 64, "stride8": 32, "neck": 128}
    with pytest.raises(ArgumentError, match="PersonMask.mask: images has values"):
        model.mask(image * 255)


@pytest.mark.assets
def test_gradient_of_the_mask_is_the_slope() -> None:
    """Along the brightness, in double precision."""
    from foveal.data import samples
    from foveal.lowlight import read_image

    model = PersonMask.load().double()
    x = model.preprocess(read_image(samples.path("skimage-astronaut"))[None].double())
    wanted = model(x).detach()

    def loss(gain):
        return disagreement(model(x * gain), wanted, model.activation).sum()

    gain = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    loss(gain).backward()
    with torch.no_grad():
        slope = (loss(0.3 + 1e-6) - loss(0.3 - 1e-6)) / 2e-6
    assert gain.grad.item() == pytest.approx(slope.item(), rel=1e-3)
