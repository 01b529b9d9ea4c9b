"""A normalising flow made of noisy steps: the way into noise is learned together with the way back, so that few steps suffice.

Paper: Zhang & Chen 2021, "Diffusion Normalizing Flow", arXiv 2110.07579.
Saves: steps, by a forward drift that fits the data; costs, for each image of the training, two networks at each of the N steps.
Differs: the drift is added to plain diffusion, and the way back begins as the shared denoiser; ordinary backpropagation in place of the
stochastic adjoint, which saves memory alone; the variances of the steps back are the best ones, not those of the steps forwards.
"""

import copy
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from bench.cards import AssetName, Card, Claim, Heading, Need, Relation
from bench.contract import Kit, LikelihoodStrategy, Request
from bench.data.images import padded, to_model, to_uint8
from bench.diffusion.likelihood import HALF_BIN, bits_per_dim
from bench.diffusion.loops import ancestral, start
from bench.diffusion.solvers.flow import dequantised, discrete_nats
from bench.diffusion.solvers.sde import sigma_at
from bench.nets.ema import frozen, seeded
from bench.nets.unet import GROUPS, unet_for
from bench.registry import register
from bench.training.train import Loss, drawn_batch, train
from strategies.eps.mixing.diff_flow.paths import Drift, TwoWayChain, best_variances, path_nats, path_of

PATHS = 1024  # images whose paths set the variances


@register
@final
@dataclass(frozen=True, kw_only=True)
class DiffFlow(LikelihoodStrategy[TwoWayChain]):
    """`steps` N (section 4: 10 to 30), with times in proportion to i^`power`; `batch` and the learning rate `lr` suit short trainings.

    `share` of the training budget's images are seen, as each of them costs N evaluations of both networks.
    """

    steps: int = 10
    power: float = 2.0
    share: float = 0.03
    batch: int = 16
    lr: float = 5e-4

    card: ClassVar[Card] = Card(
        title="DiffFlow",
        paper="Diffusion Normalizing Flow",
        year=2021,
        arxiv="2110.07579",
        heading=Heading.MIXING,
        rows=("II-15",),
        saves="sampling steps, by a learned way into noise",
        likelihood="bound by the path measure, one path an image, uniform dequantisation",
        assets=(AssetName.DENOISER,),
        needs=(Need.TRAINING, Need.PIXELS, Need.LINEAR_VP),
        sweep=({"steps": 10},),
        claims=(
            Claim(
                text="with few steps its likelihood is better than plain diffusion's",
                metric="nll_bits_per_dim",
                params={"steps": 10},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.state_space.ddpm",
                baseline_params={"steps": 10},
                figure="CIFAR-10 3.04 bits/dim against 3.72",
                source="arXiv 2110.07579, CIFAR-10 table (as reprinted by arXiv 2209.02646)",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1:
            raise ValueError(f"steps and batch must be at least 1, not {self.steps} and {self.batch}")
        if min(self.power, self.share, self.lr) <= 0:
            raise ValueError(f"power, share and lr must be positive, not {self.power}, {self.share} and {self.lr}")

    def fit(self, kit: Kit) -> TwoWayChain:
        kit = replace(kit, budget=replace(kit.budget, train_batch=self.batch))
        chain = untrained(kit, self.sigmas())
        seen = round(self.share * kit.budget.train_images)
        chain = train(chain, path_loss(chain), kit, images_seen=seen, what="DiffFlow", lr=self.lr)
        return with_best_variances(chain, replace(kit, budget=replace(kit.budget, train_batch=PATHS)))

    def sample(self, model: TwoWayChain, request: Request) -> Tensor:
        draws, sigmas = request.draws(), model.sigmas.flip(0)
        chosen = dict(zip(model.sigmas[1:].tolist(), model.variances.tolist(), strict=True))
        x = start(draws, padded(request.shape), sigmas[0])
        return to_uint8(ancestral(model.denoiser, x, sigmas, request.labels, draws, lambda high, _low: chosen[high], False), request.shape)

    def bits_per_dim(self, model: TwoWayChain, images: Tensor, request: Request) -> Tensor:
        draws = request.draws()
        x0 = dequantised(to_model(images), draws)
        noises = torch.stack([draws.normal(*x0.shape[1:]) for _ in range(self.steps)])
        nats = path_nats(path_of(model, x0, request.labels, noises), model.sigmas, model.variances)
        return bits_per_dim(discrete_nats(-nats, x0[0].numel()), request.shape)

    def sigmas(self) -> Tensor:
        """Ascending levels (N + 1,), float64, of the variance-preserving SDE."""
        return sigma_at((torch.arange(self.steps + 1, dtype=torch.float64) / self.steps).pow(self.power))


def untrained(kit: Kit, sigmas: Tensor) -> TwoWayChain:
    """No drift, by a network of half the shared one's width whose head is zero, and the shared denoiser: plain diffusion."""
    channels, size, _ = padded(kit.workload.shape)
    with seeded(kit.seed):
        drift = Drift(unet_for(size, channels, channels, kit.workload.n_classes, max(GROUPS, kit.budget.width // 2)))
    denoiser = copy.deepcopy(kit.denoiser()).requires_grad_(True)
    return TwoWayChain(denoiser, drift, sigmas, torch.ones_like(sigmas[1:])).to(kit.device)


def path_loss(chain: TwoWayChain) -> Loss:
    """The bound in nats a dimension, under the variances that are best for the batch."""

    def loss(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        path = path_of(chain, *randomised(chain, images, labels, generator))
        return path_nats(path, chain.sigmas, best_variances(path)).mean() / path.dimensions

    return loss


def randomised(chain: TwoWayChain, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """(dequantised images, labels, noises of a path), by the training generator."""
    uniform = torch.rand(images.shape, generator=generator, device=images.device)
    noises = torch.randn((len(chain.sigmas) - 1, *images.shape), generator=generator, device=images.device)
    return images + HALF_BIN * (2 * uniform - 1), labels, noises


@torch.no_grad()
def with_best_variances(chain: TwoWayChain, kit: Kit) -> TwoWayChain:
    """The chain with the variances that its paths from one batch of the training images call for."""
    generator = torch.Generator(kit.device).manual_seed(kit.seed)
    images, labels = drawn_batch(kit, generator)
    chain.variances.copy_(best_variances(path_of(chain, *randomised(chain, images, labels, generator))))
    kit.progress("DiffFlow variances", len(images), len(images))
    frozen(chain)
    return chain
