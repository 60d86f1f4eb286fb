"""`attach` on real diffusers networks with tiny settings, each against the plain network."""

import functools

import pytest
import torch

from foveal import attention
from foveal.attention import Sage, Sparge, Window, XAttention

diffusers = pytest.importorskip("diffusers")

attach = functools.partial(attention.attach, min_tokens=0)
ALL = XAttention(threshold=1.0)


def flux():
    network = diffusers.FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
    )
    return network, {
        "hidden_states": torch.randn(1, 256, 4),
        "encoder_hidden_states": torch.randn(1, 48, 32),
        "pooled_projections": torch.randn(1, 32),
        "img_ids": torch.randn(256, 3),
        "txt_ids": torch.randn(48, 3),
        "timestep": torch.tensor([1.0]),
    }


def wan():
    network = diffusers.WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )
    return network, {
        "hidden_states": torch.randn(1, 4, 4, 16, 16),
        "encoder_hidden_states": torch.randn(1, 20, 16),
        "timestep": torch.tensor([3]),
    }


def cogvideox():
    network = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=8,
        num_layers=2,
        sample_width=16,
        sample_height=16,
        max_text_seq_length=8,
    )
    return network, {
        "hidden_states": torch.randn(1, 3, 4, 16, 16),
        "encoder_hidden_states": torch.randn(1, 8, 8),
        "timestep": torch.tensor([3]),
    }


def unet():
    network = diffusers.UNet2DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=2,
    )
    return network, {
        "sample": torch.randn(1, 4, 32, 32),
        "encoder_hidden_states": torch.randn(1, 5, 8),
        "timestep": torch.tensor([3]),
    }


# Attentions: joint ones of image and text; of video, then of video to text; joint; a UNet's.
NETWORKS = {flux: 2, wan: 4, cogvideox: 2, unet: 8}


def build(make):
    torch.manual_seed(0)
    network, call = make()
    for name, weight in network.named_parameters():
        if "to_q" in name and name.endswith("weight"):
            weight.data.mul_(4)
    network.eval()
    return lambda: network(**call, return_dict=False)[0], network


@pytest.mark.parametrize("make", NETWORKS)
@torch.no_grad()
def test_everything_kept_is_the_plain_network(make):
    run, network = build(make)
    wanted = run()
    with attach(network, policy=ALL) as handle:
        inside = run()
    torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)
    details = handle.receipt.details
    assert details["calls"] == NETWORKS[make]
    assert [*details["density_per_layer"]] == [str(i) for i in range(NETWORKS[make])]
    assert torch.equal(run(), wanted)
    assert not any(x._forward_hooks or x._forward_pre_hooks for x in network.modules())


@pytest.mark.parametrize("make", NETWORKS)
@torch.no_grad()
def test_sparse_says_what_it_cost(make):
    run, network = build(make)
    wanted = run()
    with attach(network, policy=Window(sink=0, window=1)) as handle:
        inside = run()
    receipt = handle.receipt
    assert receipt.spent < receipt.full
    assert receipt.loss > 0
    assert not torch.allclose(inside, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_first_denoising_steps_are_dense():
    run, network = build(flux)
    policy = Sparge(top_k=0.3, num_dense_steps=1, dense_below=0)
    kept = []
    for step in range(2):
        with attach(network, policy=policy) as handle:
            handle.step = step
            run()
        kept.append(handle.density)
    assert kept[1] < kept[0] == 1


@torch.no_grad()
def test_quantized_video_attention():
    run, network = build(wan)
    wanted = run()
    with attach(network, policy=None, precision=Sage("int8-fp8")) as handle:
        inside = run()
    assert handle.receipt.details["impl"] == {"quantized (cpu)": 4}
    assert 0 < handle.receipt.loss < 0.1
    assert not torch.equal(inside, wanted)
    torch.testing.assert_close(inside, wanted, rtol=0.1, atol=0.05)


@torch.no_grad()
def test_only_attention_of_the_video_to_itself():
    run, network = build(wan)
    with attach(network, policy=ALL, modules=lambda name, _: name.endswith("attn1")) as handle:
        run()
    assert handle.receipt.details["calls"] == 2
