"""Parameters and buffers of a model, each storage counted once."""

from torch import Tensor, nn


def parameter_count(model: nn.Module) -> int:
    """Numbers in all parameters; tied weights count once."""
    return sum(p.numel() for p in _unique(list(model.parameters())))


def buffer_bytes(model: nn.Module) -> int:
    """Bytes of all buffers: schedules, statistics, retrieval indexes."""
    return sum(b.numel() * b.element_size() for b in _unique(list(model.buffers())))


def _unique(tensors: list[Tensor]) -> list[Tensor]:
    return list({t.untyped_storage().data_ptr(): t for t in tensors if t.numel()}.values())
