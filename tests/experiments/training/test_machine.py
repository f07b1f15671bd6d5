"""Devices, denormals and memory."""

import subprocess
import sys

import pytest
import torch

from experiments.config import ExecutorConfig
from experiments.training import machine
from space.validation import InvalidInput

CPU = torch.device("cpu")


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert machine.choose_device("auto").type == expected


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidInput, match=r"executor.device: cuda needs a GPU, .* or `auto`"):
        machine.choose_device("cuda")


def test_inside_there_are_the_threads_one_asks_for_and_no_denormals_and_outside_as_before() -> None:
    code = """
import torch
from experiments.training import machine

def keeps_denormals():
    return bool((torch.full((100_000,), 1e-39) * 0.5 != 0).all())

before = torch.get_num_threads()
with machine.prepared(1):
    assert torch.get_num_threads() == 1
    assert not keeps_denormals()
    with machine.prepared(None):
        assert torch.get_num_threads() == 1
assert torch.get_num_threads() == before
assert keeps_denormals()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_peak_memory_holds_what_was_allocated_in_between() -> None:
    machine.reset_peak_memory(CPU)
    before = machine.peak_memory(CPU)
    block = torch.ones(50_000_000)  # 200 MB
    del block
    assert machine.peak_memory(CPU) - before > 150e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux resets the peak")
def test_a_new_measurement_forgets_the_last_ones_peak() -> None:
    block = torch.ones(50_000_000)
    high = machine.peak_memory(CPU)
    del block
    machine.reset_peak_memory(CPU)
    assert high - machine.peak_memory(CPU) > 150e6


def variables(monkeypatch: pytest.MonkeyPatch, gpus: int, **settings: object) -> list[list[str]]:
    """Threads and GPU of each worker on a machine of eight cores."""
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config = ExecutorConfig.model_validate({"kind": "processes", **settings})
    return [
        [given[name] for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES") if name in given]
        for given in machine.worker_variables(config)
    ]


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert variables(monkeypatch, 0) == [["1"]] * 8
    assert variables(monkeypatch, 0, threads=3) == [["3"]] * 2
    assert variables(monkeypatch, 0, workers=3) == [["2"]] * 3
    assert variables(monkeypatch, 0, workers=20) == [["1"]] * 20


def test_each_worker_has_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert variables(monkeypatch, 2) == [["4", "0"], ["4", "1"]]
    assert variables(monkeypatch, 2, workers=3) == [["2", "0"], ["2", "1"], ["2", "0"]]
    assert variables(monkeypatch, 2, device="cpu", workers=1) == [["8"]]


def test_workers_see_no_gpu_that_the_driver_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    variables(monkeypatch, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    given = machine.worker_variables(ExecutorConfig(kind="processes"))
    assert [each["CUDA_VISIBLE_DEVICES"] for each in given] == ["5", "7"]


def test_workers_ask_for_huge_pages_beside_what_glibc_was_told_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    (given, *_) = machine.worker_variables(ExecutorConfig(kind="processes", device="cpu"))
    assert given["GLIBC_TUNABLES"] == "glibc.malloc.check=1:glibc.malloc.hugetlb=1"


def test_float32_is_float32_inside_and_as_torch_has_it_outside() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    for tf32 in (False, True):
        with machine.float32_precision(tf32=tf32):
            inside = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
            assert inside == (tf32, tf32)
    after = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    assert after == before
