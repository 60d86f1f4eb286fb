"""One dark picture and the record of all that made it."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal.data.sensor_noise.color import (
    TONES,
    linear_to_tone,
    multiply_matrix,
    tone_to_linear,
    undo_gains,
)
from foveal.data.sensor_noise.models import NoiseLine, tukey_variance
from foveal.data.sensor_noise.sensor import capture, demosaic, mosaic
from foveal.errors import ArgumentError, ShapeError, UnsupportedError

Row = tuple[float, float, float]
_MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Shot:
    """How one dark picture was made. The record and the daylight picture give the same bits again.

    Args:
        factor: Light kept, k, in (0, 1]. `1 / factor` is the exposure ratio.
        noise: Shot and read noise, in linear light with white at 1.
        seed: Of the noise of the pixels.
        source: Where the noise came from, for people: "given", "eld:SonyA7S2", ...
        shot_noise: "poisson", or "gaussian" of the same variance (Brooks et al.).
        tukey_shape: Read noise has Tukey-lambda tails of this shape, in (-0.5, 2]; None:
            Gaussian. The variance is that of `noise` in both cases.
        row_sigma: Standard deviation of a row of the sensor, white is 1.
        levels: The sensor's numbers are rounded to this many steps; None: not rounded.
        tone: Transfer function that is undone and applied again, of `TONES`.
        camera: Matrix from linear sRGB to the camera's colors, rows of sum 1; None: the same.
        gains: White-balance gains of red, green and blue, undone before the sensor.
        mosaic: Through an RGGB mosaic and a bilinear demosaic.
        jpeg_quality: 1 to 95, chroma at half size; None: no JPEG.
    """

    factor: float
    noise: NoiseLine
    seed: int
    source: str = "given"
    shot_noise: str = "poisson"
    tukey_shape: float | None = None
    row_sigma: float = 0.0
    levels: int | None = None
    tone: str = "srgb"
    camera: tuple[Row, Row, Row] | None = None
    gains: Row = (1.0, 1.0, 1.0)
    mosaic: bool = False
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0 < self.factor <= 1:
            raise ArgumentError(f"Shot: factor is {self.factor}, must be in (0, 1]")
        if not 0 <= self.seed <= _MAX_SEED:
            raise ArgumentError(f"Shot: seed is {self.seed}, must be in 0 to 2^63 - 1")
        if self.shot_noise not in ("poisson", "gaussian"):
            raise ArgumentError(
                f'Shot: shot_noise is {self.shot_noise!r}, must be "poisson" or "gaussian"'
            )
        if self.tukey_shape is not None:
            tukey_variance(self.tukey_shape)
        if not 0 <= self.row_sigma < math.inf:
            raise ArgumentError(f"Shot: row_sigma is {self.row_sigma}, must be >= 0")
        if self.levels is not None and not 2 <= self.levels <= 2**24:
            raise ArgumentError(f"Shot: levels is {self.levels}, must be in 2 to 2^24")
        if self.tone not in TONES:
            raise ArgumentError(f"Shot: tone is {self.tone!r}, must be one of {TONES}")
        if not all(0 < g < math.inf for g in self.gains):
            raise ArgumentError(f"Shot: gains is {self.gains}, must be > 0")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 95:
            raise ArgumentError(f"Shot: jpeg_quality is {self.jpeg_quality}, must be in 1 to 95")
        if self.camera is not None:
            m = np.asarray(self.camera, float)
            if not np.isfinite(m).all() or np.abs(m.sum(1) - 1).max() > 1e-6:
                raise ArgumentError("Shot: camera has rows that do not sum to 1; divide each")
            if abs(np.linalg.det(m)) < 1e-6:
                raise ArgumentError("Shot: camera cannot be inverted")

    @classmethod
    def of_triple(cls, triple: tuple[float, float, float], *, seed: int) -> "Shot":
        """Return the plain shot of (exposure factor, shot, read): nothing but light and noise."""
        factor, shot, read = triple
        return cls(factor=factor, noise=NoiseLine.same(shot, read), seed=seed)

    def to_json(self) -> str:
        """Return one line of JSON; `Shot.from_json` gives an equal record."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Shot":
        """Read a record.

        Raises:
            ArgumentError: not JSON, a field that is missing, unknown or of another type, or a
                value that is not allowed.
        """
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArgumentError(f"Shot.from_json: text is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ArgumentError("Shot.from_json: text is no JSON object")
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(row) ^ known):
            raise ArgumentError(f"Shot.from_json: fields {unknown} are missing or unknown")
        noise = row["noise"]
        if not isinstance(noise, dict) or set(noise) != {"shot", "read"}:
            raise ArgumentError("Shot.from_json: noise must have shot and read")
        camera = row["camera"]
        if camera is not None and not (isinstance(camera, list) and len(camera) == 3):
            raise ArgumentError("Shot.from_json: camera must be three rows of three numbers")
        rows = None if camera is None else tuple(_row("camera", r) for r in camera)
        return cls(
            factor=_number("factor", row["factor"]),
            noise=NoiseLine(_row("shot", noise["shot"]), _row("read", noise["read"])),
            seed=_typed("seed", row["seed"], int),
            source=_typed("source", row["source"], str),
            shot_noise=_typed("shot_noise", row["shot_noise"], str),
            tukey_shape=_maybe(_number, "tukey_shape", row["tukey_shape"]),
            row_sigma=_number("row_sigma", row["row_sigma"]),
            levels=_maybe(_whole, "levels", row["levels"]),
            tone=_typed("tone", row["tone"], str),
            camera=None if rows is None else (rows[0], rows[1], rows[2]),
            gains=_row("gains", row["gains"]),
            mosaic=_typed("mosaic", row["mosaic"], bool),
            jpeg_quality=_maybe(_whole, "jpeg_quality", row["jpeg_quality"]),
        )


