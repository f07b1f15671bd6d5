"""A recipe for images that were looked at and a budget: what `phiscale init` writes.

The numbers of epochs and trials are starting points (assumed), sized for the machine; `phiscale
estimate` then measures what they take.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from experiments.config import RUN_NAME, DataConfig, Recipe, written
from experiments.data.load import HEAVY_IMBALANCE
from experiments.data.survey import Survey, most_bad
from experiments.planning.spaces import (
    MIDDLE,
    DraftStart,
    SpaceOffer,
    fitting,
    least_macs,
    nearest,
    rounded,
    space_offers,
    typical,
)
from scaling.grid import realised
from search.executors.processes import cores
from search.objective import Bounds
from space.architecture import Architecture
from space.device import RuntimeMemory
from space.validation import InvalidInput, validate

#: Training images below which training runs get more epochs and smaller batches.
_FEW = 3_000

#: Grids of coefficients to choose from, by step and tolerance; and how many candidates are enough
#: (assumed).
_GRIDS = ((0.2, 0.1), (0.1, 0.1), (0.1, 0.2), (0.05, 0.1), (0.1, 0.3), (0.05, 0.2), (0.05, 0.3))
_ENOUGH = 9


class _TrainingScale(NamedTuple):
    """How much a machine can train: see the recipe's comments for what each is (assumed)."""

    proxy_images: int
    trials: int
    final_epochs: int
    family_passes: int
    family_epochs: tuple[int, int]
    members: int
    batch_size: int
    pixels: int
    ease: float


_CPU = _TrainingScale(10_000, 40, 10, 300_000, (10, 100), 3, 64, 64, 0.5)
_GPU = _TrainingScale(50_000, 200, 30, 8_000_000, (30, 300), 4, 256, 224, 1.0)
#: From a published network, less is left to learn (assumed).
_CPU_FINE_TUNING = _TrainingScale(10_000, 16, 4, 30_000, (8, 20), 2, 32, 224, 0.5)
_GPU_FINE_TUNING = _TrainingScale(50_000, 100, 10, 800_000, (10, 50), 4, 64, 224, 1.0)


@dataclass(frozen=True)
class Draft:
    """A recipe's text and what was decided for it.

    `candidates` is how many networks the coefficients are chosen from, about a typical baseline;
    0 where they are fixed.
    """

    text: str
    network: SpaceOffer
    budget: int
    candidates: int


def draft(
    survey: Survey,
    budget: int,
    *,
    limits: Bounds | None = None,
    gpu: bool,
    device: str,
    name: str,
    start: DraftStart | None = None,
) -> Draft:
    """A commented recipe for the images of `survey`.

    `budget` is the most MACs that the baseline may cost; `limits` of a device, in int8, take its
    place. With a `start`, the search is around that network. Raises `InvalidInput` where no space
    reaches the budget or the limits.
    """
    scale, candidates = _scale(gpu, start), 0
    if limits is not None:
        network, overhead = fitting(survey, limits, start)
        budget, parts = rounded(network.macs), _device_parts(limits, overhead)
    else:
        network = nearest(survey, budget, start)
        grid = _coefficient_grid(typical(survey, network, budget))
        parts = _budget_parts(survey, budget, scale, grid, start)
        candidates = grid.candidates
    executor = _executor_text(device, gpu=gpu)
    text = _text(survey, network, budget, scale, parts, executor=executor, name=name, start=start)
    return Draft(text, network, budget, candidates)


class _Parts(NamedTuple):
    """Lines of the recipe that differ by what bounds its networks."""

    bounds: str
    coefficients: str
    members: str


def _budget_parts(
    survey: Survey,
    budget: int,
    scale: _TrainingScale,
    grid: CoefficientGrid,
    start: DraftStart | None,
) -> _Parts:
    members = ", ".join(written(budget * 2**step) for step in range(scale.members))
    macs = f"macs: [{written(least_macs(budget))}, {written(budget)}]"
    return _Parts(
        f"{macs}  # networks outside are never trained",
        _COEFFICIENTS.format(
            **grid._asdict(),
            seeds=2 if start else 3,
            # One takes 12 of the 26 minutes of a run (experiments/results/clothing/).
            epochs=1 if start else _proxy_epochs(survey, start),
            fraction=_fraction(scale.proxy_images, survey.trained),
        ),
        f"targets: [{members}]",
    )


def _device_parts(limits: Bounds, overhead: RuntimeMemory) -> _Parts:
    sizes = {"sram": limits.sram, "flash": limits.flash}
    given = {name: most for name, most in sizes.items() if most is not None}
    lines = [f"{name}: {written(most)}" for name, most in given.items()]
    if limits.macs:
        lines.append(f"macs: [{limits.macs[0]}, {written(limits.macs[1])}]")
    lines[0] += "  # networks outside are never trained"
    room = [f"    {name}: {written(getattr(overhead, name))}" for name in given]
    room[0] += "  # what LiteRT for Microcontrollers may take of it"
    return _Parts(
        "\n    ".join(lines)
        + "\n  overhead:\n"
        + "\n".join(room)
        + "\n  precision: int8  # of these bytes, and of the finalists"
        + "\n  exponent_below: 0  # no reward for fewer MACs: the best accuracy that fits"
        + "\n  exponent_above: 0",
        _FIXED_COEFFICIENTS,
        "phi: [0, -1]  # the baseline, and a member of about half its MACs\n"
        "  int8: true  # every member is quantised, and measured again",
    )


