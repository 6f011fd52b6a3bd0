"""Muon: momentum, orthogonalised before each step (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

For the matrices inside the blocks only; embeddings and norms go to AdamW. PyTorch's own Muon iterates in bfloat16,
which a processor without bfloat16 units emulates some ten times slower: this one stays in the dtype of the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

# The quintic a*X + b*(X X^T) X + c*(X X^T)^2 X pushes all singular values towards 1 in five turns.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
TURNS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """A matrix (M, N) with the singular vectors of ``matrix`` and all singular values between about 0.7 and 1.2."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(TURNS):
        gram = x @ x.T
        x = a * x + torch.addmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, scaled so that tall and wide matrices move alike.

    ``lr`` is the root mean square change that a step makes to the outputs of a matrix whose inputs are of size 1.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Change every parameter by its gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(state["momentum"], group["momentum"])
                scale = math.sqrt(max(1.0, parameter.shape[0] / parameter.shape[1]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(orthogonalise(ahead), alpha=-group["lr"] * scale)
