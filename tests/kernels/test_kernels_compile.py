"""Every kernel compiles for GPUs that are not here, onto the units that it is written for."""

import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from foveal.attention.block_sparse import triton_exact, triton_lists, triton_sage
from foveal.attention.prepare import triton as by_prepare
from foveal.attention.quantize import triton as by_quantize
from foveal.attention.score import triton as by_score

CHIPS = [80, 89, 90, 120]
TYPES = {"fp16": "*fp16", "bf16": "*bf16", "fp32": "*fp32"}
SAGE = {
    "D": 128, "E": 128, "BD": 128, "BE": 128, "Q_GROUPS": 32, "K_GROUPS": 4, "CAUSAL": True,
    "HAS_SPAN": False, "LISTED": True, "SMOOTH_Q": False, "CENTERED": True, "V_MEAN": False,
    "MASK": 0, "SKIP": False, "FP8": True, "EMULATED": False, "TWO_LEVEL": True,
    "STAGES": triton_sage.STAGES,
}  # fmt: skip
EXACT = {
    "D": 128, "E": 128, "BD": 128, "BE": 128, "CAUSAL": True, "HAS_SPAN": False, "LISTED": True,
    "MASK": 0, "SKIP": False, "PAIRS": False, "PRECISION": "tf32", "STAGES": triton_exact.STAGES,
}  # fmt: skip
MASS = {
    "D": 128, "BD": 128, "STRIDE": 8, "CAUSAL": True, "ALTERNATE": True, "RAGGED": False,
    "ROWS": 64, "COLUMNS": 128, "PRECISION": "tf32", "STAGES": 3,
}  # fmt: skip
CODES = {"D": 128, "BD": 128, "LARGEST": 127.0, "GROUPING": 3, "MEAN": 1, "SUMMARY": True}


def _compiled(kernel: Any, chip: int, consts: dict[str, Any], types: dict[str, str], **options):
    """Compile `kernel`; arguments that `types` does not name are fp32 pointers or integers."""
    signature, attributes = {}, {}
    for i, name in enumerate(kernel.arg_names):
        if name in consts:
            signature[name] = "constexpr"
            continue
        plain = "*fp32" if name.endswith("_ptr") else "i32"
        signature[name] = types.get(name, plain)
        wide = ("q_", "k_", "v_", "out_", "plain_", "stride_")
        if signature[name].startswith("*") or name.startswith(wide):
            attributes[(i,)] = [["tt.divisibility", 16]]
    assert set(types) <= set(kernel.arg_names)
    assert set(consts) <= set(kernel.arg_names)
    source = ASTSource(kernel, signature, consts, attributes)
    target = GPUTarget("cuda", chip, 32)
    return triton.compile(source, target=target, options={"num_warps": 4, **options})


@cache
def _sage(chip: int, registers: int | None = None, **changes: Any):
    consts = {**SAGE, **changes}
    fp8 = consts["FP8"] and not consts["EMULATED"]
    types = {
        "q_ptr": "*i8", "k_ptr": "*i8", "v_ptr": "*fp8e4nv" if fp8 else "*fp16",
        "out_ptr": "*bf16", "k_plain_ptr": "*bf16", "list_ptr": "*i16", "info_ptr": "*i32",
        "factor": "fp32", "mask_ptr": "*i1" if consts["MASK"] == 1 else "*fp32",
    }  # fmt: skip
    return _compiled(triton_sage.sage_kernel, chip, consts, types, maxnreg=registers)


def _exact(chip: int, dtype: str, **changes: Any):
    consts = {**EXACT, **changes}
    types = dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "out_ptr"), TYPES[dtype])
    types |= {"list_ptr": "*i16", "info_ptr": "*i32", "factor": "fp32"}
    types["mask_ptr"] = "*i1" if consts["MASK"] == 1 else "*fp32"
    return _compiled(triton_exact.exact_kernel, chip, consts, types)


def _disassembler() -> Path | None:
    found = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    return found if os.access(found, os.X_OK) else None


