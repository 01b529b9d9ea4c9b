"""Control, restoration without a model: the shortest image that explains the observation, V S^+ U^T y.

Paper: none; whatever cannot beat it has learnt nothing of images.
Saves: everything; no network.
Differs: -
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn

from bench.cards import RESTORATIONS, Card, Heading, Need
from bench.contract import Kit, Request, RestoreRequest, Strategy
from bench.data.images import to_uint8
from bench.diffusion.conditioning.restoration import Evidence, pseudo_inverse
from bench.registry import register


@register
@final
@dataclass(frozen=True, kw_only=True)
class PseudoInverse(Strategy[nn.Module]):
    """No hyper-parameters."""

    card: ClassVar[Card] = Card(
        title="Pseudo-inverse (floor)",
        paper="control: not a published system",
        year=2026,
        arxiv=None,
        heading=Heading.CONTROL,
        rows=(),
        saves="everything: no network",
        tasks=RESTORATIONS,
        needs=(Need.PIXELS,),
        likelihood="not applicable: one image an observation, no density",
    )

    def fit(self, kit: Kit) -> nn.Module:
        return nn.Module()

    def sample(self, model: nn.Module, request: Request) -> Tensor:
        assert isinstance(request, RestoreRequest)
        return to_uint8(pseudo_inverse(Evidence.of(request.operator, request.observed, request.noise_std)), request.shape)
