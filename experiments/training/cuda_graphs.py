"""A training step as one launch: captured as a CUDA graph once, then replayed.

A step of a small network is hundreds of kernels of microseconds each, and Python takes longer to
launch one than the GPU to run it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from experiments.training import cuda_context
from experiments.training.batches import Batch

_logger = logging.getLogger(__name__)

#: Steps before the one that is captured: in them, libraries choose their kernels and the optimiser
#: makes its state, which a graph must not contain (torch's notes on CUDA graphs: 3).
_EAGER_STEPS = 3

#: A training step: takes a batch, returns its loss.
Step = Callable[[Batch], Tensor]


class Graph(Protocol):
    """A captured step, which reads and writes the same memory at every replay."""

    def capture(self, step: Callable[[], Tensor]) -> Tensor:
        """Captures what `step` launches, without running it; returns the tensor of its result.

        Raises if `step` cannot be captured.
        """
        ...

    def replay(self) -> None:
        """Runs what was captured."""
        ...


class CapturedStep:
    """`step`, replayed by `graph` after a few calls; all batches need the same names and shapes.

    The device does the same as without a capture. If the capture fails, a warning says why,
    `fall_back` is called, and no step of this process is captured any more.
    """

    def __init__(self, step: Step, graph: Graph, fall_back: Callable[[], None]) -> None:
        self._step, self._fall_back = step, fall_back
        self._graph: Graph | None = None if cuda_context.capture_failed() else graph
        self._eager_steps = 0
        self._inputs: Batch = {}
        self._loss: Tensor | None = None

    @property
    def captured(self) -> bool:
        """Whether the step has been captured."""
        return self._loss is not None

    def __call__(self, batch: Batch) -> Tensor:
        """Takes the step with `batch` and returns its loss."""
        if self._graph is None or self._eager_steps < _EAGER_STEPS:
            self._eager_steps += 1
            return self._step(batch)
        if self._loss is None:
            self._capture(self._graph, batch)
            if self._loss is None:
                return self._step(batch)
        for name, value in batch.items():
            self._inputs[name].copy_(value, non_blocking=True)
        self._graph.replay()
        return self._loss

    def _capture(self, graph: Graph, batch: Batch) -> None:
        self._inputs = {name: value.clone() for name, value in batch.items()}
        try:
            with cuda_context.capture_lock:
                self._loss = graph.capture(lambda: self._step(self._inputs))
        except Exception as error:  # whatever it is, the training run can go on without
            message = (str(error).strip() or type(error).__name__).splitlines()[0]
            _logger.warning(
                "training steps cannot be captured as a CUDA graph (%s); they are launched one "
                "kernel at a time, which is slower",
                message,
            )
            cuda_context.note_failed_capture()
            self._graph = None
            self._fall_back()


class CudaGraph:
    """A `Graph` of a GPU's current stream; `generator` draws the random numbers of the step."""

    def __init__(self, device: torch.device, generator: torch.Generator) -> None:
        self._device = device
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(generator)
        self.replay = self._graph.replay

    def capture(self, step: Callable[[], Tensor]) -> Tensor:
        """See `Graph.capture`."""
        with torch.cuda.graph(
            self._graph,
            stream=torch.cuda.current_stream(self._device),
            capture_error_mode="thread_local",  # other threads may allocate meanwhile
        ):
            return step()
