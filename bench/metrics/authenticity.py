"""Whether samples are copies of training images: authenticity (Alaa et al. 2022, arXiv 2102.08921, section 4).

A sample g whose nearest training image is r is not authentic if d(g, r) < d(r, r'), r' being the training image nearest to r other than r.
Held-out images have a share of such samples too, as g and r' are then draws of one distribution; a share above theirs is a sign of copying
and no proof, as samples more typical than real images are near training images too.
"""

import torch
from torch import Tensor

from bench.intervals import share
from bench.measures import Measure, missing
from bench.metrics.fidelity import MOST_PAIRS, at_most

ROWS, COLUMNS = 1024, 4096  # distances held at once: 32 MiB in float64, whatever the number of images
SAME = 1e-5  # of the features' root mean square length: what float32 and the place in a batch leave between features of one image


def copied(samples: Tensor, training: Tensor, origin: str) -> Measure:
    """The share of samples (N, d) that are not authentic, among training images (M, d); a proportion with its interval.

    Of more than 10,000 samples a fixed random choice, but all training images: each of them may have been copied.
    """
    mine = at_most(samples, MOST_PAIRS)
    to_nearest, to_other = distances(mine, training)
    if not bool((to_nearest.isfinite() & to_other.isfinite()).all()):
        return missing("failed: features are not finite, or there are no two different training images")
    method = f"nearer to a training image than its nearest other, among {len(mine):,} and {len(training):,} images; {origin}"
    return share(int((to_nearest < to_other).sum()), len(mine), method)


def distances(samples: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """(d(g, r), d(r, r')) in float64 (N,) of samples (N, d) and training images (M, d), r' being no duplicate of r.

    A duplicate counts as r itself, since the image that training holds twice would otherwise be the only one that could be copied
    without being found. d(r, r') is infinite where all training images are the same.
    """
    to_nearest, nearest = _nearest(samples, training)
    chosen, place = nearest.unique(return_inverse=True)  # the second pass needs no training image that is nobody's nearest
    same = SAME * float(training.norm()) / len(training) ** 0.5
    to_other, _ = _nearest(training[chosen], training, beyond=same)
    return to_nearest, to_other[place]


def _nearest(points: Tensor, others: Tensor, beyond: float = -1.0) -> tuple[Tensor, Tensor]:
    """Distance (N,) and index (N,) of the nearest of `others` (M, d) that is farther than `beyond`, for points (N, d)."""
    found, index = [], []
    for part in points.double().split(ROWS):
        best = part.new_full((len(part),), torch.inf)
        where = torch.zeros(len(part), dtype=torch.long)
        for first in range(0, len(others), COLUMNS):
            away = torch.cdist(part, others[first : first + COLUMNS].double())
            near, at = away.masked_fill_(away <= beyond, torch.inf).min(1)
            where = torch.where(near < best, at + first, where)
            best = torch.minimum(best, near)
        found.append(best)
        index.append(where)
    return torch.cat(found), torch.cat(index)
