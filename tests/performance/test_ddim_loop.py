"""Our DDIM loop against diffusers' pipeline: same network, weights, noise, device and run. Times are printed; only equality is asserted.

The fast network (compiled, channels last, in bfloat16 where the device multiplies in it) is offered to both loops, so that the
pipeline has it as a rival too.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn

from bench.data.images import to_uint8
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.diffusion.draws import SeededDraws
from bench.diffusion.grids import leading
from bench.diffusion.loops import ddim
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.harness.assets.compiled import number_format
from bench.meters.latency import timed
from bench.nets.ema import seeded
from tests.performance.ratios import Comparison, compare

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ON_GPU = DEVICE.type == "cuda"
IN_BFLOAT16 = number_format(DEVICE) is torch.bfloat16
STEPS = 20
BATCHES = (16, 512) if ON_GPU else (1, 16, 64)
TINY = {
    "sample_size": 16, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "block_out_channels": (32, 64), "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
DDPM_CIFAR = {  # 35.7 million parameters (arXiv 2006.11239, appendix B)
    "sample_size": 32, "in_channels": 3, "out_channels": 3, "layers_per_block": 2, "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
GOALS = ("2.5x at batch 512", "1.0x at batch 512, 1.3x at 16") if ON_GPU else ("1.3x at batch 64", "1.0x")  # default, fast pipeline
needs_bfloat16 = pytest.mark.skipif(not IN_BFLOAT16, reason="this processor does not multiply in bfloat16")


class Adapted(nn.Module):
    """diffusers' network behind our call."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return self.net(x, t).sample


class Fast(nn.Module):
    """A copy of diffusers' network, behind the same call: of this number format, channels last, compiled at its first call.

    It takes and gives float32, since either loop keeps its state so.
    """

    def __init__(self, net: UNet2DModel, dtype: torch.dtype) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).to(dtype).to(memory_format=torch.channels_last)
        self.net.compile(dynamic=False)
        self.config, self.device, self.dtype, self.inside = net.config, net.device, torch.float32, dtype

    def forward(self, x: Tensor, t: Tensor) -> UNet2DOutput:
        (made,) = self.net(x.to(self.inside, memory_format=torch.channels_last), t, return_dict=False)
        return UNet2DOutput(sample=made.float())


def network() -> UNet2DModel:
    with seeded(0):
        return UNet2DModel(**(DDPM_CIFAR if ON_GPU else TINY)).eval().to(DEVICE)


def ours(net: UNet2DModel | Fast, batch: int, steps: int = STEPS) -> Callable[[], Tensor]:
    """Our loop's images (B, C, H, W) in [-1, 1], not yet clipped."""
    denoiser, sigmas = EpsDenoiser(Adapted(net)).to(DEVICE), leading(sigma_of(linear_alpha_bar()), steps)
    labels = torch.zeros(batch, dtype=torch.long, device=DEVICE)
    shape = (batch, net.config.in_channels, net.config.sample_size, net.config.sample_size)

    def sample() -> Tensor:
        noise = torch.randn(shape, generator=torch.Generator(DEVICE).manual_seed(0), device=DEVICE)
        return ddim(denoiser, noise * float((1 + sigmas[0] ** 2) ** 0.5), sigmas, labels, SeededDraws(labels))

    return sample


