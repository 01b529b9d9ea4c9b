"""Retrieval of neighbours from a database of images: embeddings, exact search, pseudo-queries.

Blattmann et al. 2022 (arXiv 2204.11824, section 3). D is the database, xi_k(x, D) the k entries nearest to x, and
p_D(y) = |{x : y in xi_k(x, D)}| / (k |X|) says how often entry y serves an image of the training set X.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.images import to_model
from bench.nets.context import ContextUNet
from bench.nets.unet import UNet

CHUNK = 1024  # images that are held in double precision at once
SCORES = 1 << 23  # inner products that are: 64 MiB


def embeddings(images: Tensor, dimensions: int) -> Tensor:
    """uint8 (N, C, H, W) -> the leading principal components (N, d), d = min(dimensions, C * H * W), each row brought to length sqrt(d).

    Inner products are then d times cosines, and what a network is told has unit variance.
    """
    parts, count = images.split(CHUNK), len(images)
    first = torch.zeros_like(_pixels(images[:1])[0])
    second = first.outer(first)
    for pixels in map(_pixels, parts):
        first += pixels.sum(0)
        second += pixels.T @ pixels
    mean = first / count
    axes = torch.linalg.eigh(second / count - mean.outer(mean))[1][:, -dimensions:]  # columns, eigenvalues ascending
    return torch.cat([F.normalize((_pixels(part) - mean) @ axes) * axes.shape[1] ** 0.5 for part in parts]).float()


def nearest(queries: Tensor, index: Tensor, k: int, allowed: Tensor) -> Tensor:
    """Entries (B, k) of the index (N, d) with the greatest inner products with queries (B, d), among those allowed (1 or B, N).

    A flat, exact search: one product of matrices. In double precision, so that the batch's shape decides no near tie.
    """
    scores = queries.double() @ index.double().T
    return scores.masked_fill_(~allowed, -torch.inf).topk(k, dim=1).indices


def others(index: Tensor, k: int) -> Tensor:
    """The k nearest other entries (N, k) of each entry of the index (N, d): xi_k with the query left out."""
    entries = torch.arange(len(index), device=index.device)
    found = entries.new_empty(len(index), k)  # in place: parts that are kept lie between blocks of scores, and none is used again
    for part in entries.split(max(1, SCORES // len(index))):
        found[part] = nearest(index[part], index, k, part[:, None] != entries)
    return found


def proposal(counts: Tensor, labels: Tensor, n_classes: int, top_m: float) -> Tensor:
    """Cumulative sums (n_classes, N) of the unnormalised p_D of each class, cut to its `top_m` most likely entries.

    counts (N,) are those of p_D, in descending order, labels (N,) the entries' classes. A class with nothing to propose has the p_D of
    the whole database.
    """
    own = counts * (labels == torch.arange(n_classes, device=labels.device)[:, None])
    weights = torch.where(own.sum(1, keepdim=True) > 0, own, counts).double()
    rank = (weights > 0).cumsum(1)
    return (weights * (rank <= (top_m * rank[:, -1:]).ceil())).cumsum(1)


def pick(cumulative: Tensor, uniform: Tensor) -> Tensor:
    """Entries (B,) drawn from cumulative weights (B, N) by uniform numbers (B,) in [0, 1)."""
    wanted = uniform.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative.contiguous(), wanted, right=True)[:, 0]


class Database(nn.Module):
    """D with the encoder of its entries: (queries (B,), allowed (1, N)) -> keys and values (B, k, 2 channels) of xi_k of these entries.

    Embeddings (N, d), labels (N,) and counts (N,) are kept in descending order of the counts. As keys and values are the same at every
    step, they are made once an image.
    """

    embeddings: Tensor
    labels: Tensor
    counts: Tensor

    def __init__(self, encode: nn.Module, embeddings: Tensor, labels: Tensor, counts: Tensor, k: int) -> None:
        super().__init__()
        self.encode, self.k = encode, k
        order = counts.argsort(descending=True, stable=True)
        self.register_buffer("embeddings", embeddings[order])
        self.register_buffer("labels", labels[order])
        self.register_buffer("counts", counts[order])

    def forward(self, queries: Tensor, allowed: Tensor) -> Tensor:
        found = nearest(self.embeddings[queries], self.embeddings, self.k, allowed)
        encoded: Tensor = self.encode(self.embeddings[found])
        return encoded


class RetrievalModel(nn.Module):
    """A noise-predicting network with its database; without one it is told nothing."""

    def __init__(self, net: UNet | ContextUNet, database: Database | None) -> None:
        super().__init__()
        self.net, self.database = net, database


def _pixels(images: Tensor) -> Tensor:
    return to_model(images).flatten(1).double()
