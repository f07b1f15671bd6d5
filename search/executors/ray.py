"""Jobs on a Ray cluster, by Ray Tune: a running one, or one started on this machine."""

from __future__ import annotations

import atexit
import io
import logging
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

from search.executors.processes import cores, variables
from search.executors.stopping import Stopping, stopping
from search.executors.worker_pool import RETRIES, ProposerFailed
from search.pruning import Halving
from space.evaluation import Evaluate, Proposer
from space.validation import InvalidInput

_logger = logging.getLogger(__name__)

#: Bytes of the object store of a cluster started here: jobs and results are a few kilobytes each.
_OBJECT_STORE = 128 * 2**20

#: The longest path of a socket on Linux, in bytes, and the longest of Ray's in its folder.
_LONGEST_SOCKET = 107
_SOCKET = f"/session_2026-11-27_12-48-42_123456_{os.getpid()}/sockets/plasma_store"

#: Temporary folders are named by this and the number of their process.
_PREFIX = "phiscale-ray-"

#: Seconds for which the size of the cluster is cached (assumed).
_CLUSTER_SECONDS = 5.0

#: Seconds between two connections to the cluster's head, and for which it may be away, such as
#: during a restart (assumed; after 60, Ray ends this process).
_LOOK_SECONDS = 2.0
_LOST_SECONDS = 30.0

#: A cluster started here listens on the loopback interface, which Ray does only on other systems
#: than Linux; and starts no process for each core ahead, since jobs run in processes of their own.
_HERE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_prestart_worker_first_driver": "0"}

#: What Tune takes from the environment alone: it writes no logs of trials and one snapshot of its
#: state at the end (the study is the only state), leaves Ctrl-C to us, and stays in its folder.
_TUNE = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e12",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "1e12",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


class ClusterLost(Exception):
    """The cluster does not answer any more, or has ended; the message is a sentence."""