def _scale(gpu: bool, start: DraftStart | None) -> _TrainingScale:
    if start is not None:
        return _GPU_FINE_TUNING if gpu else _CPU_FINE_TUNING
    return _GPU if gpu else _CPU


class CoefficientGrid(NamedTuple):
    """A grid of coefficients, and how many candidates it has about a typical baseline."""

    step: float
    tolerance: float
    candidates: int


def _coefficient_grid(baselines: list[Architecture]) -> CoefficientGrid:
    """The coarsest grid with enough candidates around each baseline, or else the one with the most.

    Networks are coarse, and most combinations round to one that costs too much or too little.
    """
    grids = []
    for step, tolerance in _GRIDS:
        fewest = min(_candidates(each, step, tolerance) for each in baselines)
        grids.append(CoefficientGrid(step, tolerance, fewest))
        if fewest >= _ENOUGH:
            return grids[-1]
    return max(grids, key=lambda each: each.candidates)


def _candidates(baseline: Architecture, step: float, tolerance: float) -> int:
    try:
        return len(realised(baseline, step, tolerance))
    except InvalidInput:
        return 0


def run_name(path: Path) -> str:
    """A run's name made of a file's or folder's."""
    stem = path.stem if path.suffix in (".parquet", ".npz") else path.name
    found = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-_.")[:64]
    return found if RUN_NAME.fullmatch(found) else "images"


def suggested_budget(survey: Survey, *, gpu: bool, start: DraftStart | None = None) -> int:
    """The MACs that suit images and machine: the middle of a space, for a CPU half of that."""
    scale = _scale(gpu, start)
    offers = (each for each in space_offers(survey, start) if each.resolution <= scale.pixels)
    network = max(offers, key=lambda each: (each.resolution, -each.macs))
    return rounded(scale.ease * network.macs / MIDDLE)


def _text(
    survey: Survey,
    network: SpaceOffer,
    target: int,
    scale: _TrainingScale,
    parts: _Parts,
    *,
    executor: str,
    name: str,
    start: DraftStart | None,
) -> str:
    fraction = _fraction(scale.proxy_images, survey.trained)
    few = survey.trained < _FEW
    low, high = scale.family_epochs
    text = _TEMPLATE.format(
        facts="\n".join(f"# {line}" for line in facts(survey)),
        name=_quoted(name),
        source=_quoted(survey.path),
        space=_quoted(network.space) if start else network.space,
        resolution=network.resolution,
        most=", at most" if start else "",
        channels=1 if survey.grey else 3,
        max_bad=_max_bad(survey),
        held_out=survey.config.held_out,
        test=survey.config.test,
        more=_more(survey.config),
        metric="balanced" if survey.imbalance >= HEAVY_IMBALANCE else "top1",
        batch_size=32 if few else scale.batch_size,
        target=written(target),
        trials=scale.trials,
        epochs=_proxy_epochs(survey, start),
        fraction=fraction,
        seen=f"{round(fraction * survey.trained):,}",
        final_epochs=2 * scale.final_epochs if few and not start else scale.final_epochs,
        finalists=3 if start else 5,
        start=_start_text(start),
        others="random, base or a preset" if start else "random, base or mobilenet_v3_small",
        rivals="start" if start else "",
        rival=f"  # {start.name} itself, at fewer pixels" if start else "",
        fine_tuning=_FINE_TUNING if start else "",
        family_epochs=max(low, min(high, round(scale.family_passes / survey.trained))),
        executor=executor,
        **parts._asdict(),
    )
    text = _aligned(text)
    validate(Recipe, yaml.safe_load(text), source="the recipe to be written")
    return text


def _proxy_epochs(survey: Survey, start: DraftStart | None) -> int:
    if start is not None:
        return 2
    return 10 if survey.trained < _FEW else 5


def _start_text(start: DraftStart | None) -> str:
    if start is None:
        return ""
    network = start.architecture and f"\n  architecture: {_quoted(start.architecture)}"
    return _START.format(
        name=start.name, weights=_quoted(start.weights), architecture=network or ""
    )


def _executor_text(device: str, *, gpu: bool) -> str:
    """Lines of the section `executor`: on a CPU of several cores, training runs share them.

    Two workers with a thread each were 1.28 times as fast as one with two threads (measured: two
    cores, `results/orchestration.json`).
    """
    lines = f"  device: {device}  # auto uses a GPU if there is one\n"
    if gpu or cores() == 1:
        return lines
    return f"{lines}  kind: processes  # as many training runs at a time as are measured fastest\n"


