"""What the page on extensions adds works as the page says."""

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from scaling.formats import Portable, Preprocessing
from search import samplers
from search.candidates import Candidates
from search.objective import Bounds, Objective
from space import choices, presets
from space.network import build

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "extend.md"


def code(file: str) -> str:
    """The block of Python that the page says to write into `file`."""
    text = PAGE.read_text("utf-8")
    (found,) = re.findall(rf"Create `{re.escape(file)}`:\n\n```python\n(.*?)```", text, re.S)
    return found


def module(file: str) -> ModuleType:
    made = ModuleType(Path(file).stem)
    exec(compile(code(file), file, "exec"), vars(made))
    return made


def test_the_sampler_of_the_page_proposes_new_networks_within_the_bounds(monkeypatch):
    method = module("search/samplers/annealing.py").annealing
    monkeypatch.setitem(samplers._METHODS, "annealing", method)
    space = choices.load("mnasnet_small").adapted(num_classes=10, resolution=32)
    bounds = Bounds(macs=(2_000_000, 8_000_000))
    candidates = Candidates(space, Objective(target=4_000_000, bounds=bounds))
    sampler = samplers.create("annealing", candidates, seed=0)
    proposed = sampler.propose([], 0).candidate
    assert bounds.macs[0] <= proposed.cost.macs <= bounds.macs[1]


def test_the_exporter_of_the_page_gives_the_networks_outputs():
    exporter = module("scaling/formats/arrays.py")
    network = presets.load("mnasnet_small", num_classes=3)
    portable = Portable("net", network, ("a", "b", "c"), Preprocessing((0.5,) * 3, (0.5,) * 3))
    trained = build(network).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = trained(images).numpy()
    files = exporter.content(portable, trained)
    assert len(files) == len(exporter.FILES)
    assert np.array_equal(exporter.open_(files)(images.numpy()), expected)


def test_the_diffs_of_the_page_fit_the_code():
    text = PAGE.read_text("utf-8")
    shown = re.findall(r"in `([\w/.]+\.py)`[^\n]*\n\n```diff\n(.*?)```", text, re.S)
    assert len(shown) == text.count("```diff")
    for file, diff in shown:
        source = (PAGE.parents[2] / file).read_text("utf-8")
        for hunk in diff.split("@@\n"):
            lines = hunk.splitlines()
            before, after = (
                "\n".join(line[1:] for line in lines if line[:1] in kinds)
                for kinds in ((" ", "-"), (" ", "+"))
            )
            fits = before and before in source
            assert fits or after in source, f"{file} has changed: renew the page\n{hunk}"
