"""Send: what frozen networks see, in a few hundred bytes, for one task or many.

    model = codec.load("joint-4task")
    stream = codec.encode(model, images, tasks=["segmentation", "normal"], target_bytes=300)
    features = codec.decode(model, stream.payload)         # {"segmentation": ..., "normal": ...}
    codec.inspect(stream.payload)
    codec.add_task(model, "depth", teacher, more_images)   # a later task reads the same streams
    mine = codec.fit({"class": network}, pictures).model   # for frozen networks of your own

Source: Yang et al., Video Coding for Machines: Compact Visual Representation Compression for
Intelligent Collaborative Analytics, arXiv:2110.09241; Hu et al., arXiv:2106.08512; reconstruction:
transforms, gains, integers and losses are ours.
"""

from foveal.codec import schemes, taxonomy
from foveal.codec.config import CodecConfig, Head, Layer, Source
from foveal.codec.decoding import decode, decode_symbols
from foveal.codec.encoding import Stream, encode
from foveal.codec.external import Network, add_task, answer_distance
from foveal.codec.fit import Fit, FitRow, fit
from foveal.codec.model import FeatureCodec
from foveal.codec.numpy_decoder import export_numpy_decoder
from foveal.codec.onnx_export import export_onnx
from foveal.codec.pixel_ladder import PixelRow, cheapest, pixel_baselines
from foveal.codec.schemes import Sizes
from foveal.codec.sources import features_of
from foveal.codec.stream import extract, inspect, load, split
from foveal.codec.training import Objective, TrainLog, TrainOptions, train

__all__ = [
    "CodecConfig",
    "FeatureCodec",
    "Fit",
    "FitRow",
    "Head",
    "Layer",
    "Network",
    "Objective",
    "PixelRow",
    "Sizes",
    "Source",
    "Stream",
    "TrainLog",
    "TrainOptions",
    "add_task",
    "answer_distance",
    "cheapest",
    "decode",
    "decode_symbols",
    "encode",
    "export_numpy_decoder",
    "export_onnx",
    "extract",
    "features_of",
    "fit",
    "inspect",
    "load",
    "pixel_baselines",
    "schemes",
    "split",
    "taxonomy",
    "train",
]