def grey_levels(sample: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """With the way to uint8, which the pipeline's time has too."""

    def whole() -> Tensor:
        x = sample()
        return to_uint8(x, tuple(x.shape[1:]))

    return whole


def theirs(net: UNet2DModel | Fast, batch: int, steps: int = STEPS) -> Callable[[], Tensor]:
    """The pipeline's images (B, H, W, C) in [0, 1]."""
    pipeline = DDIMPipeline(net, DDIMScheduler(clip_sample=False, timestep_spacing="leading"))
    pipeline.set_progress_bar_config(disable=True)

    def sample() -> Tensor:
        generator = torch.Generator(DEVICE).manual_seed(0)
        return torch.from_numpy(pipeline(batch_size=batch, generator=generator, num_inference_steps=steps, output_type="np").images)

    return sample


def assert_alike(mine: Callable[[], Tensor], other: Callable[[], Tensor]) -> None:
    """Within a grey level on 99.9 % of pixels."""
    away = (other() * 255).round().permute(0, 3, 1, 2) - mine().cpu()
    assert float((away.abs() <= 1).double().mean()) >= 0.999


def tell_compilation(seconds: float, found: Comparison, batch: int) -> None:
    """Seconds of the first call, and how many images it takes to win them back."""
    saved = (found.theirs_s - found.ours_s) / batch
    even = f"{seconds / saved:,.0f} images" if saved > 0 else "never"
    print(f"compilation and first call, batch {batch}: {seconds:.1f} s, not in the times above; break-even: {even}")


@pytest.fixture
def uncompiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing compiled before is found, in memory or on disk, so that the seconds of compilation are those of a first use."""
    torch.compiler.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("batch", BATCHES)
@torch.no_grad()
def test_ddim_loop_against_the_pipeline(batch: int) -> None:
    net = network()
    mine, other = grey_levels(ours(net, batch)), theirs(net, batch)
    assert_alike(mine, other)
    goal = "1.15x at batch 16, 1.0x at 512" if ON_GPU else "1.0x"
    compare(f"DDIM loop against DDIMPipeline, float32, batch {batch}, {STEPS} steps, {DEVICE}", mine, other, DEVICE, goal)


@pytest.mark.timeout(600)
@pytest.mark.skipif(ON_GPU, reason="of processors; a GPU has its own")
@pytest.mark.usefixtures("uncompiled")
@torch.no_grad()
def test_compiled_loop_on_a_processor() -> None:
    net, batch = network(), 64
    mine, other = grey_levels(ours(Fast(net, torch.float32), batch)), theirs(net, batch)
    seconds = timed(mine, DEVICE)
    assert_alike(mine, other)
    name = f"DDIM loop, compiled and channels last, against DDIMPipeline, float32, batch {batch}, {STEPS} steps, {DEVICE}"
    tell_compilation(seconds, compare(name, mine, other, DEVICE, "1.3x"), batch)


@pytest.mark.timeout(600)
@needs_bfloat16
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.usefixtures("uncompiled")
@torch.no_grad()
def test_fast_loop_in_bfloat16(batch: int) -> None:
    net = network()
    fast = Fast(net, torch.bfloat16)
    mine, default, rival = grey_levels(ours(fast, batch)), theirs(net, batch), theirs(fast, batch)
    seconds = timed(mine, DEVICE)
    of = f"DDIM loop in bfloat16, compiled, against DDIMPipeline, batch {batch}, {STEPS} steps, {DEVICE}"
    tell_compilation(seconds, compare(f"{of}, its float32 default", mine, default, DEVICE, GOALS[0]), batch)
    compare(f"{of}, the same fast network", mine, rival, DEVICE, GOALS[1])


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("uncompiled")
@torch.no_grad()
def test_difference_after_fifty_steps() -> None:
    """Of images in [-1, 1]; in full float32, as TF32 rounds by 2^-11. Untrained images are mostly clipped, and steep between."""
    net, batch = network(), 16
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        plain, pipeline = ours(net, batch, 50)().clamp(-1, 1).cpu(), theirs(net, batch, 50)().permute(0, 3, 1, 2) * 2 - 1
        away = float((plain - pipeline).abs().max())
    print(f"\nlargest difference after 50 steps, ours against DDIMPipeline, float32, {DEVICE}: {away:.2g}; goal at most 1e-4")
    assert away <= 1e-3
    if IN_BFLOAT16:
        off = (ours(Fast(net, torch.bfloat16), batch, 50)().clamp(-1, 1).cpu() - plain).abs()
        print(f"difference after 50 steps, bfloat16 against float32: largest {float(off.max()):.2g}, mean {float(off.mean()):.2g}")
