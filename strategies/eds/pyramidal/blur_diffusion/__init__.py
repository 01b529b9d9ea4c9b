"""Diffusion that blurs while it adds noise, so that fine detail dies first and sampling goes from coarse to fine.

Paper: Lee, Chung, Kim & Ye 2022, "Progressive Deblurring of Diffusion Models for Coarse-to-Fine Image Synthesis", arXiv 2207.11192.
Saves: nothing in steps; a better image for as many of them.
Differs: cosines (an image mirrored at its edges) in place of the eigenvectors of a blur with black around it; the network predicts
velocity, as noise tells nothing of a frequency that is dead; the exact posterior of the kept steps in place of the paper's Euler steps.

Not to be taken for blurring diffusion (Hoogeboom & Salimans 2022, arXiv 2209.05557), whose noise is the same at every frequency.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from bench.cards import Card, Claim, Heading, Need, Relation
from bench.contract import Kit, LikelihoodStrategy, Request
from bench.data.images import padded, to_model, to_uint8
from bench.diffusion.grids import leading_times
from bench.diffusion.likelihood import bits_per_dim
from bench.diffusion.schedules import T, linear_alpha_bar
from bench.nets.unet import UNet
from bench.registry import register
from bench.training.noise_prediction import backbone
from bench.training.train import Loss, noise_like, train
from strategies.eds.pyramidal.blur_diffusion import frequency


class SpectralDenoiser(nn.Module):
    """Estimates x0 from a noisy spectrum; its U-Net works on pixels and predicts velocity v = sqrt(Bbar) n - sqrt(1 - Bbar) x0."""

    rows: Tensor
    columns: Tensor
    log_alpha_bar: Tensor
    strength: Tensor
    log_response: Tensor

    def __init__(self, unet: UNet, shape: tuple[int, int, int], blur: float, kernel_sd: float) -> None:
        super().__init__()
        _, height, width = shape
        self.unet = unet
        self.register_buffer("rows", frequency.cosine_basis(height).float())
        self.register_buffer("columns", frequency.cosine_basis(width).float())
        self.register_buffer("log_alpha_bar", linear_alpha_bar().log())
        self.register_buffer("strength", frequency.quartic_strength(blur, T))
        self.register_buffer("log_response", frequency.blur_response(height, width, kernel_sd).log())

    def log_keep(self, t: Tensor) -> Tensor:
        """log Bbar (N, H, W), float64, at integer times t (N,)."""
        return self.log_alpha_bar[t, None, None] + 2 * self.strength[t, None, None] * self.log_response

    def spectrum(self, x: Tensor) -> Tensor:
        return frequency.to_spectrum(x, self.rows, self.columns)

    def pixels(self, u: Tensor) -> Tensor:
        return frequency.to_pixels(u, self.rows, self.columns)

    def velocity(self, u: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Spectrum (B, C, H, W) of the U-Net's velocity for spectra u at integer times t (B,)."""
        return self.spectrum(self.unet(self.pixels(u), t.to(u.dtype), labels))

    def forward(self, u: Tensor, t: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x0 clipped to [-1, 1], as pixels and as a spectrum."""
        signal, noise = (part[:, None].to(u.dtype) for part in frequency.coefficients(self.log_keep(t)))
        pixels = self.pixels(signal * u - noise * self.velocity(u, t, labels)).clamp(-1, 1)
        return pixels, self.spectrum(pixels)


class BlurModel(nn.Module):
    """The denoiser, one network to those who count its calls."""

    def __init__(self, net: SpectralDenoiser) -> None:
        super().__init__()
        self.net = net

    def estimate(self, times: Tensor, labels: Tensor) -> frequency.Estimate:
        """The denoiser at the times (S,) of a chain."""
        return lambda u, step: self.net(u, times[step].expand(len(u)), labels)


@register
@final
@dataclass(frozen=True, kw_only=True)
class BlurDiffusion(LikelihoodStrategy[BlurModel]):
    """`blur` f(N) (table 1: 0 to 0.6, quartic in time), `kernel_sd` of the blur in pixels (the authors' 0.4), `steps` of T = 1000."""

    blur: float = 0.14
    kernel_sd: float = 0.4
    steps: int = 50

    card: ClassVar[Card] = Card(
        title="Blur diffusion",
        paper="Progressive Deblurring of Diffusion Models for Coarse-to-Fine Image Synthesis",
        year=2022,
        arxiv="2207.11192",
        heading=Heading.PYRAMIDAL,
        rows=("I-22",),
        saves="nothing in steps: a better image for the same number",
        needs=(Need.TRAINING,),
        likelihood="variational bound of the chain actually sampled, one draw of noise a term",
        sampling_fields=("steps",),
        sweep=({"blur": 0.14, "steps": 50}, {"blur": 0.14, "steps": 10}, {"blur": 0.0, "steps": 50}),
        claims=(
            Claim(
                text="at equal steps samples are better with blur than without",
                metric="fd",
                params={"blur": 0.14, "steps": 50},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.pyramidal.blur_diffusion",
                baseline_params={"blur": 0.0, "steps": 50},
                figure="LSUN Bedroom 64 FID of 10 000 images 7.86 against 9.24, Church 5.89 against 6.04, at 1000 steps",
                source="arXiv 2207.11192, table 1",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        leading_times(self.steps, T)
        if self.blur < 0 or self.kernel_sd <= 0:
            raise ValueError(f"blur must not be negative and kernel_sd must be positive, not {self.blur} and {self.kernel_sd}")

    def fit(self, kit: Kit) -> BlurModel:
        net = SpectralDenoiser(backbone(kit), padded(kit.workload.shape), self.blur, self.kernel_sd)
        model = BlurModel(net).to(kit.device)
        return train(model, velocity_loss(model.net), kit, images_seen=kit.budget.train_images, what="blur diffusion")

    def sample(self, model: BlurModel, request: Request) -> Tensor:
        draws, times = request.draws(), leading_times(self.steps, T).to(request.device)
        noise = draws.normal(*padded(request.shape))
        return to_uint8(frequency.ancestral(model.estimate(times, request.labels), noise, model.net.log_keep(times), draws), request.shape)

    def bits_per_dim(self, model: BlurModel, images: Tensor, request: Request) -> Tensor:
        times, x0 = leading_times(self.steps, T).to(request.device), to_model(images)
        estimate, log_keep = model.estimate(times, request.labels), model.net.log_keep(times)
        return bits_per_dim(frequency.bound(estimate, x0, model.net.spectrum(x0), log_keep, request.draws()), request.shape)


def velocity_loss(net: SpectralDenoiser) -> Loss:
    """E_t |v - net|^2, the same over frequencies as over pixels."""

    def loss(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        t = torch.randint(T, (len(images),), generator=generator, device=images.device)
        signal, noise = (part[:, None].float() for part in frequency.coefficients(net.log_keep(t)))
        u0, white = net.spectrum(images), noise_like(images, generator)
        return (net.velocity(signal * u0 + noise * white, t, labels) - signal * white + noise * u0).square().mean()

    return loss
