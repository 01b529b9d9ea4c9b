"""Clips and single frames: attention over time that can be passed by, training alike but for the frames appended, honest counts."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bench.contract import Kit
from bench.data.clips import clips
from bench.data.images import to_model
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.nets.ema import frozen, seeded
from bench.nets.space_time import SpaceTimeUNet, TemporalAttention
from bench.nets.unet import UNet
from bench.registry import discover
from bench.testing.subject import Subject
from bench.training.video import build_clip_denoiser, clip_loss, drawn_stills, fit_clip_denoiser
from strategies.eps.training.vdm_joint import JointVDM
from tests.oracles import denoiser, kit_of


def lively(channels: int = 1, frames: int = 4) -> SpaceTimeUNet:
    with seeded(3):
        net = SpaceTimeUNet(UNet(channels, channels, 10, width=8), channels, frames)
        for p in net.parameters():
            if not p.any():
                nn.init.normal_(p, std=0.3)
    return frozen(net.double())  # type: ignore[return-value]


def inputs(count: int, depth: int) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(count, depth, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, torch.linspace(10, 900, count, dtype=torch.float64), torch.arange(count) % 10


@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_with_every_frame_apart_it_is_a_model_of_images(channels: int) -> None:
    net, (x, t, labels) = lively(channels), inputs(2, 4 * channels)
    apart = net(x, t, labels, 4)
    alone = torch.cat([net(frame, t, labels) for frame in x.split(channels, dim=1)], dim=1)
    assert torch.allclose(apart, alone, atol=1e-10, rtol=0)
    assert float((net(x, t, labels) - alone).abs().max()) > 1e-3
    nn.init.zeros_(net.time.out.weight)
    nn.init.zeros_(net.time.out.bias)
    shared = torch.cat([net.space(frame, t, labels) for frame in x.split(channels, dim=1)], dim=1)
    assert torch.allclose(net(x, t, labels), shared, atol=1e-10, rtol=0)


@torch.no_grad()
def test_independent_frames_neither_see_nor_are_seen() -> None:
    net, (x, t, labels) = lively(), inputs(2, 7)
    whole = net(x, t, labels, 3)
    assert torch.allclose(whole[:, :4], net(x[:, :4], t, labels), atol=1e-10, rtol=0)
    turned = torch.cat([x[:, :4], x[:, [6, 4, 5]]], dim=1)
    permuted = net(turned, t, labels, 3)
    assert torch.allclose(permuted[:, :4], whole[:, :4], atol=1e-10, rtol=0)
    assert torch.allclose(permuted[:, 4:], whole[:, [6, 4, 5]], atol=1e-10, rtol=0)
    assert float((net(turned, t, labels, 0)[:, :4] - net(x, t, labels, 0)[:, :4]).abs().max()) > 1e-4


@torch.no_grad()
def test_labels_may_be_of_each_frame() -> None:
    net, (x, t, labels) = lively(), inputs(3, 4)
    of_each = labels[:, None].expand(3, 4)
    assert torch.equal(net(x, t, labels), net(x, t, of_each))
    other = torch.cat([of_each[:, :3], of_each[:, 3:] + 1], dim=1)
    changed = (net(x, t, other, 1) - net(x, t, of_each, 1)).abs().amax(dim=(0, 2, 3))
    assert bool((changed[:3] == 0).all()) and float(changed[3]) > 1e-4
    assert torch.equal(net(x, t), net(x, t, torch.full((3,), 10)))


@torch.no_grad()
def test_attention_over_time_by_loops() -> None:
    """One position and head at a time, scores and weights in plain sums; a bias by the distance to the frame looked at."""
    with seeded(1):
        attention = TemporalAttention(16, reach=3, head=8).double()
        nn.init.normal_(attention.bias)
        nn.init.normal_(attention.out.weight)
    h = torch.randn(2 * 5, 16, 2, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q, k, v = attention.qkv(attention.norm(h)).chunk(3, dim=1)
    found = torch.zeros_like(h)
    for clip, place, head in ((c, p, n) for c in range(2) for p in range(2) for n in range(2)):
        own = slice(8 * head, 8 * head + 8)
        for frame in range(5):
            seen = [frame] if frame == 4 else range(4)  # the last is apart
            at = [5 * clip + other for other in seen]
            scores = [
                float(q[5 * clip + frame, own, place, 0] @ k[row, own, place, 0]) / 8**0.5
                + float(attention.bias[head, row % 5 - frame + 3])
                for row in at
            ]
            total = sum(math.exp(score) for score in scores)
            found[5 * clip + frame, own, place, 0] = sum(math.exp(s) / total * v[row, own, place, 0] for s, row in zip(scores, at))  # type: ignore[assignment]
    assert torch.allclose(attention(h, 5, 1), h + attention.out(found), atol=1e-12, rtol=0)


@torch.no_grad()
def test_bias_depends_on_the_distance_and_stays_at_its_end_beyond_reach() -> None:
    attention = TemporalAttention(32, reach=2)
    nn.init.normal_(attention.bias)
    bias = attention.biases(5, 0)[0]
    assert torch.equal(bias[1:, 1:], bias[:-1, :-1]) and float(bias[0, 1]) != float(bias[1, 0])
    assert float(bias[0, 4]) == float(bias[0, 2]) and float(bias[4, 0]) == float(bias[2, 0])
    assert torch.equal(attention.biases(5, 2)[0, :3, :3], bias[:3, :3])
    assert (attention.biases(5, 2)[0].isinf().int().sum(1) == torch.tensor([2, 2, 2, 4, 4])).all()


def clip_kit(count: int = 50, frames: int = 4, **budget: int) -> Kit:
    """Clips whose every pixel says of which clip and time it is."""
    numbers = torch.arange(count)[:, None] * frames + torch.arange(frames)
    images = numbers.to(torch.uint8)[:, :, None, None, None].expand(-1, -1, 1, 8, 8).contiguous()
    return replace(kit_of(images[:, 0], torch.arange(count) % 10, **budget), images=images)


def test_stills_are_frames_of_the_clips_with_their_labels() -> None:
    kit = clip_kit()
    stills, labels = drawn_stills(kit, 40, 3, torch.Generator().manual_seed(0))
    numbers = ((stills[:, :, 0, 0, 0] + 1) * 127.5).round().long()
    assert stills.shape == (40, 3, 1, 8, 8) and torch.equal(stills, to_model(kit.images.flatten(0, 1))[numbers])
    assert torch.equal(labels, numbers // 4 % 10) and (numbers % 4).unique().tolist() == [0, 1, 2, 3] and numbers.unique().numel() > 60


class Watched(nn.Module):
    """A network that keeps what it is shown."""

    null = 10

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor, Tensor, int]] = []

    def forward(self, x: Tensor, t: Tensor, labels: Tensor, apart: int) -> Tensor:
        self.seen.append((x, t, labels, apart))
        return torch.zeros_like(x)


def test_clips_their_noise_times_and_labels_are_alike_with_and_without_images() -> None:
    kit, watched, after = clip_kit(), Watched(), []
    batch, labels = to_model(kit.images[:6]), kit.labels[:6]
    for image_frames in (0, 3):
        loss, generator = clip_loss(EpsDenoiser(watched), kit, image_frames), torch.Generator().manual_seed(4)
        values = [float(loss(batch, labels, generator)) for _ in range(2)]
        assert all(0.8 < value < 1.2 for value in values)  # the noise's own variance, as the network says nothing
        after.append(generator.get_state())
    assert torch.equal(*after)
    for (x, t, kept, apart), (more, same, told, k) in zip(watched.seen[:2], watched.seen[2:], strict=True):
        assert (apart, k) == (0, 3) and more.shape == (6, 7, 8, 8) and torch.equal(t, same)
        assert torch.equal(more[:, :4], x) and torch.equal(told[:, :4], kept) and told.shape == (6, 7)
    assert not torch.equal(watched.seen[2][0][:, 4:], watched.seen[3][0][:, 4:])


@pytest.mark.parametrize(("frames", "image_frames"), [(4, 0), (4, 4), (8, 0)])
def test_progress_counts_frames_and_steps_are_equal(frames: int, image_frames: int) -> None:
    said: list[tuple[int, int]] = []
    kit = replace(clip_kit(20, frames, train_images=640, train_batch=32), progress=lambda _what, done, total: said.append((done, total)))
    fit_clip_denoiser(build_clip_denoiser(kit), kit, image_frames, "clips")
    assert said[-1] == (640 * (frames + image_frames) // frames,) * 2
    assert said[0][0] * 20 == said[-1][0]  # twenty steps


def test_images_do_change_what_is_learned() -> None:
    kit = clip_kit(20, 4, train_images=64, train_batch=32)
    alone, joint, again = (fit_clip_denoiser(build_clip_denoiser(kit), kit, k, "clips").state_dict() for k in (0, 2, 2))
    assert any(not torch.equal(alone[key], joint[key]) for key in alone) and all(torch.equal(joint[key], again[key]) for key in joint)


@torch.no_grad()
def test_bound_of_clips_is_that_of_pictures_with_a_channel_a_frame() -> None:
    """With a model whose every frame is on its own the bits of a clip are the mean of its frames' bits, up to the noise drawn."""
    subject = Subject("eps.training.vdm_joint", discover())
    images, labels = (part[:64] for part in subject.scene.likelihood_of)
    nn.init.zeros_(subject.model.net.time.out.weight)  # type: ignore[union-attr, arg-type]
    strategy = JointVDM(steps=10)
    whole = strategy.bits_per_dim(subject.model, images, subject.request(range(64), labels))
    frames = [strategy.bits_per_dim(subject.model, images[:, f : f + 1], subject.request(range(64), labels)) for f in range(4)]
    assert abs(float(whole.mean() / torch.stack(frames).mean()) - 1) < 0.05


