"""Continuing a clip by an unconditional model of clips, whose own reconstruction of the given frames guides the others.

Paper: Ho, Salimans, Gritsenko, Chan, Norouzi & Fleet 2022, "Video Diffusion Models", arXiv 2204.03458.
Saves: a network of its own for the continuation; costs a backward pass a step.
Differs: one block, of as many frames as a clip has, in place of block after block; attention over time where the shared U-Net attends
    over space, not at several sizes; the thousand-step linear table in place of a cosine of the log-SNR; the small reverse variance
    (gamma = 0); no Langevin corrector.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from bench.cards import Card, Claim, Heading, Need, Relation, Video
from bench.contract import Denoiser, Kit, Request, Strategy, VideoRequest
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.grids import leading, some
from bench.diffusion.loops import ancestral
from bench.registry import register
from bench.training.video import build_clip_denoiser, fit_clip_denoiser
from strategies.eds.guidance.vdm.reconstruction import Reconstructing, begun


@register
@final
@dataclass(frozen=True, kw_only=True)
class VDM(Strategy[Denoiser]):
    """`guidance_weight` w_r of section 3.1 (0 is the replacement method; table 3 uses 9, table 2 uses 50), `steps` of the chain."""

    guidance_weight: float = 9.0
    steps: int = 25

    card: ClassVar[Card] = Card(
        title="VDM",
        paper="Video Diffusion Models",
        year=2022,
        arxiv="2204.03458",
        heading=Heading.GUIDANCE,
        rows=("I-04",),
        saves="a network for continuations: one of whole clips serves",
        tasks=(Video(frames=4, given=2),),
        needs=(Need.TRAINING,),
        sampling_fields=("guidance_weight", "steps"),
        sweep=({"guidance_weight": 9.0}, {"guidance_weight": 0.0}),
        likelihood="not applicable: the guided estimate is not that of a normalised density",
        claims=(
            Claim(
                text="reconstruction guidance continues clips better than replacement of the given frames alone",
                metric="fd_clips",
                params={"guidance_weight": 9.0, "steps": 25},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.guidance.vdm",
                baseline_params={"guidance_weight": 0.0, "steps": 25},
                figure="16-frame model extended to 64 frames of 64x64, text to video: FVD 136.22 against 451.45",
                source="arXiv 2204.03458, table 6 (read in notes on the paper)",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        some(self.steps)
        if self.guidance_weight < 0:
            raise ValueError(f"guidance_weight must not be negative, and is {self.guidance_weight}")

    def fit(self, kit: Kit) -> Denoiser:
        return fit_clip_denoiser(build_clip_denoiser(kit), kit, image_frames=0, what="clip denoiser")

    def sample(self, model: Denoiser, request: Request) -> Tensor:
        assert isinstance(request, VideoRequest)
        c, h, w = model.space.state(request.shape)
        draws, known = request.draws(), model.space.encode(request.given).flatten(1, 2)
        sigmas = leading(model.sigmas, self.steps)
        x = begun(draws, (request.frames * c, h, w), known, sigmas[0])
        guided = Reconstructing(model, known, self.guidance_weight)
        x = ancestral(guided, x, sigmas, request.labels, draws, posterior_variance, clip=True)
        return model.space.decode(x.unflatten(1, (request.frames, c)), request.shape)
