"""The preconditioned denoiser of Karras et al. 2022 (arXiv 2206.00364, section 5): a network whose input and target have unit variance.

    D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)    (eq. 7)

With s the standard deviation of the data (table 1): c_skip = s^2 / (sigma^2 + s^2), c_out = sigma s / sqrt(sigma^2 + s^2),
c_in = 1 / sqrt(sigma^2 + s^2), c_noise = log(sigma) / 4. At sigma = 0 it is the identity.
"""

import math

import torch
from torch import Tensor, nn

from bench.contract import Denoiser
from bench.data.images import to_model
from bench.diffusion.batch import column
from bench.diffusion.denoisers.parametrise import PIXELS
from bench.diffusion.schedules import T

SPAN = (0.002, 80.0)  # (lowest, highest) sigma of table 1; between them any level may be asked for


class PreconditionedDenoiser(Denoiser):
    """A network F(x, c_noise (B,), labels) with the standard deviation `sigma_data`, a float64 number, of the data it is for."""

    sigma_data: Tensor

    def __init__(self, net: nn.Module, sigma_data: Tensor) -> None:
        super().__init__()
        self.net, self.space = net, PIXELS
        self.null = getattr(net, "null", None)
        self.register_buffer("sigma_data", sigma_data)
        self.register_buffer("sigmas", torch.logspace(math.log10(SPAN[0]), math.log10(SPAN[1]), T, dtype=torch.float64), persistent=False)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        total = sigma.square() + self.sigma_data.square()
        scales = (self.sigma_data.square() / total, sigma * self.sigma_data / total.sqrt(), total.rsqrt())
        c_skip, c_out, c_in = (column(scale, x) for scale in scales)
        return c_skip * x + c_out * self.net(c_in * x, (sigma.log() / 4).to(x.dtype), labels)

    def weight(self, sigma: Tensor) -> Tensor:
        """lambda(sigma) (B,) = 1 / c_out^2, under which the error of x0 counts as that of the network's output at every level (table 1)."""
        return (sigma.square() + self.sigma_data.square()) / (sigma * self.sigma_data).square()


def data_deviation(images: Tensor, part: int = 4096) -> Tensor:
    """sigma_data, () float64: the standard deviation of all pixels of uint8 images (N, C, H, W) as models see them, around their mean."""
    sums = [torch.stack([x.sum(), x.square().sum()]) / x[0].numel() for x in (to_model(batch).double() for batch in images.split(part))]
    mean, square = torch.stack(sums).sum(0) / len(images)
    return (square - mean.square()).sqrt()
