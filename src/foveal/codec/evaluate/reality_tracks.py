"""Tracks of real pictures and exact texts: classes of photographs, words, and depth from two views.

Of photographs nobody has labels here: right is what the recogniser answers to the uncompressed
picture. Words are drawn, so that what they say is known; the two views come with measured depth.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor
from torch.nn import functional as F

from foveal.codec.evaluate.track import Cut, Track, TrackTask, to_tensor
from foveal.data import samples
from foveal.data.photographs import evaluation_photographs
from foveal.data.texts import long_text
from foveal.errors import ArgumentError, MissingExtraError

_TILES_OF = 512  # shorter side of the photographs that are cut into tiles, in pixels
_LINE = (320, 48)
_LETTERS = (5, 16)
_STRIP = 100  # rows of the two views that make one item
_DISPARITIES = 70
_WINDOW = 9
_OFF_BY = 2.0
_LITE0 = "efficientnet-lite0"


def share(place: int, total: Float[ndarray, "k"]) -> float:
    """Return one sum by the last, which counts."""
    return float(total[place] / total[-1])


def ratio(total: Float[ndarray, "k"]) -> float:
    """Return the first sum by the last, which is positive."""
    return share(0, total)


# Classes.


def evaluation_pictures() -> Iterator[Float[Tensor, "3 _ _"]]:
    """Yield photographs that nothing is trained on: of animals, then of ImageNet's classes."""
    yield from evaluation_photographs(shorter_side=_TILES_OF)
    for name in samples.catalogue():
        if name.startswith("photo-"):
            yield _read(name)


def training_pictures() -> Iterator[Float[Tensor, "3 _ _"]]:
    """Yield photographs that anchors may be fitted to."""
    for name, sample in samples.catalogue().items():
        if sample.use == "photographs for training" and not sample.inside.endswith(".rcc"):
            yield _read(name)


