"""A step as one launch: what Python tells a GPU once is recorded as a CUDA graph and replayed.

A small network's step is hundreds of kernels of microseconds, and telling a GPU of each takes
longer than it runs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from experiments.training.batches import Batch

_logger = logging.getLogger(__name__)

#: Steps before the one that is recorded: in them libraries choose their kernels and the optimiser
#: makes its state, which a recording must not contain (torch's notes on CUDA graphs: 3).
_EAGER_STEPS = 3

#: torch allows one recording at a time in a process; packed trainings are threads of one.
_recording = threading.Lock()

#: A training step: the loss of a batch.
Step = Callable[[Batch], Tensor]


class Graph(Protocol):
    """A recorded step, which reads and writes the same memory at every replay."""

    def record(self, step: Callable[[], Tensor]) -> Tensor:
        """Records what `step` tells the device, without its being done; gives what it will put out.

        Raises where that cannot be recorded.
        """
        ...

    def replay(self) -> None:
        """Does what was recorded."""
        ...


class CapturedStep:
    """A step that is recorded and replayed; batches must all have the same names and shapes.

    What the device does is the same as without a recording. Where recording fails, which is logged
    with the reason, `fall_back` is called, and the step goes on being told anew each time.
    """

    def __init__(self, step: Step, graph: Graph, fall_back: Callable[[], None]) -> None:
        self._step, self._fall_back = step, fall_back
        self._graph: Graph | None = graph
        self._eager_steps = 0
        self._inputs: Batch = {}
        self._loss: Tensor | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """Takes the step with `batch`; gives its loss."""
        if self._graph is None or self._eager_steps < _EAGER_STEPS:
            self._eager_steps += 1
            return self._step(batch)
        if self._loss is None:
            self._record(self._graph, batch)
            if self._loss is None:
                return self._step(batch)
        for name, value in batch.items():
            self._inputs[name].copy_(value, non_blocking=True)
        self._graph.replay()
        return self._loss

    def _record(self, graph: Graph, batch: Batch) -> None:
        self._inputs = {name: value.clone() for name, value in batch.items()}
        try:
            with _recording:
                self._loss = graph.record(lambda: self._step(self._inputs))
        except Exception as error:  # whatever it is, the training can go on without
            told = (str(error).strip() or type(error).__name__).splitlines()[0]
            _logger.warning("steps are not recorded as a CUDA graph, which is slower: %s", told)
            self._graph = None
            self._fall_back()


class CudaGraph:
    """A `Graph` on a GPU; `generator` draws the random numbers of the step."""

    def __init__(self, device: torch.device, generator: torch.Generator) -> None:
        self._device = device
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(generator)

    def record(self, step: Callable[[], Tensor]) -> Tensor:
        """See `Graph.record`; of the current stream."""
        with torch.cuda.graph(
            self._graph,
            stream=torch.cuda.current_stream(self._device),
            capture_error_mode="thread_local",  # what other trainings do meanwhile is their affair
        ):
            return step()

    def replay(self) -> None:
        """See `Graph.replay`."""
        self._graph.replay()
