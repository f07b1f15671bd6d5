"""What all tests share."""

import importlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent

# Triton, which torch's optimisers import, reads it once: its kernels are interpreted without a GPU.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# Ray gives its workers the least share of a busy core: tests beside them made each start a minute.
os.environ.setdefault("RAY_worker_niceness", "0")

# A deadline would be a timed assertion: on a busy machine it fails for nothing.
hypothesis.settings.register_profile("phiscale", deadline=None, print_blob=True)
hypothesis.settings.load_profile("phiscale")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and reference figures beside the checkout; absent at most users'."""
    folder = Path(os.environ.get("PHISCALE_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder} (set PHISCALE_SHARED)")
    return folder


@dataclass(frozen=True)
class PostgreSQL:
    """A server of the tests' own, which asks for a password."""

    binaries: Path
    folder: Path
    port: int
    user: str | None
    password: str = "hunter2-and-more"

    def database(self, name: str) -> str:
        """The URL of a new database."""
        import psycopg

        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self._url(name)

    def start(self) -> None:
        # No fsync: it is the clients that are killed, not the machine.
        settings = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self.folder / "log")
        self.run("pg_ctl", "start", "-w", "-D", self._data, "-l", log, "-o", settings)

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", self._data)

    def create(self) -> None:
        file = self.folder / "password"
        file.write_text(self.password, "utf-8")
        if self.user:
            shutil.chown(self.folder, self.user)
            shutil.chown(file, self.user)
        options = ("--auth=scram-sha-256", f"--pwfile={file}", "--username=phiscale", "--no-sync")
        self.run("initdb", "-D", self._data, *options)

    def run(self, program: str, *arguments: str) -> None:
        # PostgreSQL refuses to run as root.
        subprocess.run(
            [str(self.binaries / program), *arguments],
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
            cwd=self.folder,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _url(self, name: str) -> str:
        return f"postgresql://phiscale:{self.password}@127.0.0.1:{self.port}/{name}"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A running PostgreSQL server; where none is installed, the test is skipped."""
    pytest.importorskip("psycopg", reason="needs psycopg, of the extra `postgresql`")
    found = [shutil.which("initdb"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    binaries = [Path(path).resolve().parent for path in found if path]
    if not binaries:
        pytest.skip("no PostgreSQL here (initdb is neither on the path nor in /usr/lib/postgresql)")
    # Not in pytest's folder, which no other user may enter.
    with tempfile.TemporaryDirectory(prefix="phiscale-postgresql-") as folder:
        user = "postgres" if os.geteuid() == 0 else None
        server = PostgreSQL(binaries[0], Path(folder), _free_port(), user)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass(frozen=True)
class MySQL:
    """A server of the tests' own (MariaDB), which asks for a password."""

    folder: Path
    port: int
    user: str | None
    password: str = "hunter2-and-more"

    def database(self, name: str) -> str:
        """The URL of a new database."""
        with self._connected() as connection:
            connection.cursor().execute(f"CREATE DATABASE `{name}`")
        return f"mysql://phiscale:{self.password}@127.0.0.1:{self.port}/{name}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, the server answers."""
        data, begin = f"--datadir={self.folder / 'data'}", self.folder / "begin.sql"
        begin.write_text(
            f"CREATE USER phiscale@'127.0.0.1' IDENTIFIED BY '{self.password}';\n"
            "GRANT ALL ON *.* TO phiscale@'127.0.0.1';\n",
            "utf-8",
        )
        if self.user:
            shutil.chown(self.folder, self.user)
        self._start("mariadb-install-db", data, "--skip-test-db").wait(timeout=60)
        # No flushing: it is the clients that are killed, not the machine.
        server = self._start(
            "mariadbd",
            data,
            f"--init-file={begin}",
            f"--port={self.port}",
            f"--socket={self.folder / 'socket'}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=0",
        )
        try:
            self._wait(server)
            yield
        finally:
            server.terminate()
            server.wait(timeout=60)

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        # MariaDB refuses to run as root.
        return subprocess.Popen(
            [str(shutil.which(program)), "--no-defaults", *arguments],
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _wait(self, server: subprocess.Popen[bytes]) -> None:
        import pymysql

        until = time.monotonic() + 60
        while True:
            try:
                self._connected().close()
                return
            except pymysql.err.OperationalError:
                assert server.poll() is None, "mariadbd has ended"
                assert time.monotonic() < until, "mariadbd does not answer"
                time.sleep(0.1)

    def _connected(self) -> Any:
        import pymysql

        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="phiscale", password=self.password
        )


@pytest.fixture(scope="session")
def mysql() -> Iterator[MySQL]:
    """A running MariaDB server; where none is installed, the test is skipped."""
    pytest.importorskip("pymysql", reason="needs PyMySQL, of the extra `mysql`")
    if not (shutil.which("mariadbd") and shutil.which("mariadb-install-db")):
        pytest.skip("no MariaDB here (mariadbd is not on the path)")
    with tempfile.TemporaryDirectory(prefix="phiscale-mysql-") as folder:
        server = MySQL(Path(folder), _free_port(), "mysql" if os.geteuid() == 0 else None)
        with server.running():
            yield server


#: Declarations last as long as the object that made them.
_declared: list[object] = []


@pytest.fixture(scope="session")
def import_torchvision() -> Callable[[], ModuleType]:
    """Imports torchvision, also where its compiled operators are for another build of torch.

    Its networks use none of those operators; it is enough that they are declared.
    """

    def load() -> ModuleType:
        import torch

        try:
            return importlib.import_module("torchvision")
        except RuntimeError:
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
            library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou) -> Tensor")
            _declared.append(library)
            return importlib.import_module("torchvision")

    return load


@pytest.fixture(scope="session")
def timm(import_torchvision: Callable[[], ModuleType]) -> ModuleType:
    """timm, whose networks are witnesses; skips where it is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import_torchvision()
            return importlib.import_module("timm")
        except ImportError as error:
            pytest.skip(f"timm is the witness, and is missing: {error}")
