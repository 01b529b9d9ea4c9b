"""Diffusion over the codes of a vector-quantised autoencoder, by masking and replacing them; with discrete classifier-free guidance.

Paper: Gu et al. 2022, "Vector Quantized Diffusion Model for Text-to-Image Synthesis", arXiv 2111.14822; guidance of Tang et al. 2022,
"Improved Vector Quantized Diffusion Models", arXiv 2205.16007.
Saves: FLOPs, as the state is a grid of codes; steps, as it is sampled with fewer than it was trained with.
Differs: class labels in place of text; the shared U-Net in place of a transformer; times drawn uniformly, not by importance; the codebook
has neither perceptual nor adversarial loss, and factor 2; of the improvements the guidance alone.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from bench.cards import Card, Claim, Heading, Need, Relation
from bench.contract import Kit, Request, Strategy
from bench.data.images import padded
from bench.diffusion.grids import trailing_times
from bench.nets.codebook import CodebookAutoencoder
from bench.registry import register
from bench.training.noise_prediction import LABEL_DROPOUT, backbone
from bench.training.train import Loss, drop_labels, train
from strategies.eds.state_space.vq_diffusion.codebook_training import build_codebook, fit_codebook
from strategies.eds.state_space.vq_diffusion.tokens import TokenModel, sample_tokens


@register
@final
@dataclass(frozen=True, kw_only=True)
class VQDiffusion(Strategy[TokenModel]):
    """`codes` K (974 on ImageNet, officially); `chain` T and `auxiliary`, the weight of -log p(x0 | x_t) (section 4: T = 100, 5e-4).

    `steps` are those taken of the chain (table 3); `truncation` keeps the likeliest codes up to this mass (0.85 to 0.86 in the official
    code, and 1 under guidance); `scale` s of the guidance (3 to 5 for text, 1.5 for classes; 1 is none).
    """

    codes: int = 64
    chain: int = 100
    auxiliary: float = 5e-4
    steps: int = 100
    truncation: float = 0.86
    scale: float = 1.0

    card: ClassVar[Card] = Card(
        title="VQ-Diffusion",
        paper="Vector Quantized Diffusion Model for Text-to-Image Synthesis; Improved Vector Quantized Diffusion Models",
        year=2022,
        arxiv="2111.14822",
        heading=Heading.STATE_SPACE,
        rows=("I-07", "I-12"),
        saves="FLOPs, by a state of discrete codes; sampling steps, by skipping",
        needs=(Need.TRAINING, Need.CONDITION),
        sampling_fields=("steps", "truncation", "scale"),
        sweep=({"steps": 25}, {"steps": 100}, {"steps": 25, "scale": 1.5, "truncation": 1.0}),
        likelihood="not applicable: a deterministic decoder defines no density of pixels",
        claims=(
            Claim(
                text="a quarter of the steps costs little quality",
                metric="fd",
                params={"steps": 25, "scale": 1.0, "truncation": 0.86},
                relation=Relation.AT_MOST,
                factor=1.18,
                baseline="eds.state_space.vq_diffusion",
                baseline_params={"steps": 100, "scale": 1.0, "truncation": 0.86},
                figure="CUB-200: FID 14.03 at 25 steps, 11.94 at 100",
                source="arXiv 2111.14822, table 3 (read in notes on the paper)",
                verified=True,
            ),
            Claim(
                text="discrete guidance is better than truncation",
                metric="fd",
                params={"steps": 25, "scale": 1.5, "truncation": 1.0},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.state_space.vq_diffusion",
                baseline_params={"steps": 25, "scale": 1.0, "truncation": 0.86},
                figure="ImageNet 256: FID 4.83 against 11.89, with another improvement of the sampling besides",
                source="arXiv 2205.16007, abstract",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        trailing_times(self.steps, self.chain)
        if self.codes < 2 or self.chain < 2 or self.auxiliary < 0:
            raise ValueError(f"codes and chain must be above 1, auxiliary not negative: {self.codes}, {self.chain}, {self.auxiliary}")
        if not 0 < self.truncation <= 1 or self.scale < 0:
            raise ValueError(f"truncation must lie in (0, 1] and scale not be negative, not {self.truncation} and {self.scale}")

    def fit(self, kit: Kit) -> TokenModel:
        codec = fit_codebook(build_codebook(kit, self.codes), kit, "VQ-Diffusion codebook")
        size = padded(kit.workload.shape)[1] // codec.factor
        model = TokenModel(backbone(kit, self.codes + 1, self.codes, size), codec.decoder, self.codes, self.chain).to(kit.device)
        return train(model, self.loss(model, codec), kit, images_seen=kit.budget.train_images, what="VQ-Diffusion denoiser", seed=1)

    def loss(self, model: TokenModel, codec: CodebookAutoencoder) -> Loss:
        def loss(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
            x0 = codec.tokens(images)
            t = torch.randint(1, self.chain + 1, (len(x0),), generator=generator, device=x0.device)
            uniform = torch.rand(x0.shape, generator=generator, device=x0.device)
            kept = drop_labels(labels, LABEL_DROPOUT, model.net.null, generator)
            bound, auxiliary = model.terms(x0, t, uniform, kept)
            return self.chain * (bound + self.auxiliary * auxiliary).mean()  # the whole chain's, from one time an image

        return loss

    def sample(self, model: TokenModel, request: Request) -> Tensor:
        return sample_tokens(model, request, trailing_times(self.steps, self.chain) + 1, self.scale, self.truncation)
