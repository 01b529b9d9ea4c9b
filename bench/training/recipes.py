"""How the shared parts are trained: base denoiser, autoencoder, the two classifiers."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.contract import Kit
from bench.data.clips import DIRECTIONS, clips, directions
from bench.data.images import padded, to_model
from bench.diffusion.parametrise import EpsDenoiser
from bench.diffusion.schedules import alpha_bar_of
from bench.nets.autoencoder import Autoencoder, codec_of
from bench.nets.classifier import Classifier, NoisyClassifier
from bench.nets.clip_classifier import ClipClassifier
from bench.nets.ema import seeded
from bench.nets.unet import UNet, unet_for
from bench.training.train import Loss, drop_labels, noise_like, train

LABEL_DROPOUT = 0.1  # p_uncond of Ho & Salimans 2022 (arXiv 2207.12598, table 1)
KL_WEIGHT = 1e-4
CLASSIFIER_IMAGES = 60_000
AUTOENCODER_SHARE = 0.4
CLIP_FRAMES = 8  # the classifier of clips averages over time, so that it takes shorter clips too

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


def build_denoiser(kit: Kit) -> EpsDenoiser:
    """An untrained class-conditional noise-prediction denoiser of the kit's images, T = 1000 linear."""
    return EpsDenoiser(backbone(kit)).to(kit.device)


def fit_denoiser(denoiser: EpsDenoiser, kit: Kit, what: str, weight: Weight = unweighted) -> EpsDenoiser:
    """Train it on the kit's images with label dropout 0.1."""
    loss = eps_loss(denoiser, weight, kit.workload.n_classes)
    return train(denoiser, loss, kit, images_seen=kit.budget.train_images, what=what)


def eps_loss(
    denoiser: EpsDenoiser,
    weight: Weight,
    null: int,
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
        kept = drop_labels(labels, LABEL_DROPOUT, null, generator)
        error = penalty(denoiser.net(signal * x0 + sigma * noise, t.float(), kept) - noise).flatten(1).mean(1)
        return (weight(abar / (1 - abar)).float() * error).mean()

    return loss


def build_autoencoder(kit: Kit) -> Autoencoder:
    """Untrained; four latent channels for each of the image's."""
    c = kit.workload.shape[0]
    with seeded(kit.seed):
        return Autoencoder(c, latent=4 * c, width=kit.budget.width).to(kit.device)


def fit_autoencoder(net: Autoencoder, kit: Kit, what: str) -> Autoencoder:
    """L2 + L1 reconstruction and a small divergence of the posterior from the unit normal; no perceptual or adversarial term."""

    def loss(images: Tensor, _labels: Tensor, generator: torch.Generator) -> Tensor:
        mean, log_variance = net.posterior(images)
        z = mean + (0.5 * log_variance).exp() * noise_like(mean, generator)
        error = net.decode(z) - images
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return error.square().mean() + 0.1 * error.abs().mean() + KL_WEIGHT * divergence

    seen = round(AUTOENCODER_SHARE * kit.budget.train_images)
    trained = train(net, loss, kit, images_seen=seen, what=what)
    with torch.no_grad():
        trained.decoder.scale.copy_(trained.posterior(to_model(kit.images[:2048]))[0].std())
    return trained


def build_latent_denoiser(kit: Kit) -> EpsDenoiser:
    """An untrained denoiser of the latents of the kit's autoencoder."""
    codec = codec_of(kit)
    size = padded(kit.workload.shape)[1] // codec.factor
    return EpsDenoiser(backbone(kit, channels=codec.latent, size=size)).to(kit.device)


def fit_latent_denoiser(denoiser: EpsDenoiser, kit: Kit, what: str) -> EpsDenoiser:
    """Train it on encoded images, same schedule and loss as the pixel one."""
    encode = torch.no_grad()(codec_of(kit).encode)
    loss = eps_loss(denoiser, unweighted, kit.workload.n_classes, encode)
    return train(denoiser, loss, kit, images_seen=kit.budget.train_images, what=what)


def build_noisy_classifier(kit: Kit) -> NoisyClassifier:
    with seeded(kit.seed):
        return NoisyClassifier(kit.workload.shape[0], kit.workload.n_classes).to(kit.device)


def fit_noisy_classifier(net: NoisyClassifier, kit: Kit, what: str, encode: Callable[[Tensor], Tensor] | None = None) -> NoisyClassifier:
    """On images, or `encode` of them, noised by the base schedule (Dhariwal & Nichol 2021, arXiv 2105.05233, section 4.1)."""

    def loss(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        x0 = images if encode is None else encode(images)
        t = torch.randint(len(net.sigmas), (len(x0),), generator=generator, device=x0.device)
        sigma = net.sigmas[t]
        x = x0 + sigma.float()[:, None, None, None] * noise_like(x0, generator)
        return F.cross_entropy(net(x, sigma), labels)

    return train(net, loss, kit, images_seen=min(CLASSIFIER_IMAGES, kit.budget.train_images), what=what)


def build_feature_classifier(kit: Kit) -> Classifier:
    with seeded(kit.seed + 1):
        return Classifier(kit.workload.shape[0], kit.workload.n_classes).to(kit.device)


def fit_feature_classifier(net: Classifier, kit: Kit, what: str) -> Classifier:
    """On clean images; its last hidden layer is the data set's own feature space for the metrics, and serves nothing else."""

    def loss(images: Tensor, labels: Tensor, _generator: torch.Generator) -> Tensor:
        return F.cross_entropy(net(images)[1], labels, label_smoothing=0.05)

    return train(net, loss, kit, images_seen=min(CLASSIFIER_IMAGES, kit.budget.train_images), what=what)


def build_clip_classifier(kit: Kit) -> ClipClassifier:
    with seeded(kit.seed + 2):
        return ClipClassifier(kit.workload.shape[0], kit.workload.n_classes, len(DIRECTIONS)).to(kit.device)


def fit_clip_classifier(net: ClipClassifier, kit: Kit, what: str) -> ClipClassifier:
    """On clips of the kit's images: what moves, and which way it sets out. The feature space of clip-level distances, and nothing else."""
    count, n_classes = len(kit.images), kit.workload.n_classes
    pairs = kit.labels + n_classes * directions(count).to(kit.device)  # one number for both labels
    moving = replace(kit, images=clips(kit.images, CLIP_FRAMES), labels=pairs)

    def loss(images: Tensor, labels: Tensor, _generator: torch.Generator) -> Tensor:
        _, of_class, of_direction = net(images)
        return F.cross_entropy(of_class, labels % n_classes) + F.cross_entropy(of_direction, labels // n_classes)

    return train(net, loss, moving, images_seen=min(CLASSIFIER_IMAGES, kit.budget.train_images), what=what)
