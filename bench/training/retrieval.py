"""How a network is trained to read its neighbours, and its counterpart that is told nothing."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from bench.contract import Kit
from bench.diffusion.conditioning.retrieval import Database, RetrievalModel, others
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.nets.context import Conditioned, ContextUNet, with_nothing
from bench.nets.ema import frozen, seeded
from bench.nets.unet import UNet
from bench.training.noise_prediction import backbone, eps_loss, unweighted
from bench.training.train import train


def fit_alone(kit: Kit, what: str) -> RetrievalModel:
    """The shared U-Net without labels and without a database."""
    net = backbone(kit)
    learner = EpsDenoiser(net).to(kit.device)
    unlabelled = replace(kit, labels=torch.full_like(kit.labels, net.null))
    learnt = train(learner, eps_loss(learner, unweighted), unlabelled, images_seen=kit.budget.train_images, what=what).net
    assert isinstance(learnt, UNet)
    return RetrievalModel(learnt, None)


def fit_with_neighbours(kit: Kit, index: Tensor, k: int, what: str) -> RetrievalModel:
    """A U-Net without labels that is told the k nearest other images of each; `index` (N, d) are the kit's images' embeddings.

    Each training image goes by its number, in the place of its label; number N, drawn as often as a label is dropped, is the empty context.
    """
    count, neighbours = len(index), others(index, k)
    with seeded(kit.seed):
        net = ContextUNet(backbone(kit))
        encode = nn.Linear(index.shape[1], 2 * net.channels, bias=False)
    learner = EpsDenoiser(Conditioned(net, encode, with_nothing(index[neighbours]))).to(kit.device)
    numbered = replace(kit, labels=torch.arange(count, device=kit.device))
    learnt = train(learner, eps_loss(learner, unweighted), numbered, images_seen=kit.budget.train_images, what=what).net
    assert isinstance(learnt, Conditioned)
    database = Database(learnt.encode, index, kit.labels, neighbours.flatten().bincount(minlength=count), k)
    model = RetrievalModel(learnt.net, database).to(kit.device)
    frozen(model)
    return model