@dataclass(frozen=True)
class Ray:
    """An `Executor` that sends jobs to workers of a Ray cluster.

    `address` is that of a running cluster; None starts one on this machine. `workers` is how many
    jobs run at a time; None is as many as fit: one per GPU (or per `gpus` of one) if there are GPUs
    and `gpus` is not 0, else one per CPU core (or per `threads` cores). `code` are the packages
    that are sent to the cluster. A job whose worker or machine dies is started again elsewhere,
    `RETRIES` times; one that ends no epoch for `trial_timeout` seconds FAILS. `halving` stops jobs
    in addition to those that the proposer stops.
    """

    workers: int | None = None
    threads: int | None = None
    gpus: float | None = None
    address: str | None = None
    code: Sequence[Path] = ()
    trial_timeout: float | None = None
    halving: Halving | None = None

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Runs `proposer`'s jobs until it has no more.

        Raises `InvalidInput` if there is no such cluster, or no room on its machines, and
        `ClusterLost` if its head node stops answering, or its processes on this machine die.
        """
        with variables(_TUNE | ({} if self.address else _HERE)):  # which workers inherit
            self._connect()  # before `stopping`: Ray sets a handler of SIGTERM, too
        with stopping() as stop, redirect_stdout(io.StringIO()):
            try:
                self._tune(proposer, evaluate, stop)
            except ClusterLost:
                _leave_at_once(130 if stop.asked else 1)
                if not stop.asked:
                    raise
            except BaseException:
                _disconnect()  # which ends all workers
                raise

    def _tune(self, proposer: Proposer, evaluate: Evaluate, stop: Stopping) -> None:
        from ray import cloudpickle, tune

        from search.executors import ray_tune

        need = self._need()
        room = _Room(need, self.workers)
        if not room():
            asked = " and ".join(f"{amount:g} {name}s" for name, amount in need.items())
            raise InvalidInput(
                f"executor: a training run needs {asked}, but no machine of the Ray cluster has "
                "that; lower executor.threads or executor.gpus_per_trial"
            )
        feed = ray_tune.JobSearcher(proposer, room, stop)
        worker = tune.with_parameters(
            ray_tune.JobTrainable,
            evaluate=cloudpickle.dumps(evaluate),
            variables={"OMP_NUM_THREADS": str(int(need["CPU"]))},
        )
        watch = [ray_tune.TimeoutCallback(feed, self.trial_timeout)] if self.trial_timeout else []
        # Workers start side by side, and not one after the other.
        settings = _TUNE | {"TUNE_MAX_PENDING_TRIALS_PG": str(room())}
        with (
            variables(settings),
            tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder,
        ):
            tuner = tune.Tuner(
                tune.with_resources(worker, tune.PlacementGroupFactory([need])),
                tune_config=tune.TuneConfig(
                    search_alg=feed,
                    scheduler=ray_tune.EpochScheduler(proposer, feed, stop, self.halving),
                    num_samples=-1,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    storage_path=folder,
                    verbose=0,
                    callbacks=watch,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    failure_config=tune.FailureConfig(max_failures=RETRIES),
                ),
            )
            try:
                _attended(tuner.fit, stop)
            except ProposerFailed as failed:
                raise failed.error from None
            finally:
                feed.close()

    def _connect(self) -> None:
        """Connects this process to the cluster, if it is not connected yet."""
        import ray

        if ray.is_initialized():
            return
        quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if self.address is None:
            count = max(cores(), (self.workers or 1) * (self.threads or 1))
            _keep_authentication()
            # "local" and not None, which would connect to any cluster that has left its address.
            ray.init(
                "local",
                num_cpus=count,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE,
                _temp_dir=_session_folder(),
                **quiet,
            )
            return
        code = {"py_modules": [str(package) for package in self.code]}
        try:
            _knock(*_host_and_port(self.address))  # Ray itself would try for over ten minutes
        except (OSError, OverflowError, ValueError) as error:
            told = getattr(error, "strerror", None) or error
            raise InvalidInput(
                f"executor.address: no Ray cluster answers at {self.address}: {told}; use the "
                "HOST:PORT that `ray start --head` printed, or remove the key to use this machine"
            ) from None
        try:
            ray.init(self.address, runtime_env=code if self.code else None, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            told = str(error).strip().partition("\n")[0]
            raise InvalidInput(
                f"executor.address: {self.address} answers, but Ray cannot connect: {told}; use "
                "the HOST:PORT that `ray start --head` printed, and set RAY_AUTH_MODE=token here "
                "if the cluster requires a token"
            ) from None
        _warn_where_open(self.address)  # now: Ray uses tokens if it finds one

    def _need(self) -> dict[str, float]:
        """Ray's resources for one job."""
        machines = _machines()
        cpus = [machine.get("CPU", 0.0) for machine in machines]
        with_gpus = [machine for machine in machines if machine.get("GPU")]
        share = self.gpus if self.gpus is not None else float(bool(with_gpus))
        if self.threads:
            threads = self.threads
        elif share and with_gpus:
            threads = min(int(each.get("CPU", 0) * share / each["GPU"]) for each in with_gpus)
        elif self.workers:
            threads = int(min(sum(cpus) // self.workers, max(cpus, default=0)))
        else:
            threads = 1
        need = {"CPU": float(max(1, threads))}
        return need | {"GPU": share} if share else need


def _machines() -> list[dict[str, float]]:
    """The resources of the cluster's living machines."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _attended(fit: Callable[[], object], stop: Stopping) -> None:
    """Runs `fit` in a thread, while this one receives signals and checks the cluster's head.

    Ray itself would block for a minute if the head is lost, and end the process, as it does without
    a word some seconds after a process of a cluster started here has died. After a request to stop,
    which may have ended the head too, a lost head is not waited for.
    """
    import ray

    done: Future[object] = Future()

    def work() -> None:
        try:
            done.set_result(fit())
        except BaseException as error:
            done.set_exception(error)

    host, port = _host_and_port(ray.get_runtime_context().gcs_address)
    threading.Thread(target=work, name="tune", daemon=True).start()
    heard = looked = time.monotonic()
    while not wait([done], 0.2).done:
        if dead := _dead_process():
            raise ClusterLost(
                f"Ray's process {dead} on this machine has died (out of memory?); the training "
                "runs on it are lost"
            )
        if time.monotonic() - looked > _LOOK_SECONDS:
            looked = time.monotonic()
            with suppress(OSError):
                _knock(host, port, _LOOK_SECONDS)
                heard = looked
            if looked - heard > (0 if stop.asked else _LOST_SECONDS):
                raise ClusterLost(
                    f"the head node of the Ray cluster at {host}:{port} has not answered for "
                    f"{_LOST_SECONDS:g} seconds; the training runs on it are lost"
                )
    done.result()


def _dead_process() -> str | None:
    """A process that a cluster started here cannot do without, and that has died."""
    from ray._private import worker

    node = worker._global_node
    dead = [name for name, _ in node.dead_processes()] if node else []
    return next((name for name in dead if name in ("gcs_server", "raylet")), None)


def _knock(host: str, port: int, seconds: float = _LOST_SECONDS) -> None:
    """Raises `OSError` unless a connection is accepted within `seconds`."""
    socket.create_connection((host, port), seconds).close()


def _host_and_port(address: str) -> tuple[str, int]:
    """Raises `ValueError` unless `address` is HOST:PORT, with or without `ray://`."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("not an address of the form HOST:PORT")
    return host.strip("[]"), int(port)


class _Room:
    """How many jobs fit on the cluster's living machines, and at most `workers`."""

    def __init__(self, need: Mapping[str, float], workers: int | None) -> None:
        self._need, self._workers = need, workers
        self._fits, self._known_until = 0, 0.0

    def __call__(self) -> int:
        if time.monotonic() >= self._known_until:
            self._fits = sum(
                min(int(machine.get(name, 0.0) / each + 1e-9) for name, each in self._need.items())
                for machine in _machines()
            )
            self._known_until = time.monotonic() + _CLUSTER_SECONDS
        return min(self._fits, self._workers or self._fits)


def _warn_where_open(address: str) -> None:
    """Warns if anyone who reaches a cluster beyond this machine may run code on it."""
    host, _ = _host_and_port(address)
    loopback = host in ("localhost", "::1") or host.startswith("127.")
    if not loopback and os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        _logger.warning(
            "The Ray cluster at %s has no token authentication: anyone who can reach its ports can "
            "run code on it. Set RAY_AUTH_MODE=token when you start it, and here.",
            address,
        )


def _keep_authentication() -> None:
    """Makes a cluster started here require a token, which is Ray's default."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        _logger.warning(
            "RAY_AUTH_MODE=disabled is ignored: a cluster that phiscale starts has a token"
        )
        del os.environ["RAY_AUTH_MODE"]


def _session_folder() -> str:
    """A folder for Ray's sockets and logs, removed when this process exits (Ray never does).

    Also removes those of killed processes. Raises `InvalidInput` if its path is too long.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        process = left.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path("/proc", process).exists() and Path("/proc").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")
    if len(os.fsencode(folder + _SOCKET)) > _LONGEST_SOCKET:
        Path(folder).rmdir()
        raise InvalidInput(
            f"executor.kind: ray: the folder of temporary files, {tempfile.gettempdir()}, is too "
            "long for Ray's sockets; set TMPDIR to a shorter path, such as /tmp"
        )

    def remove() -> None:
        _disconnect()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _leave_at_once(status: int) -> None:
    """Makes this process exit without Ray's shutdown, which would wait for the lost head node."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    atexit.register(leave)


def _disconnect() -> None:
    import ray

    ray.shutdown()
