"""How near images are to what they should look like: PSNR, structural similarity, distance of features. One number an image, then means.

Several images may stand for one original; images of one original are alike, so blocks of originals are left out, not blocks of images.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.intervals import jackknifed
from bench.measures import Measure, measured
from bench.metrics.frechet import BLOCKS

WINDOW = 7
ROUNDING = 1 / 12  # variance of rounding to whole grey levels: an error below it cannot show, which bounds PSNR at 58.9 dB


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (N,) in dB of uint8 (N, ...): 10 log10(255^2 / mean squared error), at most 58.9."""
    error = (images.double() - targets.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(255**2 / error.clamp(min=ROUNDING))


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity (N,) of uint8 (N, ..., C, H, W) (Wang et al. 2004, doi 10.1109/TIP.2003.819861, eq. 13), averaged over windows.

    Flat windows of 7 x 7 inside the image, unbiased variances, K1 = 0.01, K2 = 0.03, range 255.
    """
    x, y = (part.double().flatten(1, -3) for part in (images, targets))  # each channel of each frame by itself
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    mean_x, mean_y = _windows(x), _windows(y)
    var_x, var_y = (unbiased * (_windows(v.square()) - m.square()) for v, m in ((x, mean_x), (y, mean_y)))
    covariance = unbiased * (_windows(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return (luminance * (2 * covariance + c2) / (var_x + var_y + c2)).flatten(1).mean(1)


def feature_distance(features: Tensor, targets: Tensor, spread: float) -> Tensor:
    """|f - g| (N,) of features (N, d), in units of the root mean square distance sqrt(2 * spread) of two real images.

    `spread` is the trace of the real images' covariance: 0 is the same image, about 1 an unrelated one.
    """
    return (features.double() - targets.double()).norm(dim=1) / (2 * spread) ** 0.5


def averaged(values: Tensor, originals: Tensor, method: str) -> Measure:
    """The mean of values (N,), with the interval of a jackknife over blocks of the originals (N,) that they belong to."""
    count = int(originals.max()) + 1
    blocks = min(BLOCKS, count)
    if blocks < 2:
        return measured(float(values.mean()), n=len(values), method=method)
    block = originals * blocks // count
    without = [float(values[block != b].mean()) for b in range(blocks)]
    return jackknifed(float(values.mean()), without, n=len(values), method=f"{method}; {count} originals")


def _windows(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, WINDOW, stride=1)
