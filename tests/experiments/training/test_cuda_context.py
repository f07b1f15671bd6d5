"""One stream a thread, whose libraries are started where no capture can be under way."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import ClassVar

import pytest
import torch

from experiments.training import cuda_context, machine


class Stream:
    made: ClassVar[list[Stream]] = []

    def __init__(self, _: torch.device) -> None:
        self.made.append(self)

    def synchronize(self) -> None:
        pass


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A GPU of pretence; whether the capture lock was held each time libraries were started."""
    locked: list[bool] = []
    monkeypatch.setattr(Stream, "made", [])
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(
        cuda_context,
        "start_libraries",
        lambda _: locked.append(cuda_context.capture_lock.locked()),
    )
    return locked


def test_a_thread_keeps_its_stream_and_starts_its_libraries_once_under_the_lock(
    gpu: list[bool],
) -> None:
    def work() -> None:
        for _ in range(3):
            with cuda_context.thread_stream(torch.device("cuda")):
                pass

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Stream.made) == 2
    assert gpu == [True, True]


def test_starting_libraries_needs_no_gradients_of_others() -> None:
    cuda_context.start_libraries(torch.device("cpu"))


def test_after_a_failed_capture_the_cache_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(cuda_context, "_capture_failed", threading.Event())
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("empty"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: calls.append("reset"))
    machine.reset_peak_memory(torch.device("cuda"))
    cuda_context.note_failed_capture()
    machine.reset_peak_memory(torch.device("cuda"))
    assert calls == ["empty", "reset", "reset"]
