"""Training of a network that predicts noise and the reverse variance: L_hybrid.

Nichol & Dhariwal 2021 (arXiv 2102.09672, section 3.1), as used by Dhariwal & Nichol 2021 (arXiv 2105.05233, section 2).
"""

import torch
from torch import Tensor

from bench.contract import Kit
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.diffusion.solvers.reverse_variance import HybridDenoiser, bound_bits, chain
from bench.training.noise_prediction import LABEL_DROPOUT, backbone
from bench.training.train import Loss, drop_labels, noise_like

BOUND_WEIGHT = 0.001  # lambda of L_hybrid = L_simple + lambda L_vlb


def widened(base: EpsDenoiser, kit: Kit) -> HybridDenoiser:
    """A copy of the base with doubled outputs: the same noise, and v = 0, the geometric mean of the two variances."""
    wide = backbone(kit, outputs=2 * kit.workload.shape[0])
    weights = base.net.state_dict()
    double = {name: torch.cat([w, torch.zeros_like(w)]) if name.startswith("head.") else w for name, w in weights.items()}
    wide.load_state_dict(double)
    return HybridDenoiser(wide, base.sigmas, base.space).to(kit.device)


def hybrid_loss(denoiser: HybridDenoiser) -> Loss:
    """L_simple, and the bound's term at the same level in bits per dimension, whose gradient reaches the variance alone."""
    table = denoiser.sigmas
    steps = chain(table).to(table.device)

    def loss(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        t = torch.randint(len(table), (len(images),), generator=generator, device=images.device)
        sigma = table[t].to(images.dtype)[:, None, None, None]
        kept = drop_labels(labels, LABEL_DROPOUT, denoiser.null, generator)
        guess, v = denoiser.heads(images + sigma * noise_like(images, generator), table[t], kept)
        simple = ((guess - images) / sigma).square().flatten(1).mean(1)  # the error of the noise
        bound = len(table) * bound_bits(images, guess.detach(), v, steps[t])  # unbiased for the sum over the chain
        return (simple + BOUND_WEIGHT * bound).mean()

    return loss
