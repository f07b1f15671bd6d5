import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
#: What is written against classes of Ray Tune and torch, and imported when it runs.
AT_FIRST_USE = {"search.executors.ray_tune", "search.samplers.controller"}
MODULES = sorted(
    {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in (REPOSITORY / "search").rglob("*.py")
    }
    - AT_FIRST_USE
)


def _loads(imports: str) -> set[str]:
    script = f"{imports}\nimport sys\nprint([m for m in ('torch', 'ray') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return set(eval(done.stdout))


def test_no_module_of_search_loads_torch_or_ray() -> None:
    assert len(MODULES) > 10
    assert _loads("\n".join(f"import {module}" for module in MODULES)) == set()


@pytest.mark.parametrize("heavy", ["torch"])
def test_heavy_import_would_be_found(heavy: str) -> None:
    assert _loads(f"import search.study, {heavy}") == {heavy}
