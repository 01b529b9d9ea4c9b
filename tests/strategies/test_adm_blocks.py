"""The blocks of ADM: as many parameters as the shared network, resampling inside the residual block, attention where it should look."""

import pytest
import torch
from torch import Tensor, nn

from bench.meters.flops import network_flops
from bench.meters.params import parameter_count
from bench.nets.ema import seeded
from bench.nets.unet import Attention, unet_for
from bench.testing.subject import tiny_assets
from strategies.eds.guidance.adm_blocks import ADMBlocks
from strategies.eds.guidance.adm_blocks.network import AdmUNet, ResamplingBlock, adm_unet_for, doubled, halved
from strategies.eds.state_space.ddpm import DDPM
from tests.oracles import denoiser, request


def lively(module: nn.Module) -> nn.Module:
    """Its zero-initialised ends are not zero."""
    with seeded(5):
        for p in module.parameters():
            if not p.any():
                nn.init.normal_(p, std=0.3)
    return module.double()


@pytest.mark.parametrize("width", [32, 64, 128])
@pytest.mark.parametrize(("size", "channels"), [(8, 1), (16, 1), (32, 1), (32, 3)])
def test_parameters_are_those_of_the_shared_network_within_5_percent(size: int, channels: int, width: int) -> None:
    with torch.device("meta"):
        ours, shared = (sum(p.numel() for p in f(size, channels, channels, 10, width).parameters()) for f in (adm_unet_for, unet_for))
    assert abs(ours / shared - 1) < 0.05 and ours != shared


@torch.no_grad()
def test_attention_looks_at_every_level_below_the_inputs_in_both_halves() -> None:
    net = adm_unet_for(16, 1, 1, 10, 32)
    seen: list[tuple[int, int]] = []
    for module in net.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda m, args, _out: seen.append((args[0].shape[-1], args[0].shape[1] // m.heads)))
    net(torch.zeros(1, 1, 16, 16), torch.zeros(1))
    assert seen == [(8, 8), (4, 8), (4, 8), (4, 8), (8, 8)]  # (side, channels of a head)
    assert [m.heads for m in net.modules() if isinstance(m, Attention)] == [7] * 5


def reference(block: ResamplingBlock, x: Tensor, emb: Tensor, resample: nn.Module) -> Tensor:
    """x' = R x + conv(silu(norm(conv(R silu(norm x))) (1 + scale) + shift)), in layers of torch's own."""
    first = nn.Sequential(block.norm_in, nn.SiLU(), resample, block.conv_in, block.norm_out)
    scale, shift = block.modulation(emb).unflatten(1, (2, -1)).unbind(1)
    h = torch.einsum("bchw,bc->bchw", first(x), 1 + scale) + shift[..., None, None]
    return resample(x) + block.conv_out(nn.functional.silu(h))


@pytest.mark.parametrize(("resample", "layer"), [(halved, nn.AvgPool2d(2)), (doubled, nn.Upsample(scale_factor=2))], ids=["down", "up"])
@torch.no_grad()
def test_block_resamples_both_its_ways(resample, layer: nn.Module) -> None:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(0)
    x, emb = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((2, 16, 4, 4), (2, 12)))
    block = ResamplingBlock(16, 12, resample)
    assert torch.equal(block.double()(x, emb), layer(x))  # as initialised: the residual branch is shut
    out = lively(block)(x, emb)
    assert torch.allclose(out, reference(block, x, emb, layer), atol=1e-12, rtol=0)
    assert not torch.allclose(out, layer(x), atol=0.1)
    # the convolution works at the size resampled to, so that 16 channels read what 9 pixels of that size hold
    assert not torch.allclose(out, block.skip(layer(x)) + block.modulated(layer(block.conv_in(nn.functional.silu(block.norm_in(x)))), emb))


@torch.no_grad()
def test_output_depends_on_image_time_and_label_and_on_no_other_image() -> None:
    net = lively(AdmUNet(3, 2, 10, (8, 16, 16)))
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t, labels = torch.tensor([1.0, 200.0, 600.0, 999.0]).double(), torch.tensor([0, 3, 3, 9])
    out = net(x, t, labels)
    assert out.shape == (4, 2, 16, 16)
    assert torch.allclose(out, torch.cat([net(x[k : k + 1], t[k : k + 1], labels[k : k + 1]) for k in range(4)]), atol=1e-12)
    for other in (net(x.flip(3), t, labels), net(x, t + 50, labels), net(x, t, (labels + 1) % 10)):
        assert bool(((other - out).flatten(1).abs().amax(1) > 1e-3).all())
    assert torch.equal(net(x, t), net(x, t, torch.full((4,), 10)))  # the null label


def test_every_parameter_is_trained() -> None:
    net = lively(adm_unet_for(16, 1, 1, 10, 8))
    labels = torch.arange(11)
    x = torch.randn(11, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net(x, torch.linspace(0, 999, 11).double(), labels).square().sum().backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_price_is_the_sum_of_its_layers() -> None:
    """8x8, width 32: the 2 k^2 c_in c_out h w of every convolution, 2 * a * b of every linear layer, 4 n^2 c of every attention."""
    net = adm_unet_for(8, 1, 1, 10, 32)
    a, b, e = 32, 56, 128

    def block(before: int, after: int, side: int) -> int:
        skip = before * after if before != after else 0
        return 2 * side**2 * (9 * before * after + 9 * after**2 + skip) + 2 * e * 2 * after

    def look(c: int, side: int) -> int:
        return 2 * side**2 * 4 * c**2 + 4 * side**4 * c

    total = 2 * (a * e + e * e) + 2 * 64 * 9 * (a + a)  # time, first and last convolution
    total += block(a, a, 8) + block(a, a, 4) + block(a, b, 4) + look(b, 4)
    total += 2 * block(b, b, 4) + look(b, 4)
    total += block(2 * b, b, 4) + look(b, 4) + block(b, b, 8) + block(b + a, a, 8)
    assert network_flops(net, (torch.zeros(1, 1, 8, 8), torch.zeros(1), torch.zeros(1, dtype=torch.long))) == total


@torch.no_grad()
def test_sampler_and_bound_are_the_baselines() -> None:
    """Fed the same network, the two give the same images and bits: the ablation differs in the network alone."""
    model = denoiser(torch.float32)
    assert torch.equal(ADMBlocks(steps=6).sample(model, request(4)), DDPM(steps=6).sample(model, request(4)))
    images = ADMBlocks(steps=6).sample(model, request(4))
    assert torch.equal(ADMBlocks(steps=6).bits_per_dim(model, images, request(4)), DDPM(steps=6).bits_per_dim(model, images, request(4)))


def test_fit_trains_this_network_from_the_kits_seed() -> None:
    first, other = (ADMBlocks().fit(tiny_assets().kit_with((), seed)) for seed in (0, 1))
    assert isinstance(first.net, AdmUNet) and not any(p.requires_grad for p in first.parameters())
    assert not torch.equal(first.net.stem.weight, other.net.stem.weight)
    with seeded(0):
        fresh = adm_unet_for(8, 1, 1, 10, 8)
    assert parameter_count(fresh) == parameter_count(first.net) and not torch.equal(fresh.stem.weight, first.net.stem.weight)


def test_bad_hyper_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="must"):
        ADMBlocks(steps=0)
