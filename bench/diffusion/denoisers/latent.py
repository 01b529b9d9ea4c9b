"""Diffusion in the latent space of an autoencoder: a denoiser of latents is a denoiser whose space is not pixels."""

from dataclasses import dataclass

from torch import Tensor, nn

from bench.contract import Denoiser, Kit, Space
from bench.data.images import padded, to_model, to_uint8
from bench.nets.autoencoder import codec_of


@dataclass(frozen=True)
class Latents:
    """The `Space` of latents (channels, H / factor, W / factor). Without an encoder, which sampling does without, nothing is encoded."""

    decoder: nn.Module
    channels: int
    factor: int
    encoder: nn.Module | None = None
    limits: None = None

    def state(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        _, height, width = padded(shape)
        return self.channels, height // self.factor, width // self.factor

    def encode(self, images: Tensor) -> Tensor:
        if self.encoder is None:
            raise ValueError("this model keeps no encoder, so images cannot be brought to its latents")
        latents: Tensor = self.encoder(to_model(images))
        return latents

    def decode(self, x: Tensor, shape: tuple[int, int, int]) -> Tensor:
        return to_uint8(self.decoder(x), shape)


class LatentModel(Denoiser):
    """A denoiser of latents with the decoder that turns them into model images; both are counted among its networks."""

    def __init__(self, prior: Denoiser, decoder: nn.Module, channels: int, factor: int) -> None:
        super().__init__()
        self.prior, self.decoder, self.channels, self.factor = prior, decoder, channels, factor

    @property
    def space(self) -> Space:  # type: ignore[override]
        return Latents(self.decoder, self.channels, self.factor)

    @property
    def sigmas(self) -> Tensor:  # type: ignore[override]
        return self.prior.sigmas

    @property
    def null(self) -> int | None:  # type: ignore[override]
        return self.prior.null

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        x0: Tensor = self.prior(x, sigma, labels)
        return x0


def latent_model(kit: Kit) -> LatentModel:
    """The kit's latent denoiser with its autoencoder's decoder."""
    codec = codec_of(kit)
    return LatentModel(kit.latent_denoiser(), codec.decoder, codec.latent, codec.factor)
