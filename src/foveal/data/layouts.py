"""Dark data sets that users bring: where their files lie, as lists of items with labels.

Nothing is downloaded. CODaN: a folder a split (train, val, test_day, test_night), a folder a class
within. ExDark: a folder a class; boxes in text files of Piotr Dollar's bbGt format beside them; the
split in imageclasslist.txt. DARK FACE: image/ and label/, a count and then x1 y1 x2 y2 a face.
ARID: a folder a class of clips, and split lists. VBOF: pairs of images and their motion; the names
say camera, positions and exposure.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from foveal.errors import ArgumentError

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".jpe", ".gif"}
CLIPS = {".mp4", ".avi", ".mkv", ".mov"}
CODAN_SPLITS = ("train", "val", "test_day", "test_night")
EXDARK_SPLITS = {"train": 1, "val": 2, "test": 3}
VBOF_EXPOSURES = range(1, 10)
_MOST_BYTES = 16 << 20
_MOST_SIDE = 1 << 14
_FLOW_HEAD = 12
_UNKNOWN_FLOW = 1e9
_VBOF_NAME = re.compile(r"(\d\d)(\d\d)(\d\d)(\d\d)_img1\.jpg", re.IGNORECASE)

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Item:
    """One image or clip.

    Attributes:
        path: The file.
        label: Class of the whole, or empty.
        boxes: Left, top, right, bottom in pixels of the image.
        classes: Class of each box.
    """

    path: Path
    label: str = ""
    boxes: tuple[Box, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FlowItem:
    """Two images of a thing that moved, taken in one light.

    Attributes:
        first, second: The images.
        flow: The motion from the first to the second, for `read_flow`.
        camera: Two digits of the name.
        exposure: 1 (bright) to 9 (dark).
    """

    first: Path
    second: Path
    flow: Path
    camera: str
    exposure: int


def codan(root: str | Path, split: str) -> list[Item]:
    """Return the images of a split of CODaN, by class.

    Raises: ArgumentError: an unknown split, or no such folder.
    Source: Lengyel et al., "Zero-Shot Day-Night Domain Adaptation with a Physics Prior", ICCV 2021.
    """
    if split not in CODAN_SPLITS:
        raise ArgumentError(f"codan: split is {split!r}, must be one of {CODAN_SPLITS}")
    return _by_class("codan", Path(root) / split, IMAGES)


def exdark(root: str | Path, split: str | None = None) -> list[Item]:
    """Return the images of ExDark with their boxes.

    Args:
        root: Holds a folder a class, in itself or in ExDark/; annotations in ExDark_Annno/ or
            ExDark_Anno/ if they are there; imageclasslist.txt for a split.
        split: "train", "val" or "test"; None for all.

    Raises: ArgumentError: a folder or list is missing, or a file is not as described.
    Source: Loh and Chan, "Getting to Know Low-light Images with the Exclusively Dark Dataset",
        CVIU 2019.
    """
    root = Path(root)
    wanted = _exdark_names(root, split) if split is not None else None
    images = root / "ExDark" if (root / "ExDark").is_dir() else root
    labels = next((root / x for x in ("ExDark_Annno", "ExDark_Anno") if (root / x).is_dir()), None)
    found: list[Item] = []
    for item in _by_class("exdark", images, IMAGES, without=("ExDark_Annno", "ExDark_Anno")):
        if wanted is not None and item.path.name.lower() not in wanted:
            continue
        text = None if labels is None else labels / item.label / f"{item.path.name}.txt"
        boxes, classes = ((), ()) if text is None or not text.is_file() else _bbgt(text)
        found.append(Item(item.path, item.label, boxes, classes))
    return found


def dark_face(root: str | Path) -> list[Item]:
    """Return the labelled images of DARK FACE with the boxes of their faces.

    Raises: ArgumentError: image/ is missing, or a label is not as described.
    Source: Yang et al., "Advancing Image Understanding in Poor Visibility Environments", TIP 2020.
    """
    root = Path(root)
    files = _files("dark_face", root / "image", IMAGES)
    found: list[Item] = []
    for file in sorted(files, key=lambda x: (len(x.stem), x.stem)):
        text = root / "label" / f"{file.stem}.txt"
        if not text.is_file():
            continue
        rows = list(_rows(text))
        try:
            count = int(rows[0][1][0])
            boxes = tuple(_box(text, number, row, sides=True) for number, row in rows[1:])
        except (IndexError, ValueError) as error:
            raise ArgumentError(
                f"dark_face: {text} begins with {rows[:1]}, must begin with the number of faces"
            ) from error
        if count != len(boxes):
            raise ArgumentError(f"dark_face: {text} says {count} faces and has {len(boxes)}")
        found.append(Item(file, "", boxes, ("face",) * count))
    return found


def arid(root: str | Path, split_list: str | Path | None = None) -> list[Item]:
    """Return the clips of ARID, by class.

    Args:
        root: Holds a folder a class.
        split_list: A list such as ARID_split1_test.txt, whose lines end in the path of a clip
            below `root`; None for all.

    Raises: ArgumentError: a folder, the list or a clip in it is missing.
    Source: Xu et al., "ARID", 2020, arXiv:2006.03876.
    """
    root = Path(root)
    if split_list is None:
        return _by_class("arid", root, CLIPS)
    found: list[Item] = []
    for number, row in _rows(Path(split_list)):
        name = Path(row[-1])
        path = root / name
        if name.is_absolute() or ".." in name.parts or not path.is_file():
            raise ArgumentError(
                f"arid: line {number} of {split_list} names {row[-1]}, must be a clip below {root}"
            )
        found.append(Item(path, path.parent.name))
    return found


def vbof(root: str | Path, exposure: int | None = None) -> list[FlowItem]:
    """Return the pairs of VBOF, in the form that its authors' script fills VBOF_data with.

    Args:
        root: VBOF_data, or the folder that holds it. Names are eight digits (camera, first and
            second position, exposure; two each) and _img1.jpg, _img2.jpg or _flow.flo.
        exposure: 1 (bright) to 9 (dark); None for all.

    Raises: ArgumentError: the folder, or one file of a pair, is missing; another exposure.
    Source: Zheng, Zhang and Lu, "Optical Flow in the Dark", CVPR 2020.
    """
    if exposure is not None and exposure not in VBOF_EXPOSURES:
        raise ArgumentError(f"vbof: exposure is {exposure}, must be in 1 to 9, or None")
    root = Path(root)
    folder = root / "VBOF_data" if (root / "VBOF_data").is_dir() else root
    found: list[FlowItem] = []
    for first in _files("vbof", folder, {".jpg"}):
        name = _VBOF_NAME.fullmatch(first.name)
        if name is None or (exposure is not None and int(name[4]) != exposure):
            continue
        stem = first.name[: len("00000000")]
        second, flow = (first.with_name(f"{stem}_{x}") for x in ("img2.jpg", "flow.flo"))
        for file in (second, flow):
            if not file.is_file():
                raise ArgumentError(f"vbof: {file} is missing beside {first.name}, must be there")
        found.append(FlowItem(first, second, flow, name[1], int(name[4])))
    if not found:
        raise ArgumentError(
            f"vbof: {folder} holds no pair such as 12030405_img1.jpg, must hold some; run the "
            "script that comes with the data set"
        )
    return found


def read_flow(path: str | Path) -> Float[Tensor, "2 height width"]:
    """Read motion in pixels, right and down, from a Middlebury .flo file; NaN where it is unknown.

    Raises: ArgumentError: it is no such file, or cut off.
    Source: Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_FLOW_HEAD)
            width, height = np.frombuffer(head[4:], "<i4") if len(head) == _FLOW_HEAD else (0, 0)
            fits = 0 < width <= _MOST_SIDE and 0 < height <= _MOST_SIDE
            if head[:4] != b"PIEH" or not fits or size != _FLOW_HEAD + 8 * int(width) * int(height):
                raise ArgumentError(
                    f"read_flow: {path} has {size} bytes and says {width} x {height}, must be a "
                    "whole .flo file; get it again"
                )
            values = np.frombuffer(file.read(), "<f4").astype(np.float32)
    except OSError as error:
        raise ArgumentError(f"read_flow: {path} cannot be read ({error})") from error
    flow = torch.from_numpy(values).view(int(height), int(width), 2).permute(2, 0, 1)
    known = (flow.abs() < _UNKNOWN_FLOW).all(0)
    return torch.where(known, flow, torch.nan)