def _typed(name: str, value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ArgumentError(f"Shot.from_json: {name} is {value!r}, must be of type {kind.__name__}")
    return value


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ArgumentError(f"Shot.from_json: {name} is {value!r}, must be a finite number")
    return float(value)


def _whole(name: str, value: Any) -> int:
    return _typed(name, value, int)


def _maybe(read: Any, name: str, value: Any) -> Any:
    return None if value is None else read(name, value)


def _row(name: str, value: Any) -> Row:
    if not isinstance(value, list) or len(value) != 3:
        raise ArgumentError(f"Shot.from_json: {name} is {value!r}, must be three numbers")
    return _number(name, value[0]), _number(name, value[1]), _number(name, value[2])


def shoot(
    images: Float[Tensor, "b 3 height width"], shots: Sequence[Shot]
) -> Float[Tensor, "b 3 height width"]:
    """Take each picture again, in the dark, as its record says.

    Tone undone, to the camera's colors, gains undone (clipped highlights stay white), times the
    exposure factor, mosaic, noise, rounding, clipped at white, demosaic, gains, clip, back to
    sRGB's colors, clip, tone, 8 bit, JPEG.

    Args:
        images: Daylight, in [0, 1]. Odd sides are padded by repetition and cut again.
        shots: One for each picture.

    Returns: fp32 in [0, 1], multiples of 1/255. A picture's bits depend on its record, the kind
    of device and the version of torch (and of Pillow, with JPEG), not on the others of its batch.

    Raises:
        ShapeError: `images` is not (b, 3, height, width) with sides of at least 2, or the number
            of shots differs.
        ArgumentError: `images` is not floating-point, or not within [0, 1].

    Cost: linear in pixels. JPEG runs on the CPU.
    """
    _check(images, shots)
    out = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    groups: dict[tuple[str, bool], list[int]] = {}
    for index, shot in enumerate(shots):
        groups.setdefault((shot.tone, shot.mosaic), []).append(index)
    for (tone, mosaicked), indices in groups.items():
        chosen = [shots[i] for i in indices]
        out[indices] = _shoot(images[indices].float(), chosen, tone, mosaicked)
    out = (out * 255).round()
    for index, shot in enumerate(shots):
        if shot.jpeg_quality is not None:
            out[index] = jpeg(out[index], shot.jpeg_quality)
    return out / 255


def _check(images: Tensor, shots: Sequence[Shot]) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[-2:]) < 2:
        raise ShapeError(
            f"shoot: images has shape {tuple(images.shape)}, must be (b, 3, height, width) with "
            "height and width >= 2"
        )
    if len(shots) != len(images):
        raise ShapeError(f"shoot: shots has {len(shots)}, must be one for each of {len(images)}")
    if not images.dtype.is_floating_point:
        raise ArgumentError(
            f"shoot: images is {images.dtype}, must be floating-point; divide 8 bit by 255"
        )
    if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):
        raise ArgumentError("shoot: images has values outside [0, 1] or NaN; clamp them first")


