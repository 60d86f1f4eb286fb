"""How tensors are handed to kernels: types, devices, sizes of a launch, codes made elsewhere."""

import math
import os
from dataclasses import replace

import pytest
import torch

from foveal.attention import BlockLayout, Sage, Window, XAttention, attend
from foveal.attention.block_sparse import triton_exact, triton_lists, triton_sage
from foveal.attention.block_sparse.api import block_sparse_attention
from foveal.attention.block_sparse.quantized import quantized_attention
from foveal.attention.prepare import prepare
from foveal.attention.prepare import triton as by_prepare
from foveal.attention.quantize import triton as by_quantize
from foveal.attention.score import triton as by_score
from foveal.errors import ArgumentError
from foveal.testing import relative_error

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
KERNELS = [
    (triton_exact, "exact_kernel"),
    (triton_sage, "sage_kernel"),
    (triton_lists, "lists_kernel"),
    (by_quantize, "codes_kernel"),
    (by_quantize, "values_kernel"),
    (by_prepare, "stats_kernel"),
    (by_prepare, "finish_kernel"),
    (by_score, "mass_kernel"),
    (by_score, "select_kernel"),
]
SCORED = XAttention(stride=16, threshold=0.5, dense_below=0)


def _inputs(s=70, t=100, d=32, *, b=1, h=2, g=1, dtype=torch.float32):
    random = torch.Generator().manual_seed(0)
    q = torch.randn(b, h, s, d, generator=random)
    k, v = (torch.randn(b, g, t, d, generator=random) for _ in "kv")
    return [x.to(DEVICE, dtype) for x in (q, k, v)]


class _Spy:
    """Stands before a kernel and tells of every launch: its name, its grid, its arguments."""

    def __init__(self, name, kernel, tell, *, run):
        self._name, self._kernel, self._tell, self._run = name, kernel, tell, run

    def __getitem__(self, grid):
        def launch(*args, **options):
            self._tell(self._name, grid, args)
            if self._run:
                self._kernel[grid](*args, **options)

        return launch


def _spy_on_all(monkeypatch, tell, *, run):
    for module, name in KERNELS:
        monkeypatch.setattr(module, name, _Spy(name, getattr(module, name), tell, run=run))


def _call_everything(q, k, v):
    attend(q, k, v, policy=SCORED, return_lse=True)
    attend(q, k, v, policy=Window(sink=64, window=64), precision=Sage())


@pytest.mark.parametrize("dtypes", [(torch.bfloat16, torch.float16), (torch.float32,) * 2], ids=str)
def test_keys_and_values_of_two_types_are_prepared(monkeypatch, dtypes):
    handed = {}

    def tell(name, grid, args):
        handed[name] = args

    _spy_on_all(monkeypatch, tell, run=True)
    _, k, v = _inputs()
    k, v = k.to(dtypes[0]), v.to(dtypes[1])
    found = prepare(k, v, precision=Sage(), impl="triton")
    # The compiler wants one type behind one pointer; the interpreter does not mind.
    assert handed["stats_kernel"][0].dtype == handed["stats_kernel"][1].dtype
    wanted = prepare(k, v, precision=Sage(), k_mean=found.key_mean, impl="cpu")
    assert torch.equal(found.keys.values, wanted.keys.values)
    ours, theirs = found.values.dequantize(), wanted.values.dequantize()
    same = torch.isclose(ours, theirs, rtol=1e-6, atol=0)
    assert same.float().mean() > 0.999  # a GPU's quotient may lie on the other side of a tie ...
    assert torch.allclose(ours, theirs, rtol=0.13, atol=0)  # ... of two neighbours in 8 bits


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("mode", ["int8-fp8", "int4-fp16"])
def test_a_mean_key_of_another_type(mode, dtype):
    precision = Sage(mode)
    q, k, v = _inputs()
    mean = k.mean(2, keepdim=True).to(dtype)
    layout = BlockLayout.causal_like(q, k)
    prepared = prepare(k, v, precision=precision, k_mean=mean, impl="triton")
    assert prepared.key_mean is not None
    assert prepared.key_mean.dtype == torch.float32
    out, lse = quantized_attention(
        q, k, v, layout, precision=precision, prepared=prepared, impl="triton", return_lse=True
    )
    exact, sums = block_sparse_attention(q, k, v, layout, return_lse=True)
    assert relative_error(out, exact.double()) <= (0.06 if mode == "int8-fp8" else 0.2)
    assert bool(((lse - sums).abs() <= (0.05 if mode == "int8-fp8" else 0.3)).all())


