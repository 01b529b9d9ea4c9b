"""Diffusion in the latent space of an autoencoder: the model and its sampling loop."""

from torch import Tensor, nn

from bench.contract import Denoiser, Kit, Request
from bench.data.images import padded, to_uint8
from bench.diffusion.loops import ddim, start
from bench.diffusion.schedules import linear_alpha_bar, sigma_of, sigmas_at, uniform_times
from bench.nets.autoencoder import codec_of


class LatentModel(nn.Module):
    """A denoiser of latents (Z, h, w) and the decoder that turns them into model images."""

    def __init__(self, prior: Denoiser, decoder: nn.Module, latent_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.prior, self.decoder, self.latent_shape = prior, decoder, latent_shape


def latent_model(kit: Kit) -> LatentModel:
    """The kit's latent denoiser with its autoencoder's decoder."""
    codec = codec_of(kit)
    _, height, width = padded(kit.workload.shape)
    shape = (codec.latent, height // codec.factor, width // codec.factor)
    return LatentModel(kit.latent_denoiser(), codec.decoder, shape)


def sample_latent(model: LatentModel, request: Request, steps: int, eta: float) -> Tensor:
    """DDIM in latent space with uniform times, then one decoding: uint8 (B, C, H, W)."""
    draws = request.draws()
    sigmas = sigmas_at(uniform_times(steps), sigma_of(linear_alpha_bar()))
    z = ddim(model.prior, start(draws, model.latent_shape, sigmas[0]), sigmas, request.labels, draws, eta)
    return to_uint8(model.decoder(z), request.shape)