def _read(name: str) -> Float[Tensor, "3 _ _"]:
    with Image.open(samples.path(name)) as file:
        image = file.convert("RGB")
    scale = min(1.0, _TILES_OF / min(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    pixels = np.array(image.resize(size, Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255


def squares(
    pictures: Iterable[Float[Tensor, "3 _ _"]], size: int, most: int
) -> tuple[list[UInt8[ndarray, "s s 3"]], list[int]]:
    """Return 8-bit squares of pictures: the whole of each, then tiles of each in turn.

    Args:
        pictures: sRGB in [0, 1].
        size: Side, in pixels.
        most: Squares at most.

    Returns: Squares, and of which picture each is.
    """
    found: list[tuple[int, int, Tensor]] = []
    for i, picture in enumerate(pictures):
        height, width = picture.shape[1:]
        scale = size / min(height, width)
        shape = [max(size, round(side * scale)) for side in (height, width)]
        whole = F.interpolate(picture[None], shape, mode="bicubic", antialias=True)[0]
        top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
        found.append((0, i, whole[:, top : top + size, left : left + size]))
        tiles = [
            picture[:, y : y + size, x : x + size]
            for y in range(0, height - size + 1, size)
            for x in range(0, width - size + 1, size)
        ]
        found += [(turn + 1, i, tile) for turn, tile in enumerate(tiles)] if scale < 1 else []
        found = sorted(found, key=lambda row: row[:2])[:most]
    levels = [(x.clamp(0, 1) * 255).round().to(torch.uint8) for _, _, x in found]
    return [x.permute(1, 2, 0).contiguous().numpy() for x in levels], [i for _, i, _ in found]


def class_task(
    teacher: Any,
    images: Sequence[UInt8[ndarray, "_ _ 3"]],
    *,
    name: str,
    device: str | torch.device,
    fingerprint: str = "",
) -> TrackTask:
    """Return agreement of top classes with the answers to uncompressed images.

    Args:
        teacher: Called with images of its size it returns logits; `features` and `head` are its
            two parts.
        images: Of its size.
        name: Of the task.
        device: Of the teacher.
        fingerprint: Changes with the teacher.
    """
    with torch.no_grad():
        batches = [
            to_tensor(np.stack(images[i : i + 32]), device) for i in range(0, len(images), 32)
        ]
        logits = torch.cat([teacher(x) for x in batches])
    truth = logits.argmax(1)

    def sums(answer: Tensor, items: Sequence[int]) -> Tensor:
        wanted = truth[torch.as_tensor(items, device=truth.device)]
        near = answer.topk(min(5, answer.shape[1])).indices == wanted[:, None]
        columns = [near[:, 0], near.any(1), torch.ones_like(near[:, 0])]
        return torch.stack([c.double() for c in columns], 1)

    frequent = truth.bincount(minlength=logits.shape[1])
    chance = sums(frequent[None].float().expand(len(images), -1), range(len(images)))
    return TrackTask(
        name=name,
        answer=teacher,
        sums=sums,
        measures={"top1": ratio, "top5": partial(share, 1)},
        higher_is_better=True,
        chance=chance.cpu().numpy(),
        truth="top class of the answer to the uncompressed image",
        cut=Cut(teacher.features, teacher.head, name, fingerprint),
        fingerprint=fingerprint,
        classes=int(logits.shape[1]),
    )


def lite0_track(
    *, images: int = 200, device: str | torch.device = "cpu", training: bool = False
) -> Track:
    """Return agreement of EfficientNet-Lite0 on photographs.

    Args:
        images: Squares at most: of each photograph the whole, then tiles of it.
        device: Of the recogniser.
        training: Of photographs that anchors may be fitted to, instead of those to judge by.
    """
    from foveal.teachers.efficientnet_lite import EfficientNetLite0

    teacher = EfficientNetLite0.load().to(device)
    pictures, groups = squares(
        training_pictures() if training else evaluation_pictures(), teacher.size, images
    )
    digest = samples.catalogue()[_LITE0].sha256
    task = class_task(teacher, pictures, name=_LITE0, device=device, fingerprint=digest)
    what = "training" if training else "evaluation"
    return Track(
        f"{_LITE0}-training" if training else _LITE0,
        pictures,
        {_LITE0: task},
        f"{len(pictures)} squares of {len(set(groups))} {what} photographs",
        groups=tuple(groups),
    )


# Words.


def draw_lines(count: int, seed: int = 0) -> tuple[list[UInt8[ndarray, "48 320 3"]], list[str]]:
    """Return pictures of one line of words each, and what they say.

    Words are of the Python reference, some with a number; colors, sizes, places, blur and noise are
    drawn from the seed.
    """
    dice = np.random.default_rng(seed)
    known = {word for word in long_text().split() if word.isascii() and word.isalpha()}
    words = sorted(word for word in known if 3 <= len(word) <= 9)
    images: list[UInt8[ndarray, "48 320 3"]] = []
    texts: list[str] = []
    for _ in range(count):
        parts = [words[i] for i in dice.integers(len(words), size=2)]
        if dice.random() < 0.5:
            parts[1] = str(dice.integers(10, 10_000))
        text = " ".join(parts)[: _LETTERS[1]].strip()
        light = dice.integers(150, 256, 3)
        dark = dice.integers(0, 90, 3)
        back, ink = (light, dark) if dice.random() < 0.7 else (dark, light)
        picture = Image.new("RGB", _LINE, (int(back[0]), int(back[1]), int(back[2])))
        font = ImageFont.load_default(float(dice.integers(22, 34)))
        pen = ImageDraw.Draw(picture)
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        x = dice.uniform(4, max(5.0, _LINE[0] - (right - left) - 4)) - left
        y = (_LINE[1] - (bottom - top)) / 2 - top + dice.uniform(-3, 3)
        pen.text((x, y), text, fill=(int(ink[0]), int(ink[1]), int(ink[2])), font=font)
        picture = picture.filter(ImageFilter.GaussianBlur(float(dice.uniform(0.2, 0.9))))
        noisy = np.asarray(picture) + dice.normal(0, dice.uniform(2, 8), (_LINE[1], _LINE[0], 3))
        images.append(noisy.round().clip(0, 255).astype(np.uint8))
        texts.append(text)
    return images, texts


def edit_distance(a: str, b: str) -> int:
    """Return how many insertions, deletions and replacements turn one text into another."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def words_track(*, images: int = 200, device: str | torch.device = "cpu", seed: int = 0) -> Track:
    """Return character errors of PP-OCR's reader on drawn lines; spaces do not count."""
    from foveal.teachers.pp_ocr import TextReader

    reader = TextReader.load().to(device)
    pictures, texts = draw_lines(images, seed)
    texts = [text.replace(" ", "") for text in texts]

    def sums(answer: Sequence[tuple[str, float]], items: Sequence[int]) -> Tensor:
        rows = [
            [float(edit_distance(text.replace(" ", ""), texts[i])), float(len(texts[i]))]
            for (text, _), i in zip(answer, items, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float64)

    nothing = [("", 0.0)] * images
    task = TrackTask(
        name="words",
        answer=reader.read,
        sums=sums,
        measures={"character_errors": ratio},
        higher_is_better=False,
        chance=sums(nothing, range(images)).numpy(),
        truth="the drawn text, without spaces",
        fingerprint=samples.catalogue()["pp-ocr-rec"].sha256,
    )
    source = f"{images} drawn lines of words, seed {seed}"
    return Track("words", pictures, {"words": task}, source, seeds=(seed,))


# Two views.


def disparity(
    left: Float[Tensor, "b 3 h w"], right: Float[Tensor, "b 3 h w"], most: int = _DISPARITIES
) -> Int64[Tensor, "b h w"]:
    """Return by how many pixels each place of the left view lies further left in the right one.

    Block matching: least sum of absolute differences in a square window, among 0 .. most - 1.
    """
    costs: list[Tensor] = []
    for d in range(most):
        moved = F.pad(right, (d, 0, 0, 0), mode="replicate")[..., : right.shape[-1]]
        costs.append(_in_window((left - moved).abs().sum(1)))
    # Windows at the border are smaller, equally for every disparity: sums compare as means do.
    return torch.stack(costs, 1).argmin(1)


def _in_window(x: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Return sums over a square window around each place."""
    height, width = x.shape[1:]
    half = _WINDOW // 2
    padded = F.pad(x, (half, half, half, half))
    rows = sum((padded[:, i : i + height] for i in range(1, _WINDOW)), padded[:, :height])
    return sum((rows[..., i : i + width] for i in range(1, _WINDOW)), rows[..., :width])


def stereo_track(*, device: str | torch.device = "cpu", images: int = 5) -> Track:
    """Return wrong disparities on strips of scikit-image's motorcycle, left over right view.

    Raises:
        MissingExtraError: scikit-image is not here.
        ArgumentError: no strip is asked for.
    """
    if find_spec("skimage") is None:
        raise MissingExtraError("stereo_track: scikit-image is missing; pip install scikit-image")
    if images < 1:
        raise ArgumentError(f"stereo_track: images is {images}, must be at least 1")
    from skimage.data import stereo_motorcycle

    left, right, truth = stereo_motorcycle()
    starts = range(0, left.shape[0] - _STRIP + 1, _STRIP)
    tops = list(starts)[:images]
    pictures = [np.concatenate([x[y : y + _STRIP] for x in (left, right)]) for y in tops]
    wanted = torch.from_numpy(np.stack([truth[y : y + _STRIP] for y in tops])).to(device)
    valid = wanted.isfinite()

    def answer(pairs: Tensor) -> Tensor:
        half = pairs.shape[2] // 2
        return disparity(pairs[:, :, :half], pairs[:, :, half:])

    def sums(found: Tensor, items: Sequence[int]) -> Tensor:
        index = torch.as_tensor(items, device=wanted.device)
        there = valid[index]
        wrong = (found - torch.where(there, wanted[index], 0)).abs() > _OFF_BY
        columns = [(wrong & there).sum((1, 2)), there.sum((1, 2))]
        return torch.stack([c.double() for c in columns], 1)

    constant = wanted[valid].median().expand(wanted.shape)
    task = TrackTask(
        name="stereo",
        answer=answer,
        sums=sums,
        measures={"wrong_by_2px": ratio},
        higher_is_better=False,
        chance=sums(constant, range(len(tops))).cpu().numpy(),
        truth="disparities that come with the pair",
        fingerprint="block matching 1",
    )
    source = f"{len(tops)} strips of one stereo pair, motorcycle of scikit-image"
    return Track("stereo", pictures, {"stereo": task}, source)