def test_scores_of_keys_of_another_type():
    q, k, _ = _inputs(200, 200)
    found = SCORED.layout(q, k.to(torch.bfloat16))
    wanted = SCORED.layout(q, k.to(torch.bfloat16).float())
    assert torch.equal(found.bits, wanted.bits)


def test_codes_of_a_chip_with_fp8_run_on_one_without(monkeypatch):
    q, k, v = _inputs()
    layout = BlockLayout.causal_like(q, k)
    prepared = prepare(k, v, precision=Sage(), impl="triton")
    some = {"precision": Sage(), "prepared": prepared, "impl": "triton"}
    wanted = quantized_attention(q, k, v, layout, **some)
    monkeypatch.setattr(triton_sage, "has_fp8", lambda device: False)
    handed = {}

    def tell(name, grid, args):
        handed[name] = args

    _spy_on_all(monkeypatch, tell, run=True)
    found = quantized_attention(q, k, v, layout, **some)
    assert not any(
        isinstance(x, torch.Tensor) and x.dtype == torch.float8_e4m3fn
        for x in handed["sage_kernel"]
    )
    assert relative_error(found, wanted.double()) <= 1e-3


def test_tensors_on_several_devices_are_refused_by_name():
    q, k, v = _inputs()
    layout = BlockLayout.causal_like(q, k)
    prepared = prepare(k, v, precision=Sage())
    away = replace(layout, bits=layout.bits.to("meta"))
    with pytest.raises(ArgumentError, match="layout is on meta, must be on"):
        block_sparse_attention(q, k, v, away)
    with pytest.raises(ArgumentError, match="layout is on meta, must be on"):
        quantized_attention(q, k, v, away, precision=Sage())
    keys = replace(prepared.keys, scales=prepared.keys.scales.to("meta"))
    with pytest.raises(ArgumentError, match="prepared holds tensors on meta, must be on"):
        quantized_attention(
            q, k, v, layout, precision=Sage(), prepared=replace(prepared, keys=keys)
        )
    with pytest.raises(ArgumentError, match="v is on meta, must be on"):
        prepare(k, v.to("meta"), precision=Sage())
    with pytest.raises(ArgumentError, match="k_mean is on meta, must be on"):
        prepare(k, v, precision=Sage(), k_mean=k[:, :, :1].to("meta"))


def test_kernels_start_on_the_device_of_their_tensors(monkeypatch):
    """Triton starts them on the current device, which need not be that of the tensors."""
    entered, seen = [], {}

    class Device(torch.cuda.device_of):
        def __init__(self, x):
            super().__init__(x)
            self.place = x.device

        def __enter__(self):
            entered.append(self.place)
            return super().__enter__()

        def __exit__(self, *error):
            entered.pop()
            return super().__exit__(*error)

    def tell(name, grid, args):
        tensors = {x.device for x in args if isinstance(x, torch.Tensor)}
        seen[name] = {*entered} == tensors

    monkeypatch.setattr(torch.cuda, "device_of", Device)
    _spy_on_all(monkeypatch, tell, run=True)
    _call_everything(*_inputs(130, 130))
    assert seen == dict.fromkeys((name for _, name in KERNELS), True)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_the_second_gpu():
    wanted = [x.cpu() for x in _both(_inputs(200, 200))]
    found = [x.cpu() for x in _both([x.to("cuda:1") for x in _inputs(200, 200)])]
    for x, y in zip(found, wanted, strict=True):
        assert torch.equal(x, y)


def _both(tensors):
    return [attend(*tensors, policy=SCORED, precision=numbers) for numbers in (None, Sage())]


def test_no_launch_is_larger_than_cuda_allows(monkeypatch):
    """Only the first axis of a grid may have more than 65535 programs."""
    seen = {}

    def tell(name, grid, args):
        seen[name] = (math.prod(grid), max(grid[1:], default=1))

    _spy_on_all(monkeypatch, tell, run=False)
    _call_everything(*_inputs(2, 2, 16, b=70_000, h=1))
    assert seen.keys() == {name for _, name in KERNELS}
    for name, (programs, largest) in seen.items():
        assert programs >= 70_000, name
        assert largest <= 65535, name


@pytest.mark.gpu
def test_large_batches():
    q, k, v = _inputs(2, 2, 16, b=70_000, h=1)
    some = slice(69_990, None)
    for precision in (None, Sage("int8-fp16")):
        settings = {"policy": SCORED, "precision": precision, "return_lse": True}
        found = attend(q, k, v, **settings)
        wanted = attend(q[some], k[some], v[some], **settings)
        for x, y in zip(found, wanted, strict=True):
            torch.testing.assert_close(x[some], y)
