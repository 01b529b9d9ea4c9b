"""Mask-and-replace diffusion of an autoencoder's codes: the model, its loss and its sampling loop."""

import itertools

import torch
from torch import Tensor, nn

from bench.contract import Request
from bench.data.images import padded, to_uint8
from bench.diffusion.categorical import draw, log_onehot
from bench.nets.codebook import CodebookAutoencoder, CodeDecoder
from bench.nets.unet import UNet
from strategies.eds.state_space.vq_diffusion.mask_replace import (
    Level,
    extrapolated,
    linear_levels,
    log_marginal,
    log_posterior,
    log_prior,
    step_divergence,
    truncated,
)


class TokenModel(nn.Module):
    """The network of x0's codes, the decoder of codes, and the levels `keep`, `masked` (T + 1,); the mask is code K."""

    keep: Tensor
    masked: Tensor

    def __init__(self, net: UNet, decoder: CodeDecoder, codes: int, chain: int) -> None:
        super().__init__()
        self.net, self.decoder, self.codes, self.chain = net, decoder, codes, chain
        levels = linear_levels(chain)
        self.register_buffer("keep", levels.keep)
        self.register_buffer("masked", levels.masked)

    def level(self, t: Tensor) -> Level:
        """The levels of tokens (B, h, w) at times t (B,) in 0..T."""
        return Level(keep=self.keep[t][:, None, None], masked=self.masked[t][:, None, None])

    def log_x0(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """log p(x0 | x_t) (B, h, w, K), float64, for tokens x (B, h, w) in 0..K and times t (B,) in 1..T."""
        hot = nn.functional.one_hot(x, self.codes + 1).movedim(-1, 1).float()
        logits: Tensor = self.net(hot, 1000.0 * t / self.chain, labels)
        return logits.movedim(1, -1).double().log_softmax(-1)

    def guided(self, x: Tensor, t: Tensor, labels: Tensor, scale: float) -> Tensor:
        """`log_x0` under guidance, by one call of doubled batch; at scale 1 it is the conditional one at its own cost."""
        if scale == 1:
            return self.log_x0(x, t, labels)
        both = torch.cat([labels, torch.full_like(labels, self.net.null)])
        conditional, free = self.log_x0(x.repeat(2, 1, 1), t.repeat(2), both).chunk(2)
        return extrapolated(conditional, free, scale)

    def terms(self, x0: Tensor, t: Tensor, uniform: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(the bound's term at time t, the auxiliary -log p(x0 | x_t)), in nats a token (B, h, w), with x_t drawn from q(x_t | x0)."""
        x = draw(log_marginal(log_onehot(x0, self.codes), self.level(t)), uniform)
        log_x0 = self.log_x0(x, t, labels)
        return step_divergence(log_x0, x0, x, self.level(t), self.level(t - 1)), -log_x0.gather(-1, x0[..., None]).squeeze(-1)


def sample_tokens(model: TokenModel, request: Request, times: Tensor, scale: float, truncation: float) -> Tensor:
    """The chain over descending times (S,) in 1..T that begin at T, then to 0, and one decoding: uint8 (B, C, H, W)."""
    draws, (_, height, width), factor = request.draws(), padded(request.shape), CodebookAutoencoder.factor
    grid = (height // factor, width // factor)
    at = [torch.full((len(request),), t, device=request.device) for t in (*times.tolist(), 0)]
    x = draw(log_prior(model.level(at[0]), model.codes), draws.uniform(*grid))
    for high, low in itertools.pairwise(at):
        log_x0 = truncated(model.guided(x, high, request.labels, scale), truncation)
        x = draw(log_posterior(log_x0, x, model.level(high), model.level(low)), draws.uniform(*grid))
    return to_uint8(model.decoder(x), request.shape)
