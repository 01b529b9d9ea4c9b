"""A model of clips trained on clips and on single frames at once, which temporal attention keeps apart.

Paper: Ho, Salimans, Gritsenko, Chan, Norouzi & Fleet 2022, "Video Diffusion Models", arXiv 2204.03458.
Saves: training steps for a given quality; each costs as many frames more as are appended.
Differs: the thousand-step linear table in place of a cosine of the log-SNR; attention over time where the shared U-Net attends over
    space, not at several sizes; the small reverse variance (gamma = 0).
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from bench.cards import Card, Claim, Heading, Need, Params, Relation, Video
from bench.contract import Denoiser, Kit, LikelihoodStrategy, Request, VideoRequest
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.grids import leading, some
from bench.diffusion.likelihood import SAMPLED, bits_per_dim, gaussian_bound
from bench.diffusion.loops import ancestral, start
from bench.registry import register
from bench.training.video import build_clip_denoiser, fit_clip_denoiser

JOINT: Params = {"image_frames": 4, "steps": 25}
CLIPS_ONLY: Params = {"image_frames": 0, "steps": 25}
SOURCE = "arXiv 2204.03458, table 4"


@register
@final
@dataclass(frozen=True, kw_only=True)
class JointVDM(LikelihoodStrategy[Denoiser]):
    """`image_frames` appended to each clip in training (table 4: 0, 4 and 8 to clips of 16 frames), `steps` of the chain."""

    image_frames: int = 4
    steps: int = 50

    card: ClassVar[Card] = Card(
        title="VDM, joint training",
        paper="Video Diffusion Models",
        year=2022,
        arxiv="2204.03458",
        heading=Heading.TRAINING,
        rows=("II-02",),
        saves="training steps of a model of clips",
        tasks=(Video(frames=4),),
        needs=(Need.TRAINING,),
        sampling_fields=("steps",),
        sweep=(JOINT, CLIPS_ONLY),
        likelihood=f"variational bound of the chain actually sampled, over all frames, {SAMPLED}",
        claims=(
            Claim(
                text="at equal steps of training, independent frames beside the clips make better clips",
                metric="fd_clips",
                params=JOINT,
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eps.training.vdm_joint",
                baseline_params=CLIPS_ONLY,
                figure="text to video, 16 frames of 64x64: FVD 68.11 with 4 independent frames against 202.28 with none",
                source=SOURCE,
                verified=True,
            ),
            Claim(
                text="and better single frames",
                metric="fd",
                params=JOINT,
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eps.training.vdm_joint",
                baseline_params=CLIPS_ONLY,
                figure="FID averaged over frames 18.62 with 4 independent frames against 37.52 with none",
                source=SOURCE,
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        some(self.steps)
        if not 0 <= self.image_frames <= 64:
            raise ValueError(f"image_frames must lie in 0..64, not {self.image_frames}")

    def fit(self, kit: Kit) -> Denoiser:
        return fit_clip_denoiser(build_clip_denoiser(kit), kit, self.image_frames, what="clip denoiser")

    def sample(self, model: Denoiser, request: Request) -> Tensor:
        assert isinstance(request, VideoRequest)
        c, h, w = model.space.state(request.shape)
        draws, sigmas = request.draws(), leading(model.sigmas, self.steps)
        x = start(draws, (request.frames * c, h, w), sigmas[0])
        x = ancestral(model, x, sigmas, request.labels, draws, posterior_variance, clip=True)
        return model.space.decode(x.unflatten(1, (request.frames, c)), request.shape)

    def bits_per_dim(self, model: Denoiser, images: Tensor, request: Request) -> Tensor:
        """Of clips (B, F, C, H, W), over their F * C * H * W dimensions."""
        x0 = model.space.encode(images).flatten(1, 2)
        sigmas = leading(model.sigmas, self.steps)
        nats = gaussian_bound(model, x0, sigmas, request.labels, request.draws(), posterior_variance, clip=True)
        c, h, w = request.shape
        return bits_per_dim(nats, (images.shape[1] * c, h, w))
