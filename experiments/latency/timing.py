"""Measures the latency of networks, which MACs do not predict well.

Networks run in float32, channels last in torch, with random weights, because weights do not change
how long an operation takes. `experiments.latency.tables` predicts the latencies of a whole space.
"""

from __future__ import annotations

import csv
import io
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from experiments.training import machine
from scaling.saved_family import SavedFamily
from space.architecture import Architecture
from space.files import write_file
from space.network import build
from space.optional import needed
from space.validation import InvalidInput, one_of

#: What runs the network: eager torch, `torch.compile`, a captured CUDA graph, or onnxruntime.
Backend = Literal["eager", "compile", "graph", "onnxruntime"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

#: Warm-up calls, which choose kernels and fill caches: their least number, and their time as a part
#: of that of the timed calls (assumed).
_WARM_UP_CALLS, _WARM_UP_PART = 5, 0.2
#: Timed calls: their least number, and the one that suffices after `_MOST_SECONDS` (assumed).
_CALLS, _FEWEST_CALLS, _MOST_SECONDS = 30, 5, 10.0
#: Seconds for which calls are timed (assumed).
_SECONDS = 0.5

#: A family's latencies, in its folder.
FILE = "latency.csv"

#: Runs a network on a batch of images.
Runner = Callable[[], object]


def backend_of(name: str) -> Backend:
    """The backend of that name; raises `InvalidInput` for an unknown one."""
    for backend in BACKENDS:
        if backend == name:
            return backend
    raise one_of("backend", name, BACKENDS)


class LatencyRow(NamedTuple):
    """How long a call for `batch` images takes: the median of many calls, and both quartiles.

    A row of a family's latency.csv; `threads` are the CPU's.
    """

    member: str
    accuracy: float | None
    backend: Backend
    device: str
    batch: int
    threads: int
    median_seconds: float
    low_seconds: float
    high_seconds: float
    images_per_second: float


class Subject(NamedTuple):
    """A network to measure; `accuracy` is a fraction."""

    name: str
    architecture: Architecture
    accuracy: float | None = None


def measure(
    architecture: Architecture,
    *,
    device: str = "cpu",
    batch: int = 1,
    backend: Backend = "eager",
    threads: int | None = None,
    at_least: float = _SECONDS,
    tf32: bool = False,
) -> LatencyRow:
    """Measures the latency of `architecture` at its own resolution; the row names no member.

    `device` is `cpu`, `cuda` or `auto`; `threads` None leaves torch's choice; calls are timed for
    at least `at_least` seconds. With `tf32`, a GPU rounds the factors of products to TF32. Raises
    `InvalidInput` if `backend` is unknown, is not installed, or cannot run this network on this
    device.
    """
    backend = backend_of(backend)
    chosen = machine.choose_device(device)
    shape = (batch, architecture.in_channels, architecture.resolution, architecture.resolution)
    with machine.prepared(threads), machine.float32_precision(tf32=tf32):
        network, images = ready(build(architecture), chosen), example(shape, chosen)
        with _explained(backend, chosen):
            run = runner(network, images, backend)
            with torch.inference_mode():
                seconds = time_calls(run, chosen, at_least=at_least)
        low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist()
        count = torch.get_num_threads()
    setting = backend, chosen.type, batch, count
    return LatencyRow("", None, *setting, median, low, high, batch / median)


def survey(
    subjects: Iterable[Subject],
    *,
    batches: Sequence[int] = (1,),
    backends: Sequence[Backend] = ("eager",),
    device: str = "cpu",
    threads: int | None = None,
    at_least: float = _SECONDS,
) -> Iterator[LatencyRow]:
    """Measures every subject with every backend at every batch size; see `measure`."""
    for (name, architecture, accuracy), backend, batch in product(subjects, backends, batches):
        row = measure(
            architecture,
            device=device,
            batch=batch,
            backend=backend,
            threads=threads,
            at_least=at_least,
        )
        yield row._replace(member=name, accuracy=accuracy)


def members(family: SavedFamily) -> list[Subject]:
    """The members of a family."""
    return [Subject(member.name, member.architecture, member.accuracy) for member in family]


def write(path: Path, rows: Sequence[LatencyRow]) -> None:
    """Writes `rows` as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([LatencyRow._fields, *rows])
    write_file(path, text.getvalue())


def ready(network: nn.Module, device: torch.device) -> nn.Module:
    """`network` for inference on `device`, channels last."""
    network.eval().to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in stubs
    return network


def example(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Noise of shape N × C × H × W, channels last."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return noise.to(device).contiguous(memory_format=torch.channels_last)


def runner(network: nn.Module, images: Tensor, backend: Backend) -> Runner:
    """A function that runs `network` on `images`, both on one device."""
    match backend:
        case "eager":
            return lambda: network(images)
        case "compile":
            torch.compiler.reset()  # else torch gives up after the eighth network of a class
            compiled = torch.compile(network, dynamic=False)
            return lambda: compiled(images)
        case "graph":
            return _captured(network, images)
        case "onnxruntime":
            return _session(network, images)


@torch.inference_mode()
def _captured(network: nn.Module, images: Tensor) -> Runner:
    """A function that replays the network's kernels with a single launch."""
    if images.device.type != "cuda":
        raise InvalidInput("backend graph: it captures a CUDA graph; use --device cuda")
    stream = torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(images.device))
    with torch.cuda.stream(stream):  # kernels are chosen before the capture, which forbids that
        for _ in range(3):
            network(images)
    torch.cuda.current_stream(images.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(images)
    return graph.replay


def _session(network: nn.Module, images: Tensor) -> Runner:
    """A session of onnxruntime with torch's number of threads; data stay on the device."""
    onnxruntime = needed("onnxruntime", "onnx", "backend onnxruntime")
    device = images.device.type
    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise InvalidInput(
            "backend onnxruntime: the installed onnxruntime has no CUDA; install onnxruntime-gpu"
        )

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(_onnx(network, images), options, providers=[provider])
    values = onnxruntime.OrtValue.ortvalue_from_numpy(images.cpu().contiguous().numpy(), device, 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, values)
    binding.bind_output(session.get_outputs()[0].name, device)
    return lambda: session.run_with_iobinding(binding)


def _onnx(network: nn.Module, images: Tensor) -> bytes:
    """`network` as an ONNX model for this batch size."""
    program = torch.onnx.export(network.cpu(), (images.cpu(),), dynamo=True, verbose=False)
    assert program is not None
    data: bytes = program.model_proto.SerializeToString()
    return data


def time_calls(run: Runner, device: torch.device, *, at_least: float = _SECONDS) -> list[float]:
    """The seconds of each call; calls are repeated for `at_least` seconds, after a warm-up."""
    timed = _timer(device)
    calls, end = 0, time.perf_counter() + _WARM_UP_PART * at_least
    while calls < _WARM_UP_CALLS or time.perf_counter() < end:
        timed(run)
        calls += 1
    found: list[float] = []
    start = time.perf_counter()
    while True:
        found.append(timed(run))
        elapsed = time.perf_counter() - start
        if elapsed >= at_least and len(found) >= _CALLS:
            return found
        if elapsed >= _MOST_SECONDS and len(found) >= _FEWEST_CALLS:
            return found


def _timer(device: torch.device) -> Callable[[Runner], float]:
    """A function that returns the seconds of one call; on a GPU by its own clock."""
    if device.type != "cuda":
        return _cpu_seconds
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def seconds(run: Runner) -> float:
        torch.cuda.synchronize(device)
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    return seconds


def _cpu_seconds(run: Runner) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@contextmanager
def _explained(backend: Backend, device: torch.device) -> Iterator[None]:
    """Turns a backend's errors into `InvalidInput`, and hides its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InvalidInput:
        raise
    except Exception as error:
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InvalidInput(
            f"backend {backend}: cannot run this network on {device.type} here ({told})"
        ) from error
