"""`phiscale doctor`: what this machine offers, and what may go wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import typer
from packaging.requirements import Requirement

from experiments.commands.shared_options import AsJson
from experiments.commands.terminal import out, print_json, print_rows, say
from experiments.config import RUN_NAME
from experiments.runs.environment import environment
from space.validation import InvalidInput

#: Bytes free on a disk below which a run soon fills it (assumed: a small run's weights and images).
_LITTLE_ROOM = 2e9

#: The longest path of a temporary folder, in bytes, below which the sockets of Ray fit into the 107
#: that Linux allows: /ray/session_2026-11-27_12-48-42_123456_1234567/sockets/plasma_store.
_LONGEST_TEMPORARY = 107 - 68

_SHARED_MEMORY = Path("/dev/shm")

#: File systems whose locks SQLite cannot rely on (sqlite.org/faq.html#q5).
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "fuse.sshfs", "9p")


Level = Literal["well", "warning", "problem"]


class Finding(NamedTuple):
    """The result of a check; `sentence` says what was found and what to do about it."""

    level: Level
    about: str
    sentence: str


well, warning, problem = (partial(Finding, level) for level in get_args(Level))


def doctor(
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="A storage to check, as in a recipe.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check what this machine offers and what may go wrong: versions, GPUs, storage, security."""
    facts = environment()
    findings = [*_torch(facts), *_room(), *_temporary(), *_storage(storage), *_ray(), *_security()]
    if as_json:
        print_json({"facts": facts, "findings": [finding._asdict() for finding in findings]})
    else:
        print_rows(("fact", "value"), [[name, value] for name, value in facts.items()], numeric=())
        out.print()
        for finding in findings:
            mark = finding.level if finding.level == "well" else finding.level.upper()
            say(f"{mark:7}  {finding.about}: {finding.sentence}")
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)


def _torch(facts: dict[str, str]) -> Iterator[Finding]:
    import torch

    if torch.version.cuda and not torch.cuda.is_available():
        yield warning(
            "GPU",
            f"torch {torch.__version__} is built for CUDA {torch.version.cuda} but finds no GPU; "
            "check that there is one and that its driver is new enough (nvidia-smi)",
        )
    elif not torch.cuda.is_available():
        yield well("GPU", "torch finds none and trains on the CPU")
    else:
        yield well("GPU", f"torch finds {facts['gpus']}")
    yield _torchvision()


def _torchvision() -> Finding:
    """Whether torchvision was built for the torch that is installed."""
    try:
        version = metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        return well("torchvision", "not installed, and not needed")
    torch = metadata.version("torch")
    needs = [Requirement(text) for text in metadata.requires("torchvision") or ()]
    wanted = next((each.specifier for each in needs if each.name == "torch"), None)
    builds = {each.partition("+")[2] for each in (torch, version)}
    wrong = None
    if wanted is not None and not wanted.contains(torch, prereleases=True):
        wrong = f"needs torch{wanted}, but torch {torch} is installed"
    elif "" not in builds and len(builds) > 1:
        wrong = f"and torch {torch} are built for different devices"
    elif error := _import_error("torchvision"):
        wrong = f"cannot be imported with torch {torch} ({error})"
    if wrong:
        return problem("torchvision", f"{version} {wrong}; install the two together")
    return well("torchvision", f"{version} fits torch {torch}")


def _import_error(package: str) -> str | None:
    """The error of an import in a new process; None if it succeeds."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {package}"], capture_output=True, text=True, check=False
    )
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return lines[-1] if done.returncode else None


def _room() -> Iterator[Finding]:
    from experiments.data.load import default_cache

    for about, path in (("this folder", Path.cwd()), ("the image cache", default_cache())):
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        sentence = f"{free / 1e9:.1f} GB free in {path}"
        yield (warning if free < _LITTLE_ROOM else well)(about, sentence)
        if not os.access(there, os.W_OK):
            yield problem(about, f"this user cannot write to {there}")


def _temporary() -> Iterator[Finding]:
    """Temporary files and shared memory, through which processes talk to each other."""
    folder = tempfile.gettempdir()
    if len(folder.encode()) > _LONGEST_TEMPORARY:
        yield warning(
            "TMPDIR",
            f"{folder} is too long for the sockets of Ray (at most {_LONGEST_TEMPORARY} bytes); "
            "set TMPDIR to a shorter path before you use executor.kind: ray",
        )
    if sys.platform.startswith("linux") and not os.access(_SHARED_MEMORY, os.W_OK):
        yield warning(
            "shared memory",
            f"{_SHARED_MEMORY} is missing or cannot be written to, and worker processes need it; "
            "mount it (in a container: --shm-size=2g), or use executor.kind: local",
        )


def _storage(url: str | None) -> Iterator[Finding]:
    from search.storage import open_storage, storage_url, without_password

    if url is None:
        kind = _file_system(Path.cwd())
        if kind in _NETWORK:
            sentence = f"this folder is on a network drive ({kind}), where SQLite's locks can fail"
            yield warning("storage", f"{sentence}; set storage: journal")
        else:
            yield well("storage", "SQLite, study.db in each run's folder")
        return
    try:
        open_storage(storage_url(Path.cwd(), url))
    except InvalidInput as error:
        yield problem("storage", str(error).removeprefix("storage: "))
    else:
        yield well("storage", f"{without_password(url)} answers")


def _file_system(folder: Path) -> str:
    """The type of the file system that holds `folder`; empty if unknown."""
    mounts = Path("/proc/self/mounts")
    if not mounts.is_file():
        return ""
    lines = [line.split() for line in mounts.read_text("utf-8", "replace").splitlines()]
    holding = [(Path(line[1]), line[2]) for line in lines if folder.is_relative_to(line[1])]
    return max(holding, key=lambda each: len(each[0].parts), default=(folder, ""))[1]


def _ray() -> Iterator[Finding]:
    if address := os.environ.get("RAY_ADDRESS"):
        yield warning(
            "Ray",
            f"RAY_ADDRESS is {address}; phiscale ignores it and uses the recipe's executor.address",
        )
    match os.environ.get("RAY_AUTH_MODE", "").lower():
        case "token":
            yield well("Ray", "clusters require a token (RAY_AUTH_MODE)")
        case "disabled":
            yield warning(
                "Ray",
                "RAY_AUTH_MODE is disabled: anyone who can reach the ports of a cluster started "
                "this way can run code on it; set it to token, there and here",
            )
        case _:
            yield well(
                "Ray",
                "a cluster on this machine listens on the loopback interface only, without a "
                "dashboard; before you use a cluster on other machines, set RAY_AUTH_MODE=token, "
                "there and here: without it, anyone who can reach its ports can run code on it",
            )


def _security() -> Iterator[Finding]:
    yield well(
        "names",
        f"the name of a run must match {RUN_NAME.pattern}, because it names a folder",
    )
    yield well(
        "files",
        "no file of a run is unpickled, checkpoints are loaded with weights_only=True and YAML "
        "with the safe loader, so it is safe to look at a run that somebody else made",
    )
    yield well(
        "passwords",
        "the password of a storage is never saved; set PHISCALE_STORAGE_PASSWORD (and write :***@ "
        "in the URL) or use ~/.pgpass of PostgreSQL",
    )
