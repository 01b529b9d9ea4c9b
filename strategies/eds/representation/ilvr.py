"""Generation that follows a reference: after every step, low frequencies of the state are replaced by the reference's.

Paper: Choi, Kim, Jeong, Gwon & Yoon 2021, "ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models", arXiv 2108.02938.
Saves: training: one network serves every reference, factor and range; a step costs one evaluation as before.
Differs: block means in place of bicubic resizing, so that the low pass is a projection, as the paper's derivation has it (its appendix
    finds that kernels hardly matter); the reference noised to the level of the state, as in algorithm 1 and not in the authors' code, and
    refined to the last step; the network is told the class of the reference (the paper's are unconditional).
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from bench.cards import AssetName, Card, Claim, Edit, Heading, Need, Relation
from bench.contract import Denoiser, EditRequest, Kit, Request, Strategy
from bench.diffusion.conditioning.editing import refined
from bench.diffusion.grids import at, leading_times, some
from bench.diffusion.loops import start
from bench.diffusion.schedules import T
from bench.registry import register


@register
@final
@dataclass(frozen=True, kw_only=True)
class ILVR(Strategy[Denoiser]):
    """`factor` N of the low pass (table 1: 4 to 32 of 256 pixels), `range_t` (section 3.2), `steps` of T = 1000.

    The step down from x_t is refined where t > range_t, t = 1..1000: always at 0, never at 1000.
    """

    factor: int = 2
    range_t: int = 0
    steps: int = 50

    card: ClassVar[Card] = Card(
        title="ILVR",
        paper="ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models",
        year=2021,
        arxiv="2108.02938",
        heading=Heading.REPRESENTATION,
        rows=("I-24",),
        saves="training: one network is led by any reference",
        likelihood="not applicable: images are drawn given a reference",
        tasks=(Edit(),),
        assets=(AssetName.DENOISER,),
        needs=(Need.PIXELS,),
        sampling_fields=("factor", "range_t", "steps"),
        sweep=({"factor": 2}, {"factor": 4}),
        claims=(
            Claim(
                text="the smaller the factor, the nearer the image stays to the reference",
                metric="psnr",
                params={"factor": 2},
                relation=Relation.AT_LEAST,
                factor=1.0,
                baseline="eds.representation.ilvr",
                baseline_params={"factor": 4},
                figure="FFHQ 256: LPIPS between images of one reference 0.101 at N = 4, 0.439 at N = 32",
                source="arXiv 2108.02938, table 2 (read in notes on the paper)",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        some(self.steps)
        if self.factor < 1:
            raise ValueError(f"factor must be 1 or more, not {self.factor}")
        if not 0 <= self.range_t <= T:
            raise ValueError(f"range_t must lie in 0..{T}, not {self.range_t}")

    def fit(self, kit: Kit) -> Denoiser:
        return kit.denoiser()

    def sample(self, model: Denoiser, request: Request) -> Tensor:
        assert isinstance(request, EditRequest)
        draws, times = request.draws(), leading_times(self.steps, len(model.sigmas))
        sigmas = at(times, model.sigmas)
        refinements = int((times + 1 > self.range_t).sum())  # time 0 here is t = 1 of the paper
        x = start(draws, model.space.state(request.shape), sigmas[0])
        guide, labels = model.space.encode(request.guides), request.labels
        return model.space.decode(refined(model, x, guide, sigmas, refinements, self.factor, labels, draws), request.shape)
