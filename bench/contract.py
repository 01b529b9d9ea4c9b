"""What a strategy is, and what it is given: `Strategy`, `LikelihoodStrategy`, `Denoiser`, `Kit`, `Request` and the requests of other tasks.

A strategy is a final frozen dataclass whose fields are its hyper-parameters. It never measures itself and imports no meter, metric,
store or clock.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from bench.cards import AssetName, Card
from bench.values import Budget, Workload

M = TypeVar("M", bound=nn.Module)

Progress = Callable[[str, int, int], None]
"""(what, images done, images in all): how a long `fit` tells of itself."""


def silent(_what: str, _done: int, _total: int) -> None:
    """A `Progress` that nobody reads."""


Evaluation = Callable[[nn.Module], AbstractContextManager[None]]
"""Inside the block the module's networks are evaluated in some way: as written, or faster."""


def as_written(_module: nn.Module) -> AbstractContextManager[None]:
    """The `Evaluation` of the reference."""
    return nullcontext()


class Space(Protocol):
    """Where the states of a model live: pixels, or the latents of an autoencoder."""

    @property
    def limits(self) -> tuple[float, float] | None:
        """The range of clean states, or None where they have none."""

    def state(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The (C, H, W) of states for images of this shape."""

    def encode(self, images: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> clean states (B, *state)."""

    def decode(self, x: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """States (B, *state) -> uint8 (B, *shape)."""


class Denoiser(nn.Module, ABC):
    """The one network convention: the conditional mean E[x0 | x] under x = x0 + sigma * n, n standard normal.

    A denoiser says what it was trained on: `sigmas` (T,) float64, its increasing noise levels; the `space` of its states; and `null`, the
    number of the condition that stands for none, None where it has no such number. A network that is told times of a chain raises
    RuntimeError for a level outside of `sigmas`; one that is told sigma itself (`PreconditionedDenoiser`) takes any.
    """

    sigmas: Tensor
    space: Space
    null: int | None

    @abstractmethod
    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), sigma (B,) float64 noise standard deviation, labels (B,) or None -> x0 estimate (B, C, H, W)."""


class Draws(Protocol):
    """Random numbers of one request: a pure function of (image seed, index of the draw), whatever the batch or the shard."""

    def normal(self, *shape: int) -> Tensor:
        """The next standard normal draw (B, *shape), float32."""

    def uniform(self, *shape: int) -> Tensor:
        """The next uniform draw in [0, 1) (B, *shape), float32."""


class Operator(Protocol):
    """A known linear map H = U S V^T of flattened padded model images (B, d), d = C * H * W, to observations (B, rows)."""

    rows: int
    singular_values: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """H x: (B, C, H, W) -> (B, rows)."""

    def to_spectrum(self, x: Tensor) -> Tensor:
        """V^T x: (B, C, H, W) -> (B, d), in the order of the singular values (d,), which end in zeros where H has fewer rows."""

    def from_spectrum(self, z: Tensor) -> Tensor:
        """V z: (B, d) -> (B, C, H, W)."""

    def observed_spectrum(self, y: Tensor) -> Tensor:
        """U^T y: (B, rows) -> (B, d), zero where the singular value is."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to sample: one image per seed. `shape` is (C, H, W) of the uint8 images; `labels` are (B,) integers.

    A task that shows the strategy more than a label has a request of its own below.
    """

    seeds: Tensor
    labels: Tensor
    shape: tuple[int, int, int]
    device: torch.device
    draws: Callable[[], Draws]

    def __len__(self) -> int:
        return int(self.seeds.shape[0])


@dataclass(frozen=True, kw_only=True)
class EditRequest(Request):
    """`guides` (B, C, H, W) uint8 are the coarse drawings; `labels` are the classes of the images that they were made from."""

    guides: Tensor


@dataclass(frozen=True, kw_only=True)
class RestoreRequest(Request):
    """`observed` (B, operator.rows) float32 is operator(x) + noise_std * n of padded model images x; `labels` are their classes."""

    operator: Operator
    observed: Tensor
    noise_std: float


@dataclass(frozen=True, kw_only=True)
class VideoRequest(Request):
    """One clip (frames, C, H, W) per seed, beginning with the G frames of `given` (B, G, C, H, W) uint8; G may be 0."""

    frames: int
    given: Tensor


@dataclass(frozen=True, kw_only=True)
class FewShotRequest(Request):
    """`support` (B, shots, C, H, W) uint8 are images of the class asked for; `labels` name it, but no network was taught that class."""

    support: Tensor


@dataclass(frozen=True, kw_only=True)
class Kit:
    """What `fit` may use: data, budget, seed, and the assets that the strategy's card names.

    `images` (N, C, H, W) uint8 and `labels` (N,) are the training split, on `device`; for the task `Video` they are clips (N, F, C, H, W)
    of as many frames as the task has, for `FewShot` the images of the classes that are not held out. A training loop runs inside
    `evaluated(net)`.
    """

    workload: Workload
    budget: Budget
    images: Tensor
    labels: Tensor
    device: torch.device
    seed: int
    progress: Progress = silent
    evaluated: Evaluation = as_written
    assets: Mapping[AssetName, Callable[[], nn.Module]] = field(default_factory=dict)

    def denoiser(self) -> Denoiser:
        """The shared base denoiser, frozen, in evaluation mode."""
        asset = self._asset(AssetName.DENOISER)
        assert isinstance(asset, Denoiser)
        return asset

    def autoencoder(self) -> nn.Module:
        """The shared autoencoder (`encode`, `decode`), frozen, in evaluation mode."""
        return self._asset(AssetName.AUTOENCODER)

    def latent_denoiser(self) -> Denoiser:
        """The shared denoiser of the autoencoder's latents, frozen, in evaluation mode."""
        asset = self._asset(AssetName.LATENT_DENOISER)
        assert isinstance(asset, Denoiser)
        return asset

    def noisy_classifier(self) -> nn.Module:
        """The shared classifier of noised images, frozen, in evaluation mode: (x, sigma) -> logits."""
        return self._asset(AssetName.NOISY_CLASSIFIER)

    def _asset(self, name: AssetName) -> nn.Module:
        if name not in self.assets:
            raise UndeclaredAsset(f"the card does not name the asset '{name}'; add it to Card.assets")
        return self.assets[name]()


class UndeclaredAsset(Exception):
    """A strategy asked for an asset that its card does not declare, which would make that asset look free."""


class Strategy(ABC, Generic[M]):
    """One efficiency strategy. Every subclass is a `@final` frozen dataclass."""

    card: ClassVar[Card]

    @abstractmethod
    def fit(self, kit: Kit) -> M:
        """Everything that happens before the first image: training, distillation, search. All of it is metered as training."""

    @abstractmethod
    def sample(self, model: M, request: Request) -> Tensor:
        """Images uint8 (B, C, H, W) for the request's B seeds; of a `VideoRequest` clips (B, F, C, H, W)."""


class LikelihoodStrategy(Strategy[M]):
    """The only capability class: a strategy with a bound on, or an estimate of, the likelihood."""

    @abstractmethod
    def bits_per_dim(self, model: M, images: Tensor, request: Request) -> Tensor:
        """Negative log-likelihood (B,) in bits per dimension of uint8 images (B, C, H, W); draws and labels from the request."""
