"""The best few steps of a long chain: cheapest paths through a table of the costs of all steps.

Watson et al. 2021 (arXiv 2106.03802, section 4): a bound is a sum over the steps taken, and one pass of the network at level t gives the
costs of the steps from t to every lower level.
"""

import torch
from torch import Tensor

from bench.diffusion.gaussian import forward_variance
from bench.diffusion.likelihood import divergence_terms

LONGEST = 256  # steps, as far as the paper's tables go


def step_costs(sigmas: Tensor, error: Tensor, decoder: Tensor) -> Tensor:
    """L (T + 1, T + 1) in nats a pixel (eq. 17): row t to column s, of the data (0) and the levels 1..T; infinite unless s < t.

    The increasing `sigmas`, the mean square `error` of x0's estimate and the `decoder`'s -log p(x0 | x) at these levels are (T,). The
    variance of the steps is beta, 'fixed large'.
    """
    high, low = sigmas[:, None], sigmas[None, :]
    constant, factor = divergence_terms(high, low, forward_variance(high, low))
    costs = sigmas.new_full((len(sigmas) + 1, len(sigmas) + 1), torch.inf)
    costs[1:, 1:] = (constant + factor * error[:, None]).where(low < high, torch.inf)
    costs[1:, 0] = decoder
    return costs


def cheapest_paths(costs: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """(cost (K,), nodes (K, K + 1) int64) of the cheapest paths of 1..K = `longest` steps from the last node down to node 0.

    costs (N, N) as in `step_costs`. Row k - 1 of the nodes begins N - 1, ..., 0, its k + 1 nodes, and is 0 from there on; where there is no
    path of k steps its cost is infinite and its nodes mean nothing. Algorithms 1 and 2 of the paper.
    """
    reached, cost, before = costs[:, 0], [], []
    before.append(torch.zeros(len(costs), dtype=torch.long, device=costs.device))
    cost.append(reached[-1])
    for _ in range(longest - 1):
        reached, from_ = (costs + reached).min(1)
        before.append(from_)
        cost.append(reached[-1])
    table, left = torch.stack(before), torch.arange(longest, device=costs.device)  # steps left, less one
    nodes = [torch.full_like(left, len(costs) - 1)]
    for _ in range(longest):
        nodes.append(table[left.clamp_min(0), nodes[-1]].where(left >= 0, 0))
        left = left - 1
    return torch.stack(cost), torch.stack(nodes, dim=1)