def _fraction(wanted: int, images: int) -> float:
    """The part of `images` that is about `wanted`, to one digit."""
    return float(f"{min(1.0, wanted / images):.0e}")


def _max_bad(survey: Survey) -> float:
    """The default, or twice the part that was found to be broken, up to what `init` accepts."""
    found = 2 * len(survey.broken) / max(1, survey.looked_at)
    return min(most_bad(survey.config), max(0.01, math.ceil(100 * found) / 100))


def _more(config: DataConfig) -> str:
    """The keys of `data` that a user set and the template has not, as lines of the recipe."""
    shown = {"source", "channels", "held_out", "test", "max_bad"}
    keys = config.model_fields_set - shown
    lines = yaml.safe_dump(config.model_dump(mode="json", include=keys), sort_keys=False)
    return "".join(f"  {line}\n" for line in lines.splitlines()) if keys else ""


def _aligned(text: str) -> str:
    """The text with the comments behind values below each other."""
    lines = []
    for line in text.splitlines():
        value, mark, comment = line.partition("  # ")
        lines.append(f"{value.rstrip():<24}{mark}{comment}" if mark else line)
    return "\n".join(lines) + "\n"


def facts(survey: Survey) -> list[str]:
    """What was found, a line each."""
    images = ", ".join(f"{count:,} {split}" for split, count in survey.images.items() if count)
    least, most = min(survey.per_class), max(survey.per_class)
    between = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    sides = survey.sides
    spread = (
        f"{sides.median} pixels"
        if sides.smallest == sides.largest
        else f"{sides.smallest} to {sides.largest} pixels, half of them {sides.median} or more"
    )
    kinds = ", ".join(f"{count:,} {mode}" for mode, count in survey.modes.items())
    sampled = (
        ""
        if survey.looked_at == sum(survey.images.values())
        else (f", of {survey.looked_at:,} looked at")
    )
    return [
        f"images   {images} ({survey.format})",
        f"classes  {len(survey.classes):,}, of {between} training images",
        f"sides    {spread}{sampled}",
        f"pixels   {'grey' if survey.grey else 'colour'} ({kinds})",
    ]


def _quoted(text: str) -> str:
    return yaml.safe_dump(text, allow_unicode=True, width=10_000, default_style='"').strip()


_START = """\
start:  # every training run inherits from {name}
  weights: {weights}{architecture}

"""

#: Fine-tuning (measured once: Lite0 at 48 pixels, 4 epochs on 3,068 photos, one seed, 372 test
#: images: 80.6 % with AdamW, 76.1 and 73.9 % with SGD at two rates). The learning rate: 8 epochs at
#: 25M MACs, two times 302 held-out photos: 88.0 and 88.4 % with Lite0, 88.7 and 87.7 % with it
#: narrowed to 0.75; half the rate gave 86.4, 85.1, 86.1 and 87.1 %, twice the rate 85.1 % (Lite0;
#: `experiments.benchmarks.start --rates`).
_FINE_TUNING = """
  optimizer: adamw
  learning_rate: 0.016  # per 256 images
  weight_decay: 0.01"""

_COEFFICIENTS = """\
# Stage 2: how depth, width and resolution grow together (α·β²·γ² ≈ 2).
coefficients:
  step: {step}
  tolerance: {tolerance}  # {candidates} candidates or more
  seeds: {seeds}  # with which the best four are trained again
  epochs: {epochs}
  data_fraction: {fraction:g}
"""

_FIXED_COEFFICIENTS = """\
# Stage 2: members shrink together in depth, width and resolution, as EfficientNet's do.
coefficients:
  alpha: 1.2
  beta: 1.1
  gamma: 1.15
"""

_TEMPLATE = """\
# Written by `phiscale init`. Change any value; `phiscale estimate` measures what a run takes.
# What was found:
{facts}
name: {name}
space: {space}  # search space of the baseline; `phiscale spaces` lists others
resolution: {resolution}  # pixels of the baseline{most}; larger members see more

data:
  source: {source}
  channels: {channels}  # 3: colour, 1: grey
  held_out: {held_out:g}  # part of the training images that measures the search (or a count)
  test: {test:g}  # set aside to test the family, if the images have no test split
  max_bad: {max_bad}  # maximum fraction of unusable images
{more}
{start}train:
  batch_size: {batch_size}{fine_tuning}
  flip: true  # false if mirrored images mean something else (letters, signs)

objective:
  metric: {metric}  # `balanced`: the mean over classes, for classes of unequal size
  target: {target}  # multiply–adds (MACs) of the baseline for one image
  bounds:
    {bounds}

# Stage 1: many short training runs, then longer ones of the best networks.
search:
  trials: {trials}
  epochs: {epochs}
  data_fraction: {fraction:g}  # {seen} training images in each epoch
  finalists: {finalists}
  final_epochs: {final_epochs}

{coefficients}
# Stage 3: the family; its first member is the baseline. Rivals, such as {others},
# are trained at the same costs.
family:
  {members}
  epochs: {family_epochs}
  rivals: [{rivals}]{rival}

executor:
{executor}"""