@torch.no_grad()
def test_samples_are_the_chains_frames_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain's state is a picture of F * C channels; frame f of the clip is its f-th group of C."""

    def chain(_model: nn.Module, x: Tensor, *_rest: object, clip: bool) -> Tensor:
        assert clip and x.shape[1] == 12
        return torch.linspace(-1, 1, 12)[None, :, None, None].expand_as(x)

    monkeypatch.setattr("strategies.eps.training.vdm_joint.ancestral", chain)
    subject = Subject("eps.training.vdm_joint", discover())
    made = JointVDM().sample(denoiser(), replace(subject.request(), shape=(3, 8, 8)))
    assert made.shape == (4, 4, 3, 8, 8) and made[0, :, :, 0, 0].flatten().tolist() == [round(255 * k / 11) for k in range(12)]


def test_kit_of_the_task_holds_clips_that_the_network_is_built_for() -> None:
    subject = Subject("eps.training.vdm_joint", discover())
    kit = subject.scene.kit(kit_of(subject.scene.base.train_images, subject.scene.base.train_labels))
    assert torch.equal(kit.images, clips(subject.scene.base.train_images, 4))
    assert build_clip_denoiser(kit).net.time.reach == 3  # type: ignore[union-attr]


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="image_frames"):
        JointVDM(image_frames=-1)
    with pytest.raises(ValueError, match="steps"):
        JointVDM(steps=0)
