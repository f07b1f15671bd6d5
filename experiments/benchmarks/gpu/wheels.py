"""The wheels that a machine without a network needs beside torch, numpy, numba and pyarrow.

`python -m experiments.benchmarks.gpu.wheels DIR` downloads them, for Linux on x86-64 and Python
3.12, in the versions of `constraints.txt`. There, `pip install --no-index --no-deps DIR/*.whl`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

#: What the stages and the tests that need a GPU import, and what those packages need.
PACKAGES = (
    *("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions"),
    *("optuna", "SQLAlchemy", "alembic", "Mako", "MarkupSafe", "colorlog", "tqdm", "packaging"),
    *("universal-pathlib", "pathlib-abc", "fsspec", "filelock", "safetensors", "PyYAML", "pillow"),
    *("rich", "markdown-it-py", "mdurl", "Pygments"),
    *("pytest", "pluggy", "iniconfig", "pytest-timeout", "hypothesis", "sortedcontainers"),
)

#: Bytes of all wheels together, at most: what can be sent to such a machine beside the code.
_MOST = 60 * 2**20
_CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"


def main() -> None:
    """Downloads the wheels; exit status 1 where they are too large."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.gpu.wheels")
    parser.add_argument("folder", type=Path, metavar="DIR")
    folder: Path = parser.parse_args().folder
    platforms = [f"--platform=manylinux{name}_x86_64" for name in ("2014", "_2_17", "_2_28")]
    options = ["--no-deps", "--only-binary=:all:", "--python-version=3.12", *platforms]
    download = [sys.executable, "-m", "pip", "download", "--quiet", f"--dest={folder}"]
    subprocess.run([*download, *options, f"--constraint={_CONSTRAINTS}", *PACKAGES], check=True)
    wheels = list(folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{len(wheels)} wheels, {size / 2**20:.1f} MiB, in {folder}")
    if size > _MOST:
        sys.exit(f"they are larger than {_MOST / 2**20:.0f} MiB together")


if __name__ == "__main__":
    main()
