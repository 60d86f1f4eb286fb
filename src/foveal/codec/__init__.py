"""Send: code the features of a frozen recogniser in a few hundred bytes.

    model = codec.load("efficientnet-lite0")
    stream = codec.encode(model, features, head=teacher.head)   # .payload: bytes, .receipt
    features = codec.decode(model, stream.payload)              # same bytes, same integers
    codec.inspect(stream.payload)

Source: Yang et al., Video Coding for Machines: Compact Visual Representation Compression for
Intelligent Collaborative Analytics, arXiv:2110.09241; Hu et al., arXiv:2106.08512; reconstruction:
details of the prior are ours.
"""

from foveal.codec.feature_codec import CodecConfig, FeatureCodec, rate_task_loss
from foveal.codec.pixel_ladder import PixelRow, cheapest, pixel_baselines
from foveal.codec.stream import Stream, decode, decode_symbols, encode, inspect, load

__all__ = [
    "CodecConfig",
    "FeatureCodec",
    "PixelRow",
    "Stream",
    "cheapest",
    "decode",
    "decode_symbols",
    "encode",
    "inspect",
    "load",
    "pixel_baselines",
    "rate_task_loss",
]