def _files(where: str, folder: Path, suffixes: set[str]) -> list[Path]:
    if not folder.is_dir():
        raise ArgumentError(f"{where}: {folder} is no folder, must be one; see the layout's page")
    return sorted(
        x
        for x in folder.iterdir()
        if x.suffix.lower() in suffixes and not x.name.startswith(".") and x.is_file()
    )  # some archives hold "._name.jpg" beside each file


def _by_class(
    where: str, folder: Path, suffixes: set[str], without: tuple[str, ...] = ()
) -> list[Item]:
    if not folder.is_dir():
        raise ArgumentError(f"{where}: {folder} is no folder, must be one; see the layout's page")
    classes = sorted(x for x in folder.iterdir() if x.is_dir() and x.name not in without)
    found = [Item(file, x.name) for x in classes for file in _files(where, x, suffixes)]
    if not found:
        raise ArgumentError(
            f"{where}: {folder} holds no class folder with files of {sorted(suffixes)}, must hold "
            "some"
        )
    return found


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number and words of each line that has some."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ArgumentError(f"layouts: {file} is larger than 16 MiB, must be a short list")
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"layouts: {file} cannot be read as text ({error})") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line.split()


def _box(file: Path, number: int, words: list[str], *, sides: bool) -> Box:
    """Return a box of x1 y1 x2 y2, or (not `sides`) of left top width height."""
    try:
        a, b, c, d = (float(x) for x in words[:4])
    except ValueError as error:
        raise ArgumentError(
            f"layouts: line {number} of {file} is {' '.join(words)!r}, must have four numbers"
        ) from error
    right, bottom = (c, d) if sides else (a + c, b + d)
    if not (a <= right and b <= bottom) or any(abs(x) > 1e6 for x in (a, b, right, bottom)):
        raise ArgumentError(
            f"layouts: line {number} of {file} is {' '.join(words)!r}, must be a box in pixels"
        )
    return a, b, right, bottom


def _bbgt(file: Path) -> tuple[tuple[Box, ...], tuple[str, ...]]:
    """Read the boxes of a bbGt file: class, left, top, width, height, and more."""
    boxes: list[Box] = []
    classes: list[str] = []
    for number, row in _rows(file):
        if row[0].startswith("%"):
            continue
        boxes.append(_box(file, number, row[1:], sides=False))
        classes.append(row[0])
    return tuple(boxes), tuple(classes)


def _exdark_names(root: Path, split: str) -> set[str]:
    if split not in EXDARK_SPLITS:
        raise ArgumentError(
            f"exdark: split is {split!r}, must be one of {sorted(EXDARK_SPLITS)}, or None"
        )
    names: set[str] = set()
    for number, row in _rows(root / "imageclasslist.txt"):
        if number == 1 and not row[-1].isdigit():
            continue  # names of the columns
        if len(row) != 5 or not all(x.isdigit() for x in row[1:]):
            raise ArgumentError(
                f"exdark: line {number} of imageclasslist.txt is {' '.join(row)!r}, must be a name "
                "and four numbers"
            )
        if int(row[4]) == EXDARK_SPLITS[split]:
            names.add(row[0].lower())
    return names
