"""Which batch norm several processes share."""

from __future__ import annotations

import torch
from torch import nn

from experiments.training.distributed import ALONE, Replica, with_synchronized_norms


def norm_of(replica: Replica, device: str) -> nn.Module:
    network = with_synchronized_norms(
        nn.Sequential(nn.BatchNorm2d(4)), replica, torch.device(device)
    )
    return next(network.children())


def test_gpus_have_torchs_own_and_cpus_ours() -> None:
    assert type(norm_of(ALONE, "cuda")) is nn.BatchNorm2d
    assert type(norm_of(Replica(0, 2), "cuda")) is nn.SyncBatchNorm
    assert isinstance(norm_of(Replica(0, 2), "cpu"), nn.BatchNorm2d)
    assert type(norm_of(Replica(0, 2), "cpu")) is not nn.BatchNorm2d
