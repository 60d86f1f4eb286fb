"""Random crops of photographs on a GPU, for training without labels."""

import math
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from foveal.teachers.efficientnet_lite import EfficientNetLite0

CANVAS, SIZE, STAMP = 768, 224, 256
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass
class Photos:
    """Photographs on one device: uint8 [n, 3, CANVAS, CANVAS], zero outside [height, width]."""

    pixels: Tensor
    widths: Tensor
    heights: Tensor

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.pixels)


def read_photo(path: Path) -> np.ndarray | None:
    """Return [height, width, 3], cut to CANVAS about the middle, or None if it cannot be used."""
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    short = min(image.size)
    if short < 96:
        return None
    if short > CANVAS:
        image = image.resize(
            (round(image.width * CANVAS / short), round(image.height * CANVAS / short)),
            Image.Resampling.LANCZOS,
        )
    left, top = max(0, (image.width - CANVAS) // 2), max(0, (image.height - CANVAS) // 2)
    right, bottom = min(image.width, left + CANVAS), min(image.height, top + CANVAS)
    return np.asarray(image.crop((left, top, right, bottom)))


def load_photos(paths: Sequence[Path], device: torch.device) -> Photos:
    """Read photographs in threads and put them on `device`."""
    with ThreadPoolExecutor(8) as pool:
        arrays = [a for a in pool.map(read_photo, paths) if a is not None]
    if not arrays:
        sys.exit(f"photo_crops: none of {len(paths)} files is a photograph of 96 pixels or more")
    pixels = torch.zeros((len(arrays), 3, CANVAS, CANVAS), dtype=torch.uint8)
    for i, array in enumerate(arrays):
        height, width = array.shape[:2]
        pixels[i, :, :height, :width] = torch.from_numpy(array.copy()).permute(2, 0, 1)
    widths = torch.tensor([a.shape[1] for a in arrays], dtype=torch.float32, device=device)
    heights = torch.tensor([a.shape[0] for a in arrays], dtype=torch.float32, device=device)
    return Photos(pixels.to(device), widths, heights)


def load_stamps(folder: Path | None, device: torch.device) -> Tensor | None:
    """Return cut-outs as [n, 4, STAMP, STAMP] in [0, 1], the colour times its alpha."""
    if folder is None:
        return None
    out = []
    for path in find(folder):
        image = np.asarray(Image.open(path).convert("RGBA"), dtype=np.float32) / 255
        height, width = image.shape[:2]
        canvas = np.zeros((STAMP, STAMP, 4), dtype=np.float32)
        top, left = (STAMP - height) // 2, (STAMP - width) // 2
        canvas[top : top + height, left : left + width] = image
        canvas[..., :3] *= canvas[..., 3:]
        out.append(torch.from_numpy(canvas).permute(2, 0, 1))
    return torch.stack(out).to(device)


def crop(
    photos: Photos, index: Tensor, boxes: tuple[Tensor, Tensor, Tensor, Tensor], flip: Tensor
) -> Tensor:
    """Return [b, 3, SIZE, SIZE] in [0, 1]: boxes as centre x, centre y, width, height in pixels.

    Sampled at twice the size and averaged, against aliasing.
    """
    x, y, width, height = boxes
    theta = torch.zeros((len(index), 2, 3), device=index.device)
    theta[:, 0, 0] = width / CANVAS * flip
    theta[:, 0, 2] = 2 * x / CANVAS - 1
    theta[:, 1, 1] = height / CANVAS
    theta[:, 1, 2] = 2 * y / CANVAS - 1
    grid = functional.affine_grid(theta, [len(index), 3, 2 * SIZE, 2 * SIZE], align_corners=False)
    source = photos.pixels[index].float() / 255
    out = functional.grid_sample(source, grid, padding_mode="border", align_corners=False)
    return functional.avg_pool2d(out, 2).clamp(0, 1)


def paste(images: Tensor, stamps: Tensor, share: float) -> Tensor:
    """Paste a random cut-out on a share of the images."""
    b, device = len(images), images.device
    u = torch.rand((6, b), device=device)
    theta = torch.zeros((b, 2, 3), device=device)
    scale = 0.8 + 1.4 * u[0]
    theta[:, 0, 0] = scale * torch.where(u[1] < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = scale
    theta[:, 0, 2] = (u[2] - 0.5) * scale
    theta[:, 1, 2] = (u[3] - 0.5) * scale
    grid = functional.affine_grid(theta, [b, 4, SIZE, SIZE], align_corners=False)
    pick = torch.randint(len(stamps), (b,), device=device)
    sprite = functional.grid_sample(stamps[pick], grid, align_corners=False)
    sprite = sprite * (u[4] < share).float()[:, None, None, None]
    colour, alpha = sprite[:, :3] * (0.7 + 0.6 * u[5])[:, None, None, None], sprite[:, 3:]
    return (images * (1 - alpha) + colour).clamp(0, 1)


def jitter(images: Tensor) -> Tensor:
    """Change brightness, contrast, saturation, colour balance and gamma of most images."""
    b, device = len(images), images.device
    u = torch.rand((5, b, 1, 1, 1), device=device)
    grey = images.mean(1, keepdim=True)
    saturation = 0.5 + u[0]
    out = grey + saturation * (images - grey)
    out = out * (0.85 + 0.3 * torch.rand((b, 3, 1, 1), device=device))
    mean = out.mean((1, 2, 3), keepdim=True)
    out = mean + (0.6 + 0.8 * u[1]) * (out - mean)
    out = (out * (0.5 + 0.8 * u[2])).clamp(0, 1) + 1e-4
    out = out ** torch.exp((u[3] - 0.5) * 0.8)
    return torch.where(u[4] < 0.7, out, images).clamp(0, 1)


def random_crops(photos: Photos, batch: int, stamps: Tensor | None, args: Any) -> Tensor:
    """Return random-resized crops, jittered, with pasted cut-outs, mixup and cutmix."""
    device = photos.pixels.device
    index = torch.randint(len(photos), (batch,), device=device)
    u = torch.rand((6, batch), device=device)
    short = torch.minimum(photos.widths, photos.heights)[index]
    side = short * (args.min_scale + (1 - args.min_scale) * u[0]).sqrt()
    ratio = torch.exp((u[1] - 0.5) * 2 * math.log(4 / 3)).sqrt()
    width = torch.minimum(side * ratio, photos.widths[index])
    height = torch.minimum(side / ratio, photos.heights[index])
    x = width / 2 + u[2] * (photos.widths[index] - width)
    y = height / 2 + u[3] * (photos.heights[index] - height)
    images = crop(photos, index, (x, y, width, height), torch.where(u[4] < 0.5, -1.0, 1.0))
    images = jitter(images)
    if stamps is not None:
        images = paste(images, stamps, args.stamp_share)
    other = images.roll(1, 0)
    v = torch.rand((5, batch, 1, 1, 1), device=device)
    axis = torch.arange(SIZE, device=device) / SIZE
    half = 0.15 + 0.25 * v[1]
    inside = ((axis[:, None] - v[2]).abs() < half) & ((axis[None, :] - v[3]).abs() < half)
    cut = (v[0] < args.mix_share) & inside
    blend = torch.where((v[0] > 1 - args.mix_share), 0.5 * v[4], 0.0)
    return torch.where(cut, other, images * (1 - blend) + other * blend)


def push(images: Tensor, teacher: EfficientNetLite0, share: float) -> Tensor:
    """Move a share of the images a little towards random classes, for more varied answers."""
    count = round(len(images) * share)
    if count == 0:
        return images
    part = images[:count].detach()
    target = torch.randint(1000, (count,), device=images.device)
    step = (2 + 6 * torch.rand((count, 1, 1, 1), device=images.device)) / 255
    for _ in range(2):
        part = part.detach().requires_grad_(True)
        loss = functional.cross_entropy(teacher(part), target)
        (gradient,) = torch.autograd.grad(loss, part)
        gradient = functional.avg_pool2d(gradient, 5, 1, 2)  # smooth: no pixel-sized patterns
        largest = gradient.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
        part = (part - 4 * step * gradient / largest).clamp(0, 1)
    return torch.cat([part.detach(), images[count:]])


def centre_crops(photos: Photos, index: Tensor) -> Tensor:
    """Return the usual 87.5 % centre crop."""
    side = torch.minimum(photos.widths, photos.heights)[index] * 0.875
    boxes = (photos.widths[index] / 2, photos.heights[index] / 2, side, side)
    return crop(photos, index, boxes, torch.ones_like(side))


def find(folder: Path) -> list[Path]:
    """Return the photographs below a folder, in a fixed order."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        sys.exit(f"photo_crops: --photos is {folder}, must hold jpg, png or webp files")
    return paths
