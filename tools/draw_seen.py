"""Draw what CenterNet finds by day, in the dark, by the curve, and denoised before it.

    python tools/draw_seen.py docs/lowlight/seen.png

The pictures are CC0 or in the public domain: skimage's cat, coffee and astronaut.
"""

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from foveal import lowlight
from foveal.data import samples
from foveal.data.sensor_noise import Shot, shoot
from foveal.teachers import Detections
from foveal.teachers.centernet import CenterNet

NAMES = ("skimage-chelsea", "skimage-coffee", "skimage-astronaut")
TRIPLE = (0.005, 1e-4, 1e-7)
WIDTH, HEIGHT, LINE = 260, 180, 18


def panel(image: Tensor, found: Detections) -> Image.Image:
    """Return a picture with its boxes, cut to one size."""
    array = (image.permute(1, 2, 0) * 255).round().byte().numpy()
    picture = Image.fromarray(array)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(18)
    for box, name, score in zip(found.boxes.tolist(), found.classes, found.scores, strict=True):
        draw.rectangle(box, outline=(255, 196, 0), width=3)
        at = max(box[0], 2) + 4, max(box[1], 2) + 2
        draw.text(at, f"{name} {float(score):.2f}", font=font, fill=(255, 196, 0))
    scale = max(WIDTH / picture.width, HEIGHT / picture.height)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    left, top = (picture.width - WIDTH) // 2, (picture.height - HEIGHT) // 2
    return picture.crop((left, top, left + WIDTH, top + HEIGHT))


def main() -> None:
    """Draw."""
    teacher, curve = CenterNet.load(), lowlight.ConcaveCurve.load("sacc-centernet")
    heads = ("by day", f"{TRIPLE[0]:.1%} of the light", "sacc-centernet", "denoised before it")
    sheet = Image.new("RGB", (len(heads) * (WIDTH + 4), LINE + len(NAMES) * (HEIGHT + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, text in enumerate(heads):
        draw.text((column * (WIDTH + 4) + 2, 1), text, font=ImageFont.load_default(13), fill=0)
    for row, name in enumerate(NAMES):
        day = lowlight.read_image(samples.path(name))
        dark = shoot(day[None], [Shot.of_triple(TRIPLE, seed=row)])
        clean = lowlight.denoise(dark[0])[None]
        with torch.no_grad():
            shown = (day[None], dark, curve(dark), curve(clean))
        for column, image in enumerate(shown):
            found = teacher.detect(image.clamp(0, 1))[0]
            at = column * (WIDTH + 4), LINE + row * (HEIGHT + 4)
            sheet.paste(panel(image[0].clamp(0, 1), found), at)
    sheet.quantize(192).save(Path(sys.argv[1]), optimize=True)


if __name__ == "__main__":
    main()
