"""Bottleneck adapters: the classic one (Houlsby et al. 2019) and LRAdapter (LG-MedSeg, eq. 3-4)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SerialAdapter(nn.Module):
    """Classic adapter `A(x) = W_up act(W_down x)`, without biases. (..., d) -> (..., d).

    Zero at initialisation: `W_up` is zero.

    Args:
        width: d.
        bottleneck: r, the inner width.
    """

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck, bias=False)
        self.up = nn.Linear(bottleneck, width, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.gelu(self.down(x)))


class LRAdapter(nn.Module):
    """Low-rank adapter `A(x) = (U_up V_up) act((U_down V_down) x)`. (..., d) -> (..., d).

    `U_down` (r, k), `V_down` (k, d), `U_up` (d, k), `V_up` (k, r). Zero at initialisation: `U_up` is zero.
    `tied` shares the factors of both projections, `U_up = V_downᵀ` and `V_up = U_downᵀ`; then no factor
    can be zero without stopping the gradient, so a scalar gate that starts at zero is added.

    Args:
        width: d.
        bottleneck: r.
        rank: k; beyond min(d, r) it adds weights but no capacity.
        tied: whether the up factors are the transposed down factors.
    """

    def __init__(self, width: int, bottleneck: int, rank: int, *, tied: bool = False) -> None:
        super().__init__()
        self.tied = tied
        self.v_down = nn.Parameter(torch.empty(rank, width))
        self.u_down = nn.Parameter(torch.empty(bottleneck, rank))
        for factor in (self.v_down, self.u_down):
            nn.init.kaiming_uniform_(factor, a=5**0.5)
        if tied:
            self.gate = nn.Parameter(torch.zeros(()))
            return
        self.v_up = nn.Parameter(torch.empty(rank, bottleneck))
        self.u_up = nn.Parameter(torch.zeros(width, rank))
        nn.init.kaiming_uniform_(self.v_up, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(F.linear(F.linear(x, self.v_down), self.u_down))
        if self.tied:
            return self.gate * F.linear(F.linear(hidden, self.u_down.t()), self.v_down.t())
        return F.linear(F.linear(hidden, self.v_up), self.u_up)
