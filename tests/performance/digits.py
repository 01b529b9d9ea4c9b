"""The smallest network that we ship, on the smallest images: where anything beside the network weighs most."""

import torch

from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.diffusion.grids import leading
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.nets.ema import seeded
from bench.nets.unet import unet_for

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPE, STEPS = (1, 8, 8), 20
SIGMAS = leading(sigma_of(linear_alpha_bar()), STEPS)


def digits_denoiser() -> EpsDenoiser:
    """The network of the default suite, untrained."""
    with seeded(0):
        return EpsDenoiser(unet_for(8, 1, 1, 10, 32)).to(DEVICE).eval()
