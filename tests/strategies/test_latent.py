"""Latent diffusion: with an identity codec it is pixel diffusion; latents have unit spread; and it is cheaper per step."""

import torch
from torch import nn

from bench.cards import AssetName
from bench.diffusion.denoisers.latent import LatentModel
from bench.nets.autoencoder import Autoencoder
from bench.testing.subject import tiny_assets
from strategies.eds.representation.ddim import DDIM
from strategies.eds.representation.ldm import LDM
from strategies.eps.mixing.ldm_ddim import LDMDDIM
from tests.oracles import denoiser, request


@torch.no_grad()
def test_identity_codec_equals_pixel_ddim() -> None:
    base = denoiser(torch.float32)
    latent = LatentModel(base, nn.Identity(), channels=1, factor=1)
    for eta, strategy in ((0.0, LDMDDIM(steps=10)), (1.0, LDM(steps=10, eta=1.0))):
        assert torch.equal(strategy.sample(latent, request(3)), DDIM(steps=10, eta=eta).sample(base, request(3)))


@torch.no_grad()
def test_latents_have_unit_spread_and_decode_undoes_the_scale() -> None:
    codec = tiny_assets().get(AssetName.AUTOENCODER).module
    assert isinstance(codec, Autoencoder)
    kit = tiny_assets().kit_with(())
    x = kit.images.float() / 127.5 - 1
    assert abs(float(codec.encode(x[:2048]).std()) - 1) < 1e-3
    raw, scaled = codec.posterior(x[:8])[0], codec.encode(x[:8])
    assert torch.allclose(scaled * codec.decoder.scale, raw, atol=1e-6)
    assert codec.decode(scaled).shape == x[:8].shape


def test_decoder_runs_once_an_image() -> None:
    from bench.meters.calls import counted

    strategy = LDMDDIM(steps=4)
    model = strategy.fit(tiny_assets().kit_with(strategy.card.assets))
    with counted(model) as calls:
        strategy.sample(model, request(3))
    assert calls.per_image(3) == {"decoder": 1.0, "prior": 4.0}
