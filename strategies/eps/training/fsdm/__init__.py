"""Drawing images of a class that was never trained on, from a few of its images.

Paper: Giannone, Nielsen & Winther 2022, "Few-Shot Diffusion Models", arXiv 2205.15463.
Saves: training for each new class; costs an encoder of the support, once an image.
Differs: the version with one embedding in the residual blocks, added to that of the time; two transformer layers, which do not
    see the time, in place of six, in proportion to the U-Net; patches of at least four pixels, as smaller ones show no strokes;
    support of training is drawn anew for each image, with replacement, from the other images of its class.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, final

from torch import Tensor

from bench.cards import Card, Claim, FewShot, Heading, Need, Relation
from bench.contract import FewShotRequest, Kit, LikelihoodStrategy, Request
from bench.data.images import padded, to_model
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.grids import leading, some
from bench.diffusion.likelihood import SAMPLED, bits_per_dim, gaussian_bound
from bench.diffusion.loops import ddim, start
from bench.nets.ema import seeded
from bench.registry import register
from bench.training.noise_prediction import backbone
from strategies.eps.training.fsdm.encoders import MeanOfImages, SetTransformer
from strategies.eps.training.fsdm.training import FewShotModel, fit_few_shot


class Encoder(StrEnum):
    """How the support is read: by a transformer over all its patches, by the mean over its images, or not at all (section 4)."""

    SET = "set"
    MEAN = "mean"
    NONE = "none"


@register
@final
@dataclass(frozen=True, kw_only=True)
class FSDM(LikelihoodStrategy[FewShotModel]):
    """`encoder`, `shots` of training (the paper's sets hold 2 to 20 images), `steps` and `eta` of the sampler."""

    encoder: Encoder = Encoder.SET
    shots: int = 5
    steps: int = 50
    eta: float = 1.0

    card: ClassVar[Card] = Card(
        title="FSDM",
        paper="Few-Shot Diffusion Models",
        year=2022,
        arxiv="2205.15463",
        heading=Heading.TRAINING,
        rows=("II-01",),
        saves="training for each new class",
        tasks=(FewShot(),),
        needs=(Need.TRAINING,),
        sampling_fields=("steps", "eta"),
        sweep=tuple({"encoder": encoder, "steps": 25} for encoder in ("set", "mean", "none")),
        likelihood=f"variational bound of the chain actually sampled, given the support, {SAMPLED}",
        claims=tuple(
            Claim(
                text=f"images of unseen classes are better than those of {who}",
                metric="fd",
                params={"encoder": "set", "steps": 25},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eps.training.fsdm",
                baseline_params={"encoder": other, "steps": 25},
                figure="better on CIFAR-100, miniImageNet and CelebA, five shots; the numbers could not be verified",
                source="arXiv 2205.15463, section 4",
                verified=False,
            )
            for other, who in (("none", "the same network without support"), ("mean", "conditioning by the mean of the images"))
        ),
    )

    def __post_init__(self) -> None:
        some(self.steps)
        if self.shots < 1 or not 0 <= self.eta <= 1:
            raise ValueError(f"shots must be positive and eta lie in 0..1, not {self.shots} and {self.eta}")

    def fit(self, kit: Kit) -> FewShotModel:
        channels, side, _ = padded(kit.workload.shape)
        net = backbone(kit)
        with seeded(kit.seed):
            match self.encoder:
                case Encoder.SET:
                    model = FewShotModel(net, SetTransformer(channels, side, 4 * net.width))
                case Encoder.MEAN:
                    model = FewShotModel(net, MeanOfImages(channels, 4 * net.width))
                case Encoder.NONE:
                    model = FewShotModel(net, None)
        return fit_few_shot(model.to(kit.device), kit, self.shots, f"FSDM {self.encoder}")

    def sample(self, model: FewShotModel, request: Request) -> Tensor:
        assert isinstance(request, FewShotRequest)
        draws, denoiser = request.draws(), model.shown(to_model(request.support.flatten(0, 1)).unflatten(0, request.support.shape[:2]))
        sigmas = leading(denoiser.sigmas, self.steps)
        x = start(draws, denoiser.space.state(request.shape), sigmas[0])
        return denoiser.space.decode(ddim(denoiser, x, sigmas, request.labels, draws, self.eta), request.shape)

    def bits_per_dim(self, model: FewShotModel, images: Tensor, request: Request) -> Tensor:
        assert isinstance(request, FewShotRequest)
        denoiser = model.shown(to_model(request.support.flatten(0, 1)).unflatten(0, request.support.shape[:2]))
        x0, sigmas = denoiser.space.encode(images), leading(denoiser.sigmas, self.steps)
        nats = gaussian_bound(denoiser, x0, sigmas, request.labels, request.draws(), posterior_variance, clip=False)
        return bits_per_dim(nats, request.shape)
