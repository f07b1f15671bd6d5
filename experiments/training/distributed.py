"""Data-parallel training: each process takes its share of every batch, with the same weights.

DistributedDataParallel averages gradients, and batch norm sees the whole batch. So the result is
that of one process, except for the order of sums, and for what the network drops at random, which
each process draws for its share.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from space.evaluation import Epoch, Interrupted, Report


@dataclass(frozen=True)
class Replica:
    """Which of `size` processes this is; the process of rank 0 reports and writes."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process reports and writes."""
        return self.rank == 0

    def of(self, count: int) -> slice:
        """This process's share of `count` things in a row; shares differ by one at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)


#: A process that trains by itself.
ALONE = Replica()


class _Decision(IntEnum):
    GO_ON = 0
    STOP = 1
    INTERRUPT = 2


@contextmanager
def process_group(replica: Replica, meeting: Path | None, device: torch.device) -> Iterator[None]:
    """Within the block, this process belongs to the group that meets at the file `meeting`."""
    if replica.size == 1:
        yield
        return
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"file://{meeting}",
        rank=replica.rank,
        world_size=replica.size,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def data_parallel(network: nn.Module, replica: Replica) -> nn.Module:
    """Wraps `network` so that a call gives it the gradients of the whole batch."""
    if replica.size == 1:
        return network
    return DistributedDataParallel(network, broadcast_buffers=False)


def agreed(report: Report, replica: Replica) -> Report:
    """Wraps `report` so that the first process calls it and all processes get its answer."""
    if replica.size == 1:
        return report

    def ask(epoch: Epoch) -> bool:
        decision = _Decision.GO_ON
        if replica.first:
            try:
                decision = _Decision(report(epoch))
            except Interrupted:
                decision = _Decision.INTERRUPT
        answer = [decision]
        dist.broadcast_object_list(answer)
        if answer[0] is _Decision.INTERRUPT:
            raise Interrupted
        return answer[0] is _Decision.STOP

    return ask


def mean_over_replicas(value: Tensor, replica: Replica) -> Tensor:
    """The mean of a tensor over all processes."""
    return (_summed(value) if replica.size > 1 else value) / replica.size


def _summed(value: Tensor) -> Tensor:
    summed = value.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(summed)
    return summed


def gather_rows(rows: Tensor, replica: Replica) -> Tensor:
    """All processes' rows, in their order."""
    if replica.size == 1:
        return rows
    parts: list[Tensor | None] = [None] * replica.size
    dist.all_gather_object(parts, rows.cpu())
    return torch.cat([each for each in parts if each is not None]).to(rows.device)


def with_synchronized_norms(
    network: nn.Module, replica: Replica, device: torch.device
) -> nn.Module:
    """`network` with batch norms that see the images of all processes."""
    if replica.size == 1:
        return network
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return converted
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _SynchronizedBatchNorm
    return network


class _SumOverReplicas(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


class _SynchronizedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes, for CPUs; torch's SyncBatchNorm needs GPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """N × C × H × W, normalised per channel."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = x.numel() / x.shape[1] * dist.get_world_size()  # the parts are equal
        total = _SumOverReplicas.apply
        mean = total(values.sum((0, 2, 3))) / count  # type: ignore[no-untyped-call]
        centred = values - mean[:, None, None]
        variance = total((centred * centred).sum((0, 2, 3))) / count  # type: ignore[no-untyped-call]
        with torch.no_grad():
            momentum = self.momentum or 0.0
            self.get_buffer("running_mean").lerp_(mean, momentum)
            self.get_buffer("running_var").lerp_(variance * (count / (count - 1)), momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        y: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return y.to(x.dtype)
