"""Numbers of a batch: one for all of its images, and one for each as a factor of its pixels."""

import torch
from torch import Tensor


def everywhere(value: float, like: Tensor) -> Tensor:
    """One noise level or time for the whole batch `like` (B, ...): (B,) float64 on its device."""
    return torch.full((like.shape[0],), value, dtype=torch.float64, device=like.device)


def column(values: Tensor, like: Tensor) -> Tensor:
    """Values (B,) as a factor (B, 1, 1, 1) of images, in the dtype of `like`."""
    return values.to(like.dtype)[:, None, None, None]
