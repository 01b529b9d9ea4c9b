"""Four large denoising steps, each by a generator whose latent lets it choose among the modes that such a step has.

Paper: Xiao, Kreis & Vahdat 2022, "Tackling the Generative Learning Trilemma with Denoising Diffusion GANs", arXiv 2112.07804.
Saves: steps, down to a few, without a teacher; costs a critic in training, which sampling does without.
Differs: the shared U-Net with the latent in its embedding; networks are told the class; no minibatch statistics in the critic.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, final

from torch import Tensor, nn

from bench.cards import Card, Claim, Heading, Relation
from bench.contract import Kit, Request, Strategy
from bench.data.images import padded, to_uint8
from bench.diffusion.denoising_gan import Drawing, LatentGenerator, large_steps
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.loops import ancestral, start
from bench.nets.adversarial import PairCritic
from bench.nets.ema import seeded
from bench.registry import register
from bench.training.adversarial import train_game
from bench.training.denoising_gan import denoising_game
from bench.training.recipes import backbone


class DenoisingGan(nn.Module):
    """What sampling needs: the generator alone."""

    def __init__(self, generator: LatentGenerator) -> None:
        super().__init__()
        self.generator = generator


@register
@final
@dataclass(frozen=True, kw_only=True)
class DDGAN(Strategy[DenoisingGan]):
    """`steps` T; `latent` dimensions and mapping `layers` of z; R1's `gamma`, in every `lazy`-th step; the rest suits short trainings.

    Appendix C, for CIFAR-10: z of 100 dimensions, gamma 0.05 every 15 steps, batches of 256, learning rates 1.6e-4 and 1.25e-4 over
    400,000 steps. `share` of the training budget's images are seen: in batches this small, that takes about as long as the base network.
    """

    steps: int = 4
    latent: int = 100
    layers: int = 3
    gamma: float = 0.5
    lazy: int = 15
    share: float = 0.25
    batch: int = 16
    generator_lr: float = 5e-4
    critic_lr: float = 1e-3

    card: ClassVar[Card] = Card(
        title="DDGAN",
        paper="Tackling the Generative Learning Trilemma with Denoising Diffusion GANs",
        year=2022,
        arxiv="2112.07804",
        heading=Heading.MIXING,
        rows=("T-10",),
        saves="sampling steps, by an adversarial model of each large step",
        likelihood="not applicable: the generator's latent is integrated out, and the density of its images is implicit",
        sweep=({"steps": 4},),
        claims=(
            Claim(
                text="at 4 steps it is better than DDIM",
                metric="fd",
                params={"steps": 4},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.representation.ddim",
                baseline_params={"steps": 4},
                figure="CIFAR-10 FID 3.75 at 4 steps against 13.36 of DDIM at 10",
                source="arXiv 2112.07804, ablation table (as reprinted by arXiv 2209.02646); arXiv 2010.02502, table 1",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        counts = (self.steps, self.latent, self.layers, self.lazy, self.batch)
        if min(counts) < 1:
            raise ValueError(f"steps, latent, layers, lazy and batch must be at least 1, not {counts}")
        sizes = (self.share, self.generator_lr, self.critic_lr)
        if self.gamma < 0 or min(sizes) <= 0:
            raise ValueError(f"gamma must not be negative, share and learning rates must be positive, not {self.gamma} and {sizes}")

    def fit(self, kit: Kit) -> DenoisingGan:
        kit = replace(kit, budget=replace(kit.budget, train_batch=self.batch))
        channels, size, _ = padded(kit.workload.shape)
        with seeded(kit.seed):
            generator = LatentGenerator(backbone(kit), self.latent, self.layers).to(kit.device)
            critic = PairCritic(channels, size, kit.workload.n_classes, kit.budget.width).to(kit.device)
        game = denoising_game(
            generator,
            critic,
            large_steps(self.steps),
            gamma=self.gamma,
            lazy=self.lazy,
            generator_lr=self.generator_lr,
            critic_lr=self.critic_lr,
        )
        seen = round(self.share * kit.budget.train_images)
        return DenoisingGan(train_game(generator, game, kit, images_seen=seen, what="DDGAN"))

    def sample(self, model: DenoisingGan, request: Request) -> Tensor:
        draws, sigmas = request.draws(), large_steps(self.steps)
        x = start(draws, padded(request.shape), sigmas[0])
        generator = Drawing(model.generator, draws, self.latent)
        return to_uint8(ancestral(generator, x, sigmas, request.labels, draws, posterior_variance, clip=False), request.shape)
