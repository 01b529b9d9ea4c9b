"""The codebook autoencoder: gradients, averages, and the use of its codes."""

import torch

from bench.nets.codebook import CodebookAutoencoder, straight_through
from bench.nets.ema import seeded
from bench.testing.subject import tiny_assets
from strategies.eds.state_space.vq_diffusion.codebook_training import build_codebook, fit_codebook
from tests.oracles import kit_of

K, T = 5, 6
NOISY = ((0.9, 0.05), (0.05, 0.6))  # replaces many codes, which the official schedule hardly does
VANISHING = ((0.8, 1e-12), (0.1, 1 - 2e-12))  # forgets x0 and ends in the prior


def test_straight_through_passes_the_gradient_of_the_quantised() -> None:
    z, e = torch.tensor([0.3, -1.0], requires_grad=True), torch.tensor([0.5, -2.0], requires_grad=True)
    passed = straight_through(z, e)
    assert torch.allclose(passed, e)
    (ours,) = torch.autograd.grad(passed.pow(3).sum(), z)
    (theirs,) = torch.autograd.grad(e.pow(3).sum(), e)
    assert torch.allclose(ours, theirs)


def test_nearest_codes_and_their_averages() -> None:
    with seeded(0):
        codec, z = CodebookAutoencoder(1, 6, 8), torch.empty(40, 8, 2, 2).normal_()
    rows = z.movedim(1, -1).reshape(-1, 8)
    codes = codec.nearest(z)
    assert codes.flatten().equal(torch.cdist(rows, codec.decoder.vectors).argmin(1)) and len(codes.unique()) == 6
    codes = (torch.arange(len(rows)) % 5).reshape(codes.shape)  # nobody chooses code 5
    codec.adapt(z, codes, torch.Generator().manual_seed(0))
    for code in range(5):
        assert torch.allclose(codec.decoder.vectors[code], rows[codes.flatten() == code].mean(0), atol=1e-5)
    assert bool((rows == codec.decoder.vectors[5]).all(1).any())


def test_codebook_does_not_collapse() -> None:
    kit = kit_of(*(getattr(tiny_assets().kit_with(()), part) for part in ("images", "labels")), train_images=10_000)
    codec = fit_codebook(build_codebook(kit, 64), kit, "codebook")
    images = kit.images[:1000].float() / 127.5 - 1
    with torch.no_grad():
        codes = codec.tokens(images)
        error = (codec.decoder(codes) - images).square().mean()
    shares = codes.flatten().bincount(minlength=64) / codes.numel()
    perplexity = float(torch.special.entr(shares).sum().exp())
    assert perplexity > 16 and float(error) < 0.5 * float(images.var())
