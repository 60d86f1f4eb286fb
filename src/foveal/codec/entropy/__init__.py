"""Integer-only entropy coding: frequency tables and a range asymmetric numeral system (rANS)."""

from foveal.codec.entropy.rans import RansDecoder, encode_symbols
from foveal.codec.entropy.tables import PRECISION, FrequencyTables, laplace_tables
from foveal.codec.entropy.vectorised import LaneDecoder, encode_lanes

__all__ = [
    "PRECISION",
    "FrequencyTables",
    "LaneDecoder",
    "RansDecoder",
    "encode_lanes",
    "encode_symbols",
    "laplace_tables",
]
