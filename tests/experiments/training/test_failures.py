"""What libraries raise is told apart: short memory, a GPU that is lost, a broken network."""

from __future__ import annotations

import pytest
import torch

from experiments.training import cuda_context
from experiments.training.failures import (
    OutOfMemory,
    TrainingFailed,
    device_errors,
    network_errors,
)
from space.evaluation import WorkerUnusable


class LostStream:
    """A stream of a device whose every call repeats an earlier error."""

    def synchronize(self) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", LostStream)


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    ],
)
def test_every_librarys_lack_of_memory_is_lack_of_memory(message: str) -> None:
    error = getattr(torch, "AcceleratorError", RuntimeError)
    for kind in (RuntimeError, error):
        with (
            pytest.raises(OutOfMemory, match="training ran out of memory"),
            device_errors("training"),
        ):
            raise kind(message)


@pytest.mark.usefixtures("lost")
def test_an_error_that_ends_all_work_on_the_gpu_is_no_result_of_the_network() -> None:
    with (
        pytest.raises(
            WorkerUnusable, match=r"validation raised RuntimeError: CUDA error: an .*; CUDA"
        ),
        network_errors("validation"),
    ):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel")


@pytest.mark.usefixtures("lost")
def test_a_sentence_that_was_found_already_passes() -> None:
    with pytest.raises(TrainingFailed, match="diverged"), network_errors("training"):
        raise TrainingFailed("training diverged")


def test_without_cuda_no_device_is_lost() -> None:
    assert not cuda_context.is_lost()


def test_other_errors_are_the_networks_or_pass() -> None:
    with pytest.raises(TrainingFailed, match="training raised ValueError: no"):  # noqa: SIM117
        with network_errors("training"):
            raise ValueError("no")
    with pytest.raises(ValueError, match="no"), device_errors("training"):
        raise ValueError("no")