def _usage(kernel: Any, folder: Path) -> dict[str, int]:
    """Return registers and bytes of stack and shared memory, as the driver would see them."""
    binary = folder / "kernel.cubin"
    binary.write_bytes(kernel.asm["cubin"])
    tool = _disassembler()
    if tool is None:
        pytest.skip("triton comes without cuobjdump here")
    told = subprocess.run(
        [tool, "-res-usage", binary], capture_output=True, text=True, check=True
    ).stdout
    return {name: int(size) for name, size in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", told)}


@pytest.mark.parametrize("chip", CHIPS)
def test_the_quantized_kernel_compiles(chip):
    emulated = chip < 89
    ptx = _sage(chip, **({"EMULATED": True} if emulated else {})).asm["ptx"]
    assert ("e4m3" in ptx) == (not emulated)
    assert f".target sm_{chip}" in ptx


@pytest.mark.parametrize(
    "changes",
    [
        {"LISTED": False, "CAUSAL": False},
        {"HAS_SPAN": True, "MASK": 1},
        {"MASK": 2, "SMOOTH_Q": True, "CENTERED": False},
        {"SKIP": True, "V_MEAN": True},
        {"TWO_LEVEL": False, "Q_GROUPS": 1, "K_GROUPS": 1},
        {"D": 40, "E": 80, "BD": 64, "BE": 128},
        {"EMULATED": True},
    ],
    ids=str,
)
def test_every_variant_of_the_quantized_kernel_compiles_for_hopper(changes):
    ptx = _sage(90, **changes).asm["ptx"]
    assert "wgmma.mma_async" in ptx


def _products(ptx: str) -> set[str]:
    """Return the operand types of the matrix instructions of a Hopper kernel."""
    found = re.findall(r"wgmma\.mma_async\.sync\.aligned\.m64n\d+k\d+\.(\w+\.\w+\.\w+)", ptx)
    return set(found)


def test_hopper_multiplies_8_bit_numbers_as_such():
    assert _products(_sage(90).asm["ptx"]) == {"s32.s8.s8", "f32.e4m3.e4m3"}
    half = _products(_sage(90, FP8=False, TWO_LEVEL=False, Q_GROUPS=4, K_GROUPS=1).asm["ptx"])
    assert half == {"s32.s8.s8", "f32.f16.f16"}
    assert "wgmma" not in _sage(89).asm["ptx"]


@pytest.mark.parametrize(
    ("changes", "stack"),
    [
        ({}, 0),
        ({"Q_GROUPS": 4, "K_GROUPS": 1}, 0),
        ({"LISTED": False}, 8),  # one register, once in two cells
    ],
    ids=str,
)
def test_nothing_spills_where_registers_are_capped(tmp_path, changes, stack):
    usage = _usage(_sage(90, triton_sage.MAX_REGISTERS, **changes), tmp_path)
    assert usage["STACK"] <= stack
    assert usage["LOCAL"] == 0
    assert usage["REG"] <= triton_sage.MAX_REGISTERS


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    ("dtype", "changes"),
    [
        ("bf16", {}),
        ("fp16", {"D": 64, "E": 64, "BD": 64, "BE": 64, "PAIRS": True, "STAGES": 2}),
        ("fp32", {"PRECISION": "tf32x3", "STAGES": 1, "D": 32, "E": 32, "BD": 32, "BE": 32}),
    ],
    ids=str,
)
def test_the_exact_kernel_compiles(chip, dtype, changes):
    ptx = _exact(chip, dtype, **changes).asm["ptx"]
    assert ("wgmma.mma_async" in ptx) == (chip == 90)
    assert ("tf32" in ptx) == (dtype == "fp32")
    if dtype == "bf16":
        assert "bf16.bf16" in ptx


@pytest.mark.parametrize(
    "changes",
    [
        {"LISTED": False, "HAS_SPAN": True, "MASK": 1},
        {"SKIP": True, "MASK": 2, "CAUSAL": False},
        {"D": 256, "E": 256, "BD": 256, "BE": 256, "STAGES": 1},
    ],
    ids=str,
)
def test_every_variant_of_the_exact_kernel_compiles_for_hopper(changes):
    assert "wgmma.mma_async" in _exact(90, "bf16", **changes).asm["ptx"]


@pytest.mark.parametrize("chip", CHIPS)
def test_scoring_kernels_compile(chip):
    types = {"q_ptr": "*bf16", "k_ptr": "*bf16", "factor": "fp32"}
    ptx = _compiled(by_score.mass_kernel, chip, MASS, types).asm["ptx"]
    assert ("wgmma.mma_async" in ptx) == (chip == 90)
    types = {"forced_ptr": "*u8", "bits_ptr": "*u8"}
    consts = {"CAUSAL": True, "WIDTH": 512}
    _compiled(by_score.select_kernel, chip, consts, types, num_warps=1)
    if chip == 90:
        types = {"q_ptr": "*fp32", "k_ptr": "*fp32", "factor": "fp32"}
        single = {**MASS, "PRECISION": "tf32x3", "STAGES": 1, "RAGGED": True}
        assert "tf32" in _compiled(by_score.mass_kernel, 90, single, types).asm["ptx"]


@pytest.mark.parametrize("chip", CHIPS)
def test_quantizing_kernels_compile(chip):
    types = {"x_ptr": "*bf16", "codes_ptr": "*i8"}
    for grouping in range(4) if chip == 90 else (3,):
        changes = {"GROUPING": grouping, "MEAN": grouping % 3, "SUMMARY": grouping == 3}
        _compiled(by_quantize.codes_kernel, chip, {**CODES, **changes}, types)
    if chip >= 89:  # Older chips have no fp8; `prepare_triton` does not ask them.
        types = {"v_ptr": "*bf16", "out_ptr": "*fp8e4nv"}
        consts = {"E": 128, "BE": 128, "MEAN": True, "ROUND": chip < 90}
        ptx = _compiled(by_quantize.values_kernel, chip, consts, types).asm["ptx"]
        assert "cvt.rn.satfinite.e4m3x2" in ptx
        if chip == 90:  # rounded once
            assert "cvt.rn.satfinite.e4m3x2.f32" in ptx
    consts = {"D": 128, "E": 128, "WIDTH": 128, "MEAN_K": True}
    types = {"k_ptr": "*bf16", "v_ptr": "*bf16"}
    sizes = {"ROWS": by_prepare._ROWS, "TOKENS": by_prepare._TOKENS}
    _compiled(by_prepare.stats_kernel, chip, {**consts, **sizes}, types)
    _compiled(by_prepare.finish_kernel, chip, {**consts, "MEAN_V": True, "BLOCK": 16}, {})


@pytest.mark.parametrize("chip", CHIPS)
def test_the_kernel_of_lists_compiles(chip):
    for span, cells in ((False, "*i16"), (True, "*i32")):
        types = {"bits": "*u8", "lists": cells, "info": "*i32"}
        consts = {"CAUSAL": True, "HAS_SPAN": span, "BLOCK": 256}
        _compiled(triton_lists.lists_kernel, chip, consts, types, num_warps=1)
