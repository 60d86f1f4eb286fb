"""Integer codes of Q and K, fp8 or fp16 codes of V."""

from foveal.attention.quantize.api import (
    Codes,
    ValueCodes,
    group_of_token,
    quantize_keys,
    quantize_queries,
    quantize_values,
)

__all__ = [
    "Codes",
    "ValueCodes",
    "group_of_token",
    "quantize_keys",
    "quantize_queries",
    "quantize_values",
]