def _shoot(images: Tensor, shots: list[Shot], tone: str, mosaicked: bool) -> Tensor:
    height, width = images.shape[-2:]

    def column(values: list[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=images.device)

    x = F.pad(images, (0, width % 2, 0, height % 2), mode="replicate") if mosaicked else images
    x = tone_to_linear(x, tone)
    plain = all(s.camera is None for s in shots)
    matrices = np.stack([np.eye(3) if s.camera is None else np.array(s.camera) for s in shots])
    if not plain:
        x = multiply_matrix(x, column(matrices.tolist()))
    gains = column([s.gains for s in shots])
    x = undo_gains(x, gains).clamp(0, 1) * column([s.factor for s in shots])[:, None, None, None]
    raw = mosaic(x) if mosaicked else x
    raw = torch.cat([_expose(raw[i : i + 1], shot) for i, shot in enumerate(shots)])
    x = demosaic(raw) if mosaicked else raw
    x = (x * gains[..., None, None]).clamp(0, 1)
    if not plain:
        x = multiply_matrix(x, column(np.linalg.inv(matrices).tolist())).clamp(0, 1)
    return linear_to_tone(x, tone)[..., :height, :width]


def _expose(light: Tensor, shot: Shot) -> Tensor:
    """Numbers of one sensor, as shares of white: (1, c, h, w) with c = 3, or 1 if mosaicked."""
    levels = float(shot.levels or 1)
    generator = torch.Generator(device=light.device).manual_seed(shot.seed)

    def spread(values: Row) -> Tensor | float:
        if len(set(values)) == 1 and values[0] > 0:
            return values[0]
        row = light.new_tensor(values)[None, :, None, None]
        return row if light.shape[1] == 3 else mosaic(row.expand(1, 3, *light.shape[-2:]))

    gain = spread(_scaled(shot.noise.shot, levels))
    sigma = spread(_scaled([v**0.5 for v in shot.noise.read], levels))
    numbers = capture(
        light * levels,
        gain=gain,
        read_sigma=sigma,
        row_sigma=shot.row_sigma * levels,
        generator=generator,
        poisson=shot.shot_noise == "poisson",
        tukey_shape=shot.tukey_shape,
        tukey_sigma=1.0 if shot.tukey_shape is None else tukey_variance(shot.tukey_shape) ** 0.5,
    )
    if shot.levels is not None:
        numbers = numbers.round()
    return (numbers / levels).clamp_max(1)


def _scaled(values: Sequence[float], by: float) -> Row:
    return values[0] * by, values[1] * by, values[2] * by


def jpeg(image: Float[Tensor, "3 height width"], quality: int) -> Float[Tensor, "3 height width"]:
    """Through a baseline JPEG file of a quality, with chroma at half size; values in 0..255.

    Raises:
        UnsupportedError: a side is over 65500 pixels, which the format cannot hold.
    """
    from PIL import Image

    if max(image.shape[-2:]) > 65500:
        raise UnsupportedError(
            f"jpeg: image has {image.shape[-1]} x {image.shape[-2]} pixels, JPEG holds 65500 a side"
        )
    array = image.permute(1, 2, 0).to("cpu", torch.uint8).numpy()
    with io.BytesIO() as buffer:
        Image.fromarray(array).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
        with Image.open(buffer) as opened:
            found = np.array(opened.convert("RGB"))
    return torch.from_numpy(found).permute(2, 0, 1).to(image)
