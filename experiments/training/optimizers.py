"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from experiments.config import TrainConfig
from experiments.training.batches import StepPlan

#: For both forms of RMSprop. Source: EfficientNet, section 5.2, and the official code.
RMSPROP_DECAY = 0.9
RMSPROP_EPS = 1e-3
#: Images per step that a recipe's learning rate is for. Source: the official EfficientNet code.
REFERENCE_BATCH = 256


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The network's parameters in two groups; only those of several dimensions decay, so batch norm
    and biases do not."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decaying = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def make_optimizer(network: nn.Module, config: TrainConfig, rate: Tensor) -> torch.optim.Optimizer:
    """The configured optimiser, whose learning rate in each step is the value of `rate`."""
    groups = parameter_groups(network, config.weight_decay)
    momentum, capturable = config.momentum, rate.is_cuda
    match config.optimizer:
        case "sgd":
            return torch.optim.SGD(
                groups, rate, momentum=momentum, nesterov=momentum > 0, fused=True
            )
        case "rmsprop":
            return torch.optim.RMSprop(
                groups,
                rate,
                alpha=RMSPROP_DECAY,
                eps=RMSPROP_EPS,
                momentum=momentum,
                foreach=True,
                capturable=capturable,
            )
        case "rmsprop_tf":
            return RMSpropTF(groups, rate, momentum=momentum)
        case "adamw":
            return torch.optim.AdamW(
                groups, rate, betas=(momentum, 0.999), fused=True, capturable=capturable
            )


class RMSpropTF(torch.optim.Optimizer):
    """TensorFlow's RMSprop: epsilon inside the square root, the learning rate inside the momentum.

    s ← decay·s + (1 − decay)·g², initially 1; m ← momentum·m + rate·g / √(s + eps); w ← w − m.
    Weight decay is added to g (L2). Source: `tf.train.RMSPropOptimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: Tensor,
        *,
        decay: float = RMSPROP_DECAY,
        momentum: float = 0.9,
        eps: float = RMSPROP_EPS,
    ) -> None:
        defaults = {"lr": lr, "decay": decay, "momentum": momentum, "eps": eps, "weight_decay": 0.0}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(weights, group)

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["square"] = torch.ones_like(weight)
                self.state[weight]["moment"] = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        squares = [self.state[weight]["square"] for weight in weights]
        moments = [self.state[weight]["moment"] for weight in weights]

        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        torch._foreach_mul_(squares, group["decay"])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["decay"])
        roots = torch._foreach_add(squares, group["eps"])
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(moments, group["momentum"])
        updates = torch._foreach_div(gradients, roots)
        torch._foreach_mul_(updates, group["lr"])
        torch._foreach_add_(moments, updates)
        torch._foreach_sub_(weights, moments)


def learning_rate(step: int, config: TrainConfig, plan: StepPlan, epochs: int) -> float:
    """The learning rate of step 0, 1 … in a training run of `epochs`, each as `plan` says.

    The peak is `config.learning_rate` · batch size / 256. The rate rises to it linearly during the
    warm-up, which is limited to a quarter of the training run (assumed), then falls to 0 by a
    cosine (SGDR, equation 5, one cycle) or linearly. The exponential schedule multiplies the peak
    by `decay_rate` for every whole `decay_epochs` since the start (the official EfficientNet code).
    """
    peak = config.learning_rate * plan.batch_size / REFERENCE_BATCH
    warmup = round(min(config.warmup_epochs, epochs / 4) * plan.steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    if config.schedule == "exponential":
        decays = step // (config.decay_epochs * plan.steps)
        return float(peak * config.decay_rate**decays)
    progress = (step - warmup) / (epochs * plan.steps - warmup)
    if config.schedule == "linear":
        return peak * (1 - progress)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))
