"""Gamma noise for training (Nachmani, San Roman & Wolf 2021, arXiv 2110.05948, algorithm 3)."""

import torch
from torch import Tensor

from bench.training.draws import BatchDraws
from bench.training.noise_prediction import Noising
from strategies.eps.noise.ddgm.gamma import gamma_shape, standard_gamma


def gamma_noising(theta_0: float) -> Noising:
    """Noise of each image's own level."""

    def noising(x0: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        k = gamma_shape(sigma, theta_0)[:, None, None, None]
        return standard_gamma(k, BatchDraws(len(x0), generator), *x0.shape[1:]).to(x0.dtype)

    return noising
