"""With which numbers attention is computed: `Sage`, 8- or 4-bit logits and 8- or 16-bit values."""

import json
from dataclasses import KW_ONLY, asdict, dataclass
from typing import Literal, TypeAlias, get_args

from foveal.errors import ArgumentError

Mode: TypeAlias = Literal["int8-fp8", "int8-fp16", "int4-fp8", "int4-fp16"]
Granularity: TypeAlias = Literal["thread", "warp", "block"]
Accumulate: TypeAlias = Literal["two-level", "single"]
ValueFormat: TypeAlias = Literal["fp8", "fp16"]


def check_choice(fn: str, name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise ArgumentError unless `value` is one of `allowed`."""
    if isinstance(value, bool) or value not in allowed:
        words = ", ".join(repr(word) for word in allowed)
        raise ArgumentError(f"{fn}: {name} is {value!r}, must be one of {words}; pick one")


@dataclass(frozen=True)
class Sage:
    """Integer logits and 8-bit products with the values, as in SageAttention2.

    Args:
        mode: Format of the codes of Q and K, then that of P and V: "int8-fp8", "int8-fp16",
            "int4-fp8" or "int4-fp16". fp8 is E4M3.
        granularity: Which tokens share a scale, see `quantize.group_of_token`: "thread" (2 queries,
            16 keys), "warp" (16 queries, 64 keys) or "block" (64 queries, 64 keys).
        smooth_k: Subtract the mean key before quantizing. Exact in real numbers: it moves every
            logit of a query by the same amount.
        smooth_q: Subtract the mean query of each 64-token cell and add its logits back in full
            precision, computed tile by tile. None: True for INT4, False for INT8.
        smooth_v: Subtract the mean value of each channel before quantizing and add it to the
            output. Only with fp8.
        accumulate: How products with values are summed. "two-level": fp32 inside every cell and
            over cells. "single" emulates the short accumulator of fp8 matrix units (13 fraction
            bits), to show its drift; slow, only with fp8.

    Raises: ArgumentError: a value is not allowed, or has no effect in this mode.
    Source: Zhang et al., "SageAttention2: Efficient Attention with Thorough Outlier Smoothing and
        Per-thread INT4 Quantization", ICML 2025, arXiv:2411.10958. Differs: groups are cut to
        64-token cells, Q is smoothed per 64 queries (paper: 128), and every switch is free in
        every mode where it has an effect.
    """

    text = ""
    """The precision as JSON."""
    mode: Mode = "int8-fp8"
    _: KW_ONLY
    granularity: Granularity = "thread"
    smooth_k: bool = True
    smooth_q: bool | None = None
    smooth_v: bool = False
    accumulate: Accumulate = "two-level"

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("Sage", "mode", self.mode, get_args(Mode))
        check_choice("Sage", "granularity", self.granularity, get_args(Granularity))
        check_choice("Sage", "accumulate", self.accumulate, get_args(Accumulate))
        switches = ("smooth_k", "smooth_q", "smooth_v")
        for name in switches:
            value = getattr(self, name)
            if not isinstance(value, bool) and not (name == "smooth_q" and value is None):
                raise ArgumentError(f"Sage: {name} is {value!r}, must be a bool; use True or False")
        if self.value_format == "fp16" and (self.smooth_v or self.accumulate == "single"):
            name = "smooth_v" if self.smooth_v else "accumulate"
            raise ArgumentError(
                f"Sage: {name} is {getattr(self, name)!r} with mode={self.mode!r}, must be left "
                "out there: it acts on fp8 only; drop it"
            )

        # Kept as text, which torch.compile takes for a constant.
        object.__setattr__(self, "text", json.dumps(asdict(self)))

    @property
    def bits(self) -> int:
        """Bits of the codes of Q and K: 8 or 4."""
        return 8 if self.mode.startswith("int8") else 4

    @property
    def value_format(self) -> ValueFormat:
        """Format of the attention weights and the values: "fp8" or "fp16"."""
        return "fp8" if self.mode.endswith("fp8") else "fp16"

    @property
    def smooths_q(self) -> bool:
        """Whether Q is smoothed, with None resolved by mode."""
        return self.bits == 4 if self.smooth_q is None else self.smooth_q

    def emulated_by(
        self, impl: Literal["cpu", "triton"], *, has_fp8: bool = True
    ) -> dict[str, str]:
        """Return, per format that the hardware does not have, how its numbers are made.

        Args:
            impl: What runs: "cpu" (plain torch on any device) or "triton".
            has_fp8: Whether the GPU of "triton" multiplies fp8 (compute capability 8.9 and up).

        Returns: Nothing for formats that the hardware has. Codes and weights are those of the
            format in any case; emulation costs speed only.
        """
        found: dict[str, str] = {}
        if impl == "cpu":
            found[f"int{self.bits}"] = "integers in fp32, exact"
            found[self.value_format] = f"rounded to {self.value_format}, multiplied in fp32"
            if self.accumulate == "single":
                found["fp8"] += ", sums cut to 13 fraction bits"
            return found
        if self.bits == 4:
            found["int4"] = "4-bit codes in 8-bit integers, exact"
        if self.value_format == "fp8" and not has_fp8:
            found["fp8"] = "rounded to fp8, multiplied in fp16, exact"
        return found
