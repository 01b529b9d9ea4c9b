"""Training a network to predict noise: the shared backbone and the loss."""

from collections.abc import Callable

import torch
from torch import Tensor

from bench.contract import Kit
from bench.data.images import padded
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.diffusion.schedules import alpha_bar_of
from bench.nets.ema import seeded
from bench.nets.unet import UNet, unet_for
from bench.training.train import Loss, drop_labels, noise_like

LABEL_DROPOUT = 0.1  # p_uncond of Ho & Salimans 2022 (arXiv 2207.12598, table 1)

Weight = Callable[[Tensor], Tensor]
"""SNR (B,) -> weight (B,) of the noise-prediction error."""
Noising = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""(x0 (B, C, H, W), sigma (B,) float64, generator) -> noise (B, C, H, W) of mean 0 and variance 1, as that level has it."""


def unweighted(snr: Tensor) -> Tensor:
    """L_simple (arXiv 2006.11239, eq. 14)."""
    return torch.ones_like(snr)


def gaussian_noise(x0: Tensor, _sigma: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal at every level."""
    return noise_like(x0, generator)


def backbone(kit: Kit, channels: int | None = None, outputs: int | None = None, size: int | None = None) -> UNet:
    """The shared U-Net for the kit's images, or for a state of other channels and size; initialised by the kit's seed."""
    c, h, _ = padded(kit.workload.shape)
    inputs = c if channels is None else channels
    with seeded(kit.seed):
        return unet_for(
            h if size is None else size,
            inputs,
            inputs if outputs is None else outputs,
            kit.workload.n_classes,
            kit.budget.width,
        )


def eps_loss(
    denoiser: EpsDenoiser,
    weight: Weight,
    encode: Callable[[Tensor], Tensor] | None = None,
    noising: Noising = gaussian_noise,
    penalty: Callable[[Tensor], Tensor] = torch.square,
) -> Loss:
    """E_t weight(SNR_t) penalty(eps - net(x_t, t, y)), a mean over pixels, on the images or on `encode` of them."""
    table = alpha_bar_of(denoiser.sigmas)

    def loss(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        x0 = images if encode is None else encode(images)
        t = torch.randint(len(table), (len(x0),), generator=generator, device=x0.device)
        noise = noising(x0, denoiser.sigmas[t], generator)
        abar = table[t]
        signal = abar.sqrt().float()[:, None, None, None]
        sigma = (1 - abar).sqrt().float()[:, None, None, None]
        kept = drop_labels(labels, LABEL_DROPOUT, denoiser.null, generator)
        error = penalty(denoiser.net(signal * x0 + sigma * noise, t.float(), kept) - noise).flatten(1).mean(1)
        return (weight(abar / (1 - abar)).float() * error).mean()

    return loss
