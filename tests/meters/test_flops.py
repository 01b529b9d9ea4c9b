"""FLOPs against hand counts, against a second counter, and against a published figure."""

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor, library, nn

from bench.meters.flops import UncountedOperation, counted_flops, is_expensive, network_flops, trajectory_flops
from bench.nets.autoencoder import Autoencoder
from bench.nets.classifier import Classifier, NoisyClassifier
from bench.nets.unet import unet_for

NETWORKS = {
    "unet 8": (unet_for(8, 1, 1, 10, 16), (torch.zeros(2, 1, 8, 8), torch.zeros(2))),
    "unet 16": (unet_for(16, 3, 3, 10, 16), (torch.zeros(2, 3, 16, 16), torch.zeros(2))),
    "decoder": (Autoencoder(1, 4, 16).decoder, (torch.zeros(2, 4, 4, 4),)),
    "encoder": (Autoencoder(1, 4, 16).encoder, (torch.zeros(2, 1, 8, 8),)),
    "classifier": (Classifier(1, 10), (torch.zeros(2, 1, 8, 8),)),
    "noisy classifier": (NoisyClassifier(1, 10), (torch.zeros(2, 1, 8, 8), torch.ones(2))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_two_flop_counters_agree_to_the_integer(name: str) -> None:
    network, inputs = NETWORKS[name]
    with torch.no_grad(), counted_flops() as counter:
        network(*inputs)
    assert counter.total == network_flops(network, inputs) > 0


def test_flops_by_hand() -> None:
    linear, conv = nn.Linear(10, 20, bias=False), nn.Conv2d(3, 5, 3, padding=1)
    assert network_flops(linear, (torch.zeros(4, 10),)) == 2 * 4 * 10 * 20
    assert trajectory_flops(lambda: conv(torch.zeros(2, 3, 8, 8))).per_image == 2 * 5 * 3 * 9 * 64


class DiT(nn.Module):
    """DiT-XL/2 for 256x256 images, that is latents (B, 4, 32, 32) (arXiv 2212.09748, table 1), or one of its width with fewer layers."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.net = DiTTransformer2DModel(
            num_attention_heads=16, attention_head_dim=72, in_channels=4, out_channels=8, num_layers=layers, sample_size=32, patch_size=2,
            norm_type="ada_norm_zero", num_embeds_ada_norm=1000,
        ).eval()  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return self.net(x, timestep=t, class_labels=labels, return_dict=False)[0]


def dit_flops(layers: int, device: str) -> tuple[int, DiT, tuple[Tensor, ...]]:
    inputs = (torch.zeros(1, 4, 32, 32, device=device), *torch.zeros(2, 1, dtype=torch.long, device=device))
    with torch.device(device):
        net = DiT(layers)
    with torch.no_grad(), counted_flops() as counter:
        net(*inputs)
    return counter.total, net, inputs


def test_dit_xl_2_costs_what_its_paper_prints() -> None:
    """Built without memory: equal to the count by hand, and to the paper's "118.64 Gflops", which are multiply-adds, within 0.05 %."""
    flops, _, _ = dit_flops(28, "meta")
    d, n = 1152, 256
    block = 12 * d * d * n + 2 * n * n * d + 6 * d * d
    embedding = 256 * d + d * d  # diffusers embeds the time in each block, and once more at the end; the paper's code once
    patches, end = 4 * 2 * 2 * d * n, 2 * d * d + 32 * d * n
    assert flops == 2 * (28 * (block + embedding) + embedding + patches + end)
    assert flops / 2e9 == pytest.approx(118.667, abs=5e-4) and flops / 2e9 == pytest.approx(118.64, rel=5e-4)


def test_two_counters_agree_on_a_transformer() -> None:
    """fvcore cannot trace convolutions without memory, so a DiT of two layers stands for the whole."""
    flops, net, inputs = dit_flops(2, "cpu")
    assert flops == network_flops(net, inputs) > 8e9


def test_baddbmm_is_counted_by_both() -> None:
    class Scores(nn.Module):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            return torch.baddbmm(torch.zeros(1), q, k.mT, beta=0)

    inputs = (torch.zeros(6, 16, 8), torch.zeros(6, 10, 8))
    with counted_flops() as counter:
        Scores()(*inputs)
    assert counter.total == network_flops(Scores(), inputs) == 2 * 6 * 16 * 10 * 8
    assert dict(counter.by_operation) == {"baddbmm": counter.total} and "mean" not in counter.free


def test_attention_is_counted() -> None:
    q = torch.zeros(1, 2, 16, 8)
    with counted_flops() as counter:
        nn.functional.scaled_dot_product_attention(q, q, q)
    assert counter.total == 2 * 2 * 2 * 16 * 16 * 8


def test_gradients_are_counted() -> None:
    """Forward and both backward products of x W with respect to x and W: three times the forward."""
    weight = torch.zeros(10, 20, requires_grad=True)
    x = torch.zeros(4, 10, requires_grad=True)
    with torch.enable_grad(), counted_flops() as counter:
        (x @ weight).sum().backward()
    assert counter.total == 3 * 2 * 4 * 10 * 20


def test_unknown_expensive_operation_fails_the_count() -> None:
    assert is_expensive("_scaled_dot_product_flash_attention_for_cpu") and is_expensive("conv_depthwise3d")
    assert is_expensive("baddbmm") and not is_expensive("add") and not is_expensive("group_norm")

    @library.custom_op("bench_test::fused_conv", mutates_args=())
    def fused_conv(x: Tensor) -> Tensor:
        return x.clone()

    with pytest.raises(UncountedOperation, match="fused_conv"), counted_flops():
        fused_conv(torch.zeros(2))
