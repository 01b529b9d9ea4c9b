"""Sampling led by an image, without training: from the middle of the chain, or with the low frequencies of every state replaced.

Meng et al. 2022 (SDEdit, arXiv 2108.01073) noise a guide half-way and run the reverse chain from there. Choi et al. 2021 (ILVR,
arXiv 2108.02938, algorithm 1) run the whole chain, and replace what a low pass phi keeps of each state by what it keeps of the
reference, noised to the level of that state: x_low = x' - phi(x') + phi(y_low). `labels` may be None: an unconditional network.

Coordinates are x = x0 + sigma * n. The chain is DDPM's with the small variance and x0 clipped to [-1, 1].
"""

from torch import Tensor
from torch.nn import functional as F

from bench.contract import Denoiser, Draws
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.loops import ancestral


def noised(x0: Tensor, sigma: Tensor, draws: Draws) -> Tensor:
    """A draw of q(x_sigma | x0) (B, C, H, W) at one level sigma () of the whole batch; x0 itself at 0."""
    return x0 + float(sigma) * draws.normal(*x0.shape[1:])


def chain(denoiser: Denoiser, x: Tensor, sigmas: Tensor, labels: Tensor | None, draws: Draws) -> Tensor:
    """The reverse chain from x (B, C, H, W) over descending sigmas (S + 1,), in one stretch or step by step."""
    return ancestral(denoiser, x, sigmas, labels, draws, posterior_variance, clip=True)


def edited(denoiser: Denoiser, guide: Tensor, sigmas: Tensor, labels: Tensor | None, draws: Draws, repeats: int = 1) -> Tensor:
    """SDEdit (arXiv 2108.01073, algorithm 4): noise the guide (B, C, H, W) to sigmas[0], come back down; `repeats` K times.

    sigmas (S + 1,) descend to 0; sigmas of 0 alone return the guide.
    """
    x = guide
    for _ in range(repeats):
        x = chain(denoiser, noised(x, sigmas[0], draws), sigmas, labels, draws)
    return x


def low_pass(x: Tensor, factor: int) -> Tensor:
    """phi_N (B, C, H, W): means of N x N blocks, each repeated over its block; sides divisible by N.

    An orthogonal projection: phi(phi(x)) = phi(x), so that a refined state has exactly the low frequencies it was given, and white noise
    of two states joined along it stays white. What phi_2N keeps, phi_N keeps too.
    """
    height, width = x.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(f"factor must divide the sides of the model's images, and {factor} does not divide {height} x {width}")
    return F.avg_pool2d(x, factor).repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def refined(
    denoiser: Denoiser,
    x: Tensor,
    reference: Tensor,
    sigmas: Tensor,
    refinements: int,
    factor: int,
    labels: Tensor | None,
    draws: Draws,
) -> Tensor:
    """ILVR: the chain from x over sigmas (S + 1,) that end in 0, its first `refinements` steps refined by the reference (B, C, H, W)."""
    for step, pair in enumerate(sigmas.unfold(0, 2, 1)):
        x = chain(denoiser, x, pair, labels, draws)
        if step < refinements:
            x = x + low_pass(noised(reference, pair[1], draws) - x, factor)
    return x
