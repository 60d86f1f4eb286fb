"""Daylight pictures for `foveal bench lowlight`: photographs, crops of them, or frames."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from foveal._core.formats import IMAGE_SUFFIXES
from foveal.errors import ArgumentError

NUM_BLOCKS = 10
"""Neighboring frames are no independent items: a video is resampled by this many parts."""


class Pictures(Sequence[Float[Tensor, "3 _ _"]]):
    """Pictures rounded to 8 bits, which is a quarter of the memory; each comes to the device alone.

    Args:
        images: sRGB in [0, 1]; taken one by one.
        device: Where pictures come to.
    """

    def __init__(self, images: Iterable[Float[Tensor, "3 _ _"]], device: torch.device) -> None:
        """Take all images."""
        self._held: list[UInt8[Tensor, "3 _ _"]] = [
            (x * 255).round().to(torch.uint8).cpu() for x in images
        ]
        self._device = device

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._held)

    def __getitem__(self, index: Any) -> Any:
        """Return one picture in [0, 1]."""
        return self._held[index].to(self._device).float() / 255

    def digest(self) -> str:
        """Return what tells these pictures from others."""
        found = hashlib.sha256()
        for x in self._held:
            found.update(repr(tuple(x.shape)).encode() + x.numpy().tobytes())
        return found.hexdigest()[:16]


def photographs(folder: str, shorter_side: int) -> Iterator[Float[Tensor, "3 _ _"]]:
    """Yield daylight photographs of a folder; empty: the packaged ones of the evaluation split.

    Raises: ArgumentError: there is no such folder, or no image in it.
    """
    from foveal.lowlight import read_image

    if not folder:
        from foveal.data.photographs import evaluation_photographs

        yield from evaluation_photographs(shorter_side=shorter_side)
        return
    path = Path(folder)
    if not path.is_dir():
        raise ArgumentError(f"-o photos: photos is {folder}, must be a folder of photographs")
    for file in _images("photos", path):
        yield smaller(read_image(file), shorter_side)


def smaller(
    image: Float[Tensor, "3 height width"], shorter_side: int
) -> Float[Tensor, "3 rows columns"]:
    """Make a larger picture smaller, to a shorter side in pixels."""
    scale = shorter_side / min(image.shape[1:])
    if scale >= 1:
        return image
    size = [max(1, round(x * scale)) for x in image.shape[1:]]
    return interpolate(image[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)


def frames(video: str, count: int, shorter_side: int) -> list[Float[Tensor, "3 _ _"]]:
    """Return frames spread over a video; empty: the packaged street scene.

    Args:
        video: A file, or a folder of frames in the order of their names.
        count: How many.
        shorter_side: To which larger frames are made smaller, in pixels.

    Raises: ArgumentError: the video has fewer frames. MediaError: it cannot be read.
    """
    from foveal._core.video import read_video, spread_frames
    from foveal.data import samples
    from foveal.lowlight import read_image

    path = Path(video) if video else samples.path("video-bikes")
    if path.is_dir():
        files = _images("video", path)
        wanted = min(count, len(files))
        chosen = [files[i * len(files) // wanted] for i in range(wanted)]
        found = [smaller(read_image(x), shorter_side) for x in chosen]
    else:
        found = [smaller(x, shorter_side) for x in spread_frames(path, count)]
        if len(found) < count:  # some files say that they have more frames than they have
            found = [smaller(x, shorter_side) for x in read_video(path, max_frames=count)]
    if len(found) < count:
        raise ArgumentError(
            f"-o frames: frames is {count}, must be at most the {len(found)} of {path.name}; ask "
            "for fewer"
        )
    return found


def _images(option: str, folder: Path) -> list[Path]:
    files = sorted(
        f
        for f in folder.iterdir()
        if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")
    )
    if not files:
        raise ArgumentError(
            f"-o {option}: {option} is {folder}, which holds no image; name another"
        )
    return files


def collect(
    photos: str, video: str, num_frames: int, *, size: int, most: int, shorter_side: int
) -> tuple[Iterable[Float[Tensor, "3 _ _"]], list[int], str]:
    """Return pictures, the group of each, and what they are.

    Args:
        photos: As `photographs`.
        video: As `frames`.
        num_frames: If not 0, frames are taken, and no photographs.
        size: Side of disjoint crops, in pixels; 0: whole photographs.
        most: Crops or photographs at most.
        shorter_side: To which larger pictures are made smaller first, in pixels.
    """
    if num_frames:
        found = frames(video, num_frames, shorter_side)
        groups = [i * NUM_BLOCKS // len(found) for i in range(len(found))]
        return found, groups, f"{len(found)} frames of {Path(video).name or 'bikes.mp4'}"
    from foveal.lowlight.evaluate import disjoint_crops

    name = Path(photos).name or "evaluation photographs of gcompris-qt-data"
    chosen = photographs(photos, shorter_side)
    if size:
        crops, groups = disjoint_crops(chosen, size, most=most)
        return crops, groups, f"{len(crops)} crops of {len(set(groups))} photographs, {name}"
    whole = list(islice(chosen, most))
    return whole, list(range(len(whole))), f"{len(whole)} photographs, {name}"
