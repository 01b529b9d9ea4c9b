"""Training of a denoiser of clips, alone or jointly with independent frames.

Ho et al. 2022 (arXiv 2204.03458, section 3): to each clip k frames of other clips are appended, which attention over time passes by.
"""

from dataclasses import replace

import torch
from torch import Tensor

from bench.contract import Kit
from bench.data.images import to_model
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.diffusion.schedules import alpha_bar_of
from bench.nets.ema import seeded
from bench.nets.space_time import SpaceTimeUNet
from bench.training.noise_prediction import LABEL_DROPOUT, backbone
from bench.training.train import Loss, drop_labels, noise_like, train

STILLS = 500  # stream of the independent frames: the clips, and their noise, are the same with and without them


def build_clip_denoiser(kit: Kit) -> EpsDenoiser:
    """An untrained noise-prediction denoiser of the kit's clips, T = 1000 linear."""
    space = backbone(kit)
    with seeded(kit.seed + STILLS):
        return EpsDenoiser(SpaceTimeUNet(space, kit.workload.shape[0], kit.images.shape[1])).to(kit.device)


def fit_clip_denoiser(denoiser: EpsDenoiser, kit: Kit, image_frames: int, what: str) -> EpsDenoiser:
    """Train it on the kit's clips, each with `image_frames` independent frames, with label dropout 0.1.

    A step takes as many clips as hold the frames of the budget's batch, and there are as many steps as the budget has of them, whatever
    the number of independent frames (table 4 compares at equal steps). Progress counts frames.
    """
    frames = kit.images.shape[1]
    each, clips = frames + image_frames, max(1, kit.budget.train_batch // frames)

    def in_frames(what: str, done: int, total: int) -> None:
        kit.progress(what, done * each, total * each)

    by_clips = replace(kit, budget=replace(kit.budget, train_batch=clips), progress=in_frames)
    return train(denoiser, clip_loss(denoiser, kit, image_frames), by_clips, images_seen=kit.budget.train_images // frames, what=what)


def clip_loss(denoiser: EpsDenoiser, kit: Kit, image_frames: int) -> Loss:
    """E_t |eps - net(x_t, t, y)|^2 over the frames of clips (B, F, C, H, W) and the independent frames, which have labels of their own."""
    table, null = alpha_bar_of(denoiser.sigmas), denoiser.null
    own = torch.Generator(kit.device).manual_seed(kit.seed * 1009 + STILLS)

    def loss(clips: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        abar = table[t := torch.randint(len(table), (len(clips),), generator=generator, device=clips.device)]
        signal, sigma = (part.float()[:, None, None, None] for part in (abar.sqrt(), (1 - abar).sqrt()))
        kept = drop_labels(labels, LABEL_DROPOUT, null, generator)[:, None].expand(clips.shape[:2])
        x0, noise = clips, noise_like(clips, generator)
        if image_frames:
            stills, of_stills = drawn_stills(kit, len(clips), image_frames, own)
            x0, noise = torch.cat([x0, stills], dim=1), torch.cat([noise, noise_like(stills, own)], dim=1)
            kept = torch.cat([kept, drop_labels(of_stills, LABEL_DROPOUT, null, own)], dim=1)
        x0, noise = x0.flatten(1, 2), noise.flatten(1, 2)
        return (denoiser.net(signal * x0 + sigma * noise, t.float(), kept, image_frames) - noise).square().mean()

    return loss


def drawn_stills(kit: Kit, count: int, each: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Frames (count, each, C, H, W) of random clips at random times, as model images, and their labels (count, each)."""
    clip, time = (
        torch.randint(limit, (count, each), generator=generator, device=kit.device) for limit in (len(kit.images), kit.images.shape[1])
    )
    return to_model(kit.images[clip, time]), kit.labels[clip]
