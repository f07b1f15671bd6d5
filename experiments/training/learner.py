"""A network in training: its weights, their moving average, and the optimiser's state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.config import TrainConfig
from experiments.training import distributed
from experiments.training.acceleration import accelerate
from experiments.training.cuda_graphs import CapturedStep, CudaGraph, Step
from experiments.training.distributed import ALONE, Replica
from experiments.training.half_weights import HalfWeights
from experiments.training.optimizers import make_optimizer
from space.blocks import Dropout
from space.network import Network

#: Temperature of knowledge distillation, and its part of the loss. Source: Touvron et al. 2021
#: (DeiT), section 4, soft distillation: τ = 3, λ = 0.1.
TEMPERATURE, DISTILLATION = 3.0, 0.1


class Learner:
    """Takes training steps with `network`, on its device and channels last.

    `averaged` is what is measured: a copy whose weights and batch-norm statistics are moving
    averages of the network's (the network itself if the configuration does not average).
    `generator` draws what the network drops. What changes from step to step (rate, decays) is a
    tensor on the device, so that a captured step can be replayed. Replicas each see their share of
    a batch and take the whole batch's step. A batch in several `pieces`, whose gradients are added
    up, needs the memory of one piece, but batch norm then sees only a piece at a time. The loss of
    an image is multiplied by its class's of `class_weights` (classes). The network also learns from
    the outputs of a trained `teacher` for the same images, enlarged to its resolution.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainConfig,
        device: torch.device,
        replica: Replica = ALONE,
        pieces: int = 1,
        class_weights: Tensor | None = None,
        teacher: Network | None = None,
    ) -> None:
        self._class_weights = class_weights
        self._teacher = teacher and teacher.to(device).eval()
        self.network = distributed.with_synchronized_norms(network.to(device), replica, device)
        accelerate(self.network, device)
        self._averaged = copy.deepcopy(self.network) if config.ema_decay else self.network
        self.generator = _drawing(self.network, torch.Generator(device))
        self.steps = 0
        self._config, self._device, self._replica = config, device, replica
        self._pieces = pieces
        self._rate, self._decay, self._norm_decay = (
            torch.zeros((), device=device) for _ in range(3)
        )
        self.optimizer = make_optimizer(self.network, config, self._rate)
        self._norms = _Norms(self.network)
        self._averages, average_counts = _by_type(self._averaged)
        self._values, counts = _by_type(self.network)
        self._counts = [*counts, *(average_counts if config.ema_decay else ())]
        # The hooks of data parallelism are on the weights themselves.
        in_half = replica.size == 1 and mixes_precision(device)
        self._half_weights = HalfWeights(self.network) if in_half else None
        self._call: Callable[[Tensor], Tensor] = self._half_weights or distributed.data_parallel(
            self.network, replica
        )

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy; `class_weights` weigh each image, not the mean's denominator."""
        smoothing, weights = self._config.label_smoothing, self._class_weights
        if weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=smoothing)
        return F.cross_entropy(
            logits, targets, weights, label_smoothing=smoothing, reduction="none"
        ).mean()

    @torch.no_grad()
    def _taught(self, teacher: Network, images: Tensor) -> Tensor:
        """What the teacher puts out for the images, at its own resolution."""
        side = teacher.architecture.resolution
        if images.shape[-1] != side:
            images = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        with mixed_precision(self._device):
            logits: Tensor = teacher(images)
        return logits.float()

    @property
    def averaged(self) -> nn.Module:
        """The network whose accuracy is measured."""
        self._count_batches()
        return self._averaged

    def turn_to(self, rate: float) -> None:
        """Prepares the next step, at learning rate `rate`."""
        self.steps += 1
        self._rate.fill_(rate)
        self._decay.fill_(warm_decay(self.steps, self._config.ema_decay))
        self._norm_decay.fill_(warm_decay(self.steps, 1 - self._norms.momentum))

    def step(self, images: Tensor, targets: Tensor) -> Tensor:
        """Takes one step of the optimiser and returns the mean loss, on the device.

        `targets` are classes (N) or their probabilities (N × classes). Never waits for the device,
        so a CUDA graph can capture it.
        """
        self.optimizer.zero_grad()
        total = torch.zeros((), device=images.device)
        if self._half_weights is not None:
            self._half_weights.renew()
        pieces = zip(images.chunk(self._pieces), targets.chunk(self._pieces), strict=True)
        with self._norms.averaged(self._norm_decay):
            for number, (some, wanted) in enumerate(pieces, 1):
                self._norms.blend(number)
                total += self._learn(some, wanted, len(some) / len(images))[0]
        if self._config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self._config.clip_norm)
        self.optimizer.step()
        if self._config.ema_decay:
            _blend(self._averages, self._values, self._decay)
        return total

    def _learn(self, images: Tensor, targets: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Adds the gradients of a piece, a `share` of the batch; gives its loss and its logits."""
        with mixed_precision(self._device):
            logits = self._call(images)
        logits = logits.float()
        loss = self._loss(logits, targets)
        if self._teacher is not None:
            taught = distillation(logits, self._taught(self._teacher, images), TEMPERATURE)
            loss = loss.lerp(taught, DISTILLATION)
        loss = loss * share
        loss.backward()  # type: ignore[no-untyped-call]
        if self._half_weights is not None:
            self._half_weights.collect()
        return loss.detach(), logits.detach()

    def captured(self, step: Step) -> Step:
        """On a GPU, `step` (which calls `self.step`) as a CUDA graph.

        Not if several processes train: a graph would hold their communication too, which has not
        been tested on GPUs.
        """
        if self._device.type != "cuda" or self._replica.size > 1:
            return step
        return CapturedStep(step, CudaGraph(self._device, self.generator), self.renew_generator)

    def renew_generator(self) -> None:
        """Draws from another generator in the same state: that of a failed capture is unusable."""
        fresh = torch.Generator(self._device)
        fresh.set_state(self.generator.get_state())
        self.generator = _drawing(self.network, fresh)

    def _count_batches(self) -> None:
        """Sets the counts of batches in batch norm, which torch would increment layer by layer."""
        for count in self._counts:
            count.fill_(self.steps)

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on from here: tensors and plain values."""
        self._count_batches()
        return {
            "network": self.network.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continues from `state`, which may come from another kind of device."""
        self.network.load_state_dict(state["network"])
        self._averaged.load_state_dict(state["averaged"])
        # Settings of this optimiser: those of another device say how to compute there (`fused`,
        # `capturable`), which also decides where torch keeps its counts of steps.
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict(state["optimizer"] | {"param_groups": groups})
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate
        self.steps = state["steps"]


class _Norms:
    """The batch norms of a network, whose statistics are averaged by a decay that is a tensor.

    torch takes the momentum as a number, which a captured step would repeat for ever. At momentum 1
    a step leaves only its own statistics, which are then blended with the earlier ones.
    """

    def __init__(self, network: nn.Module) -> None:
        self._norms = [
            each
            for each in network.modules()
            if isinstance(each, nn.BatchNorm2d | nn.SyncBatchNorm)
        ]
        momenta = {norm.momentum or 0.0 for norm in self._norms} or {0.0}
        assert len(momenta) == 1, "the batch norms of a network have one momentum"
        (self.momentum,) = momenta
        self._running = [
            tensor
            for norm in self._norms
            for tensor in (norm.running_mean, norm.running_var)
            if tensor is not None
        ]
        self._before = [tensor.clone() for tensor in self._running]

    @contextmanager
    def averaged(self, decay: Tensor) -> Iterator[None]:
        """Averages the statistics of the passes in the block into those before it:
        statistics ← decay · statistics + (1 − decay) · the block's."""
        if not self._norms:
            yield
            return
        torch._foreach_copy_(self._before, self._running)
        yield
        for norm in self._norms:
            norm.momentum = self.momentum
        _blend(self._before, self._running, decay)
        with torch.no_grad():
            torch._foreach_copy_(self._running, self._before)

    def blend(self, number: int) -> None:
        """Makes piece 1, 2 … of a step leave the mean statistics of all pieces so far."""
        for norm in self._norms:
            norm.momentum = 1.0 / number


@torch.no_grad()
def _blend(averages: list[Tensor], values: list[Tensor], decay: Tensor) -> None:
    """averages ← decay · averages + (1 − decay) · values."""
    if decay.is_cuda:  # a few launches for all tensors; `lerp` by a tensor takes one for each
        torch._foreach_sub_(averages, values)
        torch._foreach_mul_(averages, decay)
        torch._foreach_add_(averages, values)
    else:
        torch._foreach_lerp_(averages, values, [1 - decay] * len(averages))


def _drawing(network: nn.Module, generator: torch.Generator) -> torch.Generator:
    """Makes `network` draw what it drops from `generator`, which is returned."""
    for module in network.modules():
        if isinstance(module, Dropout):
            module.generator = generator
    return generator


def distillation(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """The mean divergence from the teacher's softened probabilities to the network's.

    Times the square of the temperature, so that its gradients do not shrink with it (Hinton et al.
    2015, section 2).
    """
    own, theirs = ((each / temperature).log_softmax(1) for each in (logits, taught))
    divergence = F.kl_div(own, theirs, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def _by_type(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and statistics, and the integers (batch norm's counts of batches)."""
    tensors = list(network.state_dict().values())
    return (
        [tensor for tensor in tensors if tensor.is_floating_point()],
        [tensor for tensor in tensors if not tensor.is_floating_point()],
    )


def mixes_precision(device: torch.device) -> bool:
    """Whether networks compute in bfloat16 on `device`."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 on a GPU that has it; on a CPU it halved the speed (measured: Zen 5, oneDNN)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=mixes_precision(device))


def warm_decay(step: int, most: float) -> float:
    """The decay of a moving average at step 1, 2 …: min(most, (1 + step) / (10 + step)).

    So an average covers a part of the steps so far, and not the initial weights. Source:
    TensorFlow's `ExponentialMovingAverage` with `num_updates`. Batch norm's statistics need it too:
    after 315 steps at momentum 0.01 they were still far from the images' (measured on CIFAR-10:
    0.03 more accuracy, and 0.07 to 0.22 after the first of five epochs).
    """
    return min(most, (1 + step) / (10 + step))
