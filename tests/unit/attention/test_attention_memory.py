"""Working memory does not grow with the product of the lengths."""

import subprocess
import sys
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foveal.attention import BlockLayout, Window, XAttention, attend, block_sparse_attention


class _Peak(TorchDispatchMode):
    """Bytes of the storages that were made inside and are alive, at most."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.seen = set()

    def _gone(self, address, size):
        self.seen.discard(address)
        self.now -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {
            x.untyped_storage()._cdata
            for x in tree_leaves((args, kwargs))
            if isinstance(x, torch.Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if not isinstance(x, torch.Tensor):
                continue
            storage = x.untyped_storage()
            address = storage._cdata
            if address in given or address in self.seen:
                continue
            self.seen.add(address)
            self.now += storage.nbytes()
            weakref.finalize(storage, self._gone, address, storage.nbytes())
            self.most = max(self.most, self.now)
        return out


def _qk(length, heads=2, d=16):
    random = torch.Generator().manual_seed(0)
    return [torch.randn(1, heads, length, d, generator=random) for _ in range(2)]


def test_the_meter_sees_a_large_buffer():
    with _Peak() as peak:
        x = torch.zeros(1000) + 1
        y = torch.zeros(500)
        del x, y
        torch.zeros(10)
    assert 8000 <= peak.most <= 10_000


def test_scoring_holds_a_few_chunks(monkeypatch):
    monkeypatch.setattr("foveal.attention.score.api._CHUNK_BYTES", 2**18)
    q, k = _qk(4096)
    with _Peak() as peak:
        layout = XAttention(stride=4, threshold=0.5, dense_below=0).layout(q, k)
    assert layout.bits.shape == (1, 2, 64, 8)
    # All scores would take 8 MiB; keys in fp32 are 0.5 MiB.
    assert peak.most < 2**19 + 6 * 2**18


def test_attending_goes_by_chunks_of_query_cells(monkeypatch):
    q, k = _qk(2048)
    layout = XAttention(threshold=0.5, dense_below=0).layout(q, k)
    wanted = block_sparse_attention(q, k, k, layout, impl="cpu", return_lse=True)
    monkeypatch.setattr("foveal.attention.block_sparse.rows._INDEX_BYTES", 4096)
    monkeypatch.setattr("foveal.attention.block_sparse.cpu._GATHER_BYTES", 2**18)
    found = block_sparse_attention(q, k, k, layout, impl="cpu", return_lse=True)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y)
    with _Peak() as peak:
        attend(q, k, k, policy=Window(sink=0, window=512))
    # Padded q, k, v and the output are 1 MiB; dense logits would be 32 MiB.
    assert peak.most < 4 * 2**20


def test_layouts_are_kept_as_bits_and_read_by_chunks():
    q, k = _qk(128 * 64)
    with _Peak() as peak:
        layout = BlockLayout.causal_like(q, k)
        assert layout.bits.untyped_storage().nbytes() == 2 * 128 * 128 / 8
        assert layout.num_kept == 2 * 128 * 129 / 2
    # 64 rows of cells at a time: 4096 x 128 token counts of 8 bytes, a few times over.
    assert peak.most < 20 * 2**20


@pytest.mark.slow
def test_32k_tokens_are_scored_and_attended_in_bounded_memory():
    script = """
import resource, torch
from foveal.attention import XAttention, attend
q, k = torch.randn(2, 1, 2, 32768, 64, generator=torch.Generator().manual_seed(0))
policy = XAttention(stride=4, threshold=0.0, num_local_cells=2)
attend(q[:, :, :2048], k[:, :, :2048], k[:, :, :2048], policy=policy)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
attend(q, k, k, policy=policy)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # MiB. All strided scores alone would be 512, dense logits 8192.
    assert int(done.stdout) < 350
