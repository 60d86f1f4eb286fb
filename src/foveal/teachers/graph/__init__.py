"""A small executor for frozen networks of other frameworks; gradients reach the input.

`read_tfjs` and `read_onnx` turn a file into one `Graph`; `GraphModule` runs it in torch.
"""

from foveal.teachers.graph.ir import Graph, Node
from foveal.teachers.graph.module import GraphModule
from foveal.teachers.graph.onnx import read_onnx
from foveal.teachers.graph.tfjs import read_tfjs

__all__ = ["Graph", "GraphModule", "Node", "read_onnx", "read_tfjs"]
