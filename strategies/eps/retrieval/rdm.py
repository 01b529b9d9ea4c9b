"""Denoising with the embeddings of a database's nearest images at hand, which cross-attention reads.

Paper: Blattmann, Rombach, Oktay, Mueller & Ommer 2022, "Retrieval-Augmented Diffusion Models", arXiv 2204.11824.
Saves: parameters, as what a database shows need not be learnt; costs the index's memory, and a search an image.
Differs: pixels in place of latents; 32 principal components of the training images in place of CLIP, which see no labels and serve no
    metric; the database is the training set, each image left out of its own neighbours, where the paper's is another set of images; a
    class is asked for by pseudo-queries of that class, as there is no text; cross-attention at the coarsest level alone; exact search (one
    product of matrices) in place of ScaNN; the context is dropped for one image in ten of training, so that guidance asks what was learnt.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from bench.cards import Card, Claim, Heading, Need, Relation
from bench.contract import Denoiser, Draws, Kit, Request, Strategy
from bench.data.images import padded
from bench.diffusion.conditioning.retrieval import RetrievalModel, embeddings, pick, proposal
from bench.diffusion.denoisers.parametrise import ClassifierFree, EpsDenoiser
from bench.diffusion.grids import leading, some
from bench.diffusion.loops import ddim, raised
from bench.nets.context import Conditioned, ContextUNet, with_nothing
from bench.registry import register
from bench.training.retrieval import fit_alone, fit_with_neighbours

DIMENSIONS = 32


class Source(StrEnum):
    """What is searched when images are drawn: all of the database, or the entries of the lower half of the classes."""

    TRAINING = "training"
    LOWER_CLASSES = "lower_classes"


def allowed(source: Source, labels: Tensor, n_classes: int) -> Tensor:
    """Which entries (N,) of the database, of classes labels (N,), are searched."""
    match source:
        case Source.TRAINING:
            return torch.ones_like(labels, dtype=torch.bool)
        case Source.LOWER_CLASSES:
            return labels < (n_classes + 1) // 2


@register
@final
@dataclass(frozen=True, kw_only=True)
class RDM(Strategy[RetrievalModel]):
    """`k` neighbours (section 4.1, figure 7: 1 to 16; 0 is the network without retrieval), guidance `scale` s (table 2; 1 is none),
    the share `top_m` of p_D that is drawn from (section 3.3, figure 13), `steps` and `eta` of DDIM (section 4), `source` (section 4.3)."""

    k: int = 4
    scale: float = 1.0
    top_m: float = 1.0
    steps: int = 100
    eta: float = 1.0
    source: Source = Source.TRAINING

    card: ClassVar[Card] = Card(
        title="RDM",
        paper="Retrieval-Augmented Diffusion Models",
        year=2022,
        arxiv="2204.11824",
        heading=Heading.RETRIEVAL,
        rows=("II-28",),
        saves="parameters and training, by a database in their place",
        needs=(Need.TRAINING,),
        sampling_fields=("scale", "top_m", "steps", "eta", "source"),
        sweep=({"k": 4, "steps": 25}, {"k": 0, "steps": 25}, {"k": 4, "steps": 25, "source": "lower_classes"}),
        likelihood="not applicable: the density is a mixture over all neighbourhoods of the database, which no bound here covers",
        claims=(
            Claim(
                text="retrieval makes better samples than the same network without it",
                metric="fd",
                params={"k": 4, "steps": 25, "source": "training"},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eps.retrieval.rdm",
                baseline_params={"k": 0, "steps": 25},
                figure="ImageNet 256: FID 12.28 (database OpenImages) against 26.21 of unconditional ADM (the latter not verified)",
                source="arXiv 2204.11824, the authors' model zoo, and table 2 as notes on the paper have it",
                verified=False,
            ),
            Claim(
                text="the database decides what is drawn: without half of the classes in it, fewer images are of the class asked for",
                metric="class_accuracy",
                params={"k": 4, "steps": 25, "source": "lower_classes"},
                relation=Relation.AT_MOST,
                factor=0.75,
                baseline="eps.retrieval.rdm",
                baseline_params={"k": 4, "steps": 25, "source": "training"},
                figure="another database after training brings another domain; no number",
                source="arXiv 2204.11824, section 4.3",
                verified=False,
            ),
        ),
    )

    def __post_init__(self) -> None:
        some(self.steps)
        if self.k < 0 or self.scale < 0:
            raise ValueError(f"k and scale must not be negative, and are {self.k} and {self.scale}")
        if not 0 < self.top_m <= 1 or not 0 <= self.eta <= 1:
            raise ValueError(f"top_m must lie above 0 and eta at 0, both up to 1, and are {self.top_m} and {self.eta}")
        if self.k == 0 and (self.scale, self.top_m, self.source) != (1, 1, Source.TRAINING):
            raise ValueError("where k is 0, nothing is retrieved: scale and top_m must be 1, and source the default")

    def fit(self, kit: Kit) -> RetrievalModel:
        if self.k == 0:
            return fit_alone(kit, "RDM without neighbours")
        index = embeddings(kit.images, DIMENSIONS)
        kit.progress("RDM index", len(index), len(index))
        return fit_with_neighbours(kit, index, self.k, "RDM denoiser")

    def sample(self, model: RetrievalModel, request: Request) -> Tensor:
        draws = request.draws()
        noise = draws.normal(*padded(request.shape))
        denoiser, numbers = self.told(model, request, draws)
        sigmas = leading(denoiser.sigmas, self.steps)
        x = ddim(denoiser, raised(noise, sigmas[0]), sigmas, numbers, draws, self.eta)
        return denoiser.space.decode(x, request.shape)

    def told(self, model: RetrievalModel, request: Request, draws: Draws) -> tuple[Denoiser, Tensor]:
        """The denoiser with what was retrieved for the request, and the numbers (B,) by which it knows each image's neighbours."""
        if model.database is None:
            return EpsDenoiser(model.net).to(request.device), torch.full_like(request.labels, model.net.null)
        assert isinstance(model.net, ContextUNet)
        database, n_classes, images = model.database, model.net.n_classes, len(request)
        searched = allowed(self.source, database.labels, n_classes)
        of_class = proposal(database.counts * searched, database.labels, n_classes, self.top_m)
        queries = pick(of_class[request.labels], draws.uniform())
        contexts = with_nothing(database(queries, searched[None]))
        denoiser = EpsDenoiser(Conditioned(model.net, nn.Identity(), contexts)).to(request.device)
        return ClassifierFree(denoiser, self.scale - 1), torch.arange(images, device=request.device)
