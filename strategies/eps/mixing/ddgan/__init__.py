"""Four large denoising steps, each by a generator whose latent lets it choose among the modes that such a step has.

Paper: Xiao, Kreis & Vahdat 2022, "Tackling the Generative Learning Trilemma with Denoising Diffusion GANs", arXiv 2112.07804.
Saves: steps, down to a few, without a teacher; costs a critic in training, which sampling does without.
Differs: the shared U-Net with the latent in its embedding; both networks are told the class; the generator starts from a regression of x0
    and the critic from some steps alone, as in a training hundreds of times shorter than the paper's a generator from scratch outruns its
    critic, whose logits then stay near 0 while the generator drops modes; learning rates and batches follow from that.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, final

from torch import Tensor, nn

from bench.cards import Card, Claim, Heading, Need, Relation
from bench.contract import Kit, Request, Strategy
from bench.data.images import padded, to_uint8
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.loops import ancestral, start
from bench.nets.adversarial import PairCritic
from bench.nets.ema import seeded
from bench.registry import register
from bench.training.adversarial import train_game
from bench.training.noise_prediction import backbone
from bench.training.train import train
from strategies.eps.mixing.ddgan.chain import Drawing, LatentGenerator, large_steps
from strategies.eps.mixing.ddgan.game import denoising_game, regression


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
    400,000 steps. Of the training budget's images, the share `regressed` is seen by the generator alone, in batches of `regression_batch`,
    then `lead` by the critic alone and `share` by both, in batches of `batch`: together about as long as the base network takes.
    """

    steps: int = 4
    latent: int = 100
    layers: int = 3
    gamma: float = 0.05
    lazy: int = 15
    regressed: float = 0.4
    regression_batch: int = 64
    lead: float = 0.05
    share: float = 0.12
    batch: int = 16
    generator_lr: float = 2e-5
    critic_lr: float = 2e-3

    card: ClassVar[Card] = Card(
        title="DDGAN",
        paper="Tackling the Generative Learning Trilemma with Denoising Diffusion GANs",
        year=2022,
        arxiv="2112.07804",
        heading=Heading.MIXING,
        rows=("T-10",),
        saves="sampling steps, by an adversarial model of each large step",
        needs=(Need.TRAINING,),
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
        counts = (self.steps, self.latent, self.layers, self.lazy, self.batch, self.regression_batch)
        if min(counts) < 1:
            raise ValueError(f"steps, latent, layers, lazy and batches must be at least 1, not {counts}")
        if self.gamma < 0 or self.lead < 0:
            raise ValueError(f"gamma and lead must not be negative, not {self.gamma} and {self.lead}")
        sizes = (self.regressed, self.share, self.generator_lr, self.critic_lr)
        if min(sizes) <= 0:
            raise ValueError(f"regressed, share and learning rates must be positive, not {sizes}")

    def fit(self, kit: Kit) -> DenoisingGan:
        grid, images = large_steps(self.steps), kit.budget.train_images
        channels, size, _ = padded(kit.workload.shape)
        with seeded(kit.seed):
            generator = LatentGenerator(backbone(kit), self.latent, self.layers).to(kit.device)
            critic = PairCritic(channels, size, kit.workload.n_classes, kit.budget.width).to(kit.device)
        first = replace(kit, budget=replace(kit.budget, train_batch=self.regression_batch))
        loss = regression(generator, grid)
        generator = train(generator, loss, first, images_seen=round(self.regressed * images), what="DDGAN regression")
        game = denoising_game(
            generator,
            critic,
            grid,
            gamma=self.gamma,
            lazy=self.lazy,
            generator_lr=self.generator_lr,
            critic_lr=self.critic_lr,
            lead=round(self.lead * images / self.batch),
        )
        second = replace(kit, budget=replace(kit.budget, train_batch=self.batch))
        return DenoisingGan(train_game(generator, game, second, images_seen=round(self.share * images), what="DDGAN", seed=1))

    def sample(self, model: DenoisingGan, request: Request) -> Tensor:
        draws, sigmas = request.draws(), large_steps(self.steps)
        x = start(draws, padded(request.shape), sigmas[0])
        generator = Drawing(model.generator, draws, self.latent)
        return to_uint8(ancestral(generator, x, sigmas, request.labels, draws, posterior_variance, clip=False), request.shape)
