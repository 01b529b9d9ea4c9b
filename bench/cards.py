"""What a strategy says of itself: its card, its claims, the assets and tasks it names. Standard library only; nothing is measured here."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Params = dict[str, int | float | str | bool | None]


class AssetName(StrEnum):
    """Shared trained parts, priced once and charged to each user as inherited cost."""

    DENOISER = "denoiser"
    AUTOENCODER = "autoencoder"
    LATENT_DENOISER = "latent_denoiser"
    NOISY_CLASSIFIER = "noisy_classifier"


class Need(StrEnum):
    """What a strategy asks of the model and the data that it runs on, beside its assets; where it is lacking, the plan skips it."""

    TRAINING = "training"  # gradients of networks, and images to train on
    IMAGES = "images"  # training images, though nothing is trained: statistics, a database
    CONDITION = "condition"  # a network with conditions and a null among them
    PIXELS = "pixels"  # states that are images
    NOISE_NET = "noise net"  # a network that predicts noise, reached inside the denoiser
    POSTERIOR_MEAN = "posterior mean"  # E[x0 | x], not the end of a trajectory nor a guided mixture
    LINEAR_VP = "linear VP"  # the linear variance-preserving chain


class Heading(StrEnum):
    """The headings of the survey's taxonomy: five of design (EDS), five of process (EPS); and our own controls."""

    GUIDANCE = "eds.guidance"
    STATE_SPACE = "eds.state_space"
    SCORE_SDE = "eds.score_sde"
    PYRAMIDAL = "eds.pyramidal"
    REPRESENTATION = "eds.representation"
    TRAINING = "eps.training"
    NOISE = "eps.noise"
    MIXING = "eps.mixing"
    SCHEDULING = "eps.scheduling"
    RETRIEVAL = "eps.retrieval"
    CONTROL = "control"


class Relation(StrEnum):
    AT_MOST = "<="
    AT_LEAST = ">="


class Degradation(StrEnum):
    """What a picture went through before it is to be restored."""

    INPAINT = "inpaint"
    SUPER_2 = "super2"
    SUPER_4 = "super4"
    DEBLUR = "deblur"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Draw images from the data distribution, given a class label."""

    kind: Literal["generate"] = "generate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Turn a coarse drawing, made from a held-out image, into an image of the data that stays true to the drawing."""

    kind: Literal["edit"] = "edit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """Undo a known linear degradation of held-out images; `noise` is its standard deviation on the scale [-1, 1]."""

    kind: Literal["restore"] = "restore"
    degradation: Degradation
    noise: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """Draw clips of `frames` frames, given a class label; of the first `given` frames, where there are any, true ones are shown."""

    kind: Literal["video"] = "video"
    frames: int = 4
    given: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShot:
    """Draw images of a class that was held out of training, shown `shots` of its images. The last `held_out` classes are held out."""

    kind: Literal["few_shot"] = "few_shot"
    held_out: int = 3
    shots: int = 5


NOISY = 0.05  # of observations, Kawar et al. 2022 (arXiv 2201.11793, section 5)
RESTORATIONS = (
    Restore(degradation=Degradation.SUPER_4),
    Restore(degradation=Degradation.INPAINT, noise=NOISY),
    Restore(degradation=Degradation.DEBLUR, noise=NOISY),
    Restore(degradation=Degradation.SUPER_2),
    Restore(degradation=Degradation.SUPER_4, noise=NOISY),
    Restore(degradation=Degradation.INPAINT),
    Restore(degradation=Degradation.DEBLUR),
    Restore(degradation=Degradation.SUPER_2, noise=NOISY),
)
Task = Generate | Edit | Restore | Video | FewShot


def task_name(task: Task) -> str:
    """How a person tells the task: `generate`, `restore super4 noise 0.05`, `video 8 given 4`."""
    match task:
        case Generate():
            return "generate"
        case Edit():
            return "edit"
        case Restore():
            return f"restore {task.degradation}" + (f" noise {task.noise:g}" if task.noise else "")
        case Video():
            return f"video {task.frames}" + (f" given {task.given}" if task.given else "")
        case FewShot():
            return f"few-shot {task.held_out} classes {task.shots} shots"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A paper's claim as a predicate: metric(params) relation factor * metric(baseline with baseline_params), both on the same task."""

    text: str
    metric: str
    params: Params
    relation: Relation
    factor: float
    baseline: str
    baseline_params: Params
    figure: str
    source: str
    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a strategy says of itself. Nothing here is a measurement of ours.

    `needs` says what it asks of the model and the data. `sampling_fields` names the hyper-parameters that `fit` never reads, so that one
    fitted model serves their whole sweep. `tasks` are those that it takes part in, each with the whole sweep. `likelihood` names the
    estimator of a `LikelihoodStrategy`, and for every other one gives the reason for an empty NLL cell.
    """

    title: str
    paper: str
    year: int
    arxiv: str | None = None
    heading: Heading
    rows: tuple[str, ...]
    saves: str
    likelihood: str
    tasks: tuple[Task, ...] = (Generate(),)
    assets: tuple[AssetName, ...] = ()
    needs: tuple[Need, ...] = ()
    sampling_fields: tuple[str, ...] = ()
    sweep: tuple[Params, ...] = ({},)
    claims: tuple[Claim, ...] = ()
