"""A recipe for images that were looked at and a budget: what `phiscale init` writes.

The numbers of epochs and trials are starting points (assumed), sized for the machine; `phiscale
estimate` then measures what they take.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from experiments.config import RUN_NAME, DataConfig, Recipe, quantity
from experiments.data.load import HEAVY_IMBALANCE
from experiments.data.survey import Survey, most_bad
from reports.formatting import short
from scaling.grid import realised
from search.candidates import Candidates
from search.executors.processes import cores
from search.objective import Bounds, Objective
from space import choices
from space.architecture import Architecture
from space.choices import Space
from space.cost import cost
from space.device import Precision
from space.validation import InvalidInput, validate

#: Shipped spaces by the pixels that they are made for: these halve an image three times …
_SMALL = ("mnasnet_small", "efficientnet_small")
_SMALL_PIXELS = (16, 20, 24, 28, 32, 40, 48, 56, 64, 80)
#: … and this one five times.
_LARGE = ("efficientnet",)
#: The same for a device: blocks that lose little in 8 bits.
_SMALL_DEVICE, _LARGE_DEVICE = ("efficientnet_lite_small",), ("efficientnet_lite",)
_LARGE_PIXELS = (96, 112, 128, 160, 192, 224)

#: How many times the pixels at which a space around a start has its middle within the bounds its
#: networks may have; with more, only the narrowest and shallowest would meet the budget (assumed).
_FINEST = 1.35

#: The least MACs of the baseline, as a part of the budget.
_LEAST = 0.5

#: Training images below which training runs get more epochs and smaller batches.
_FEW = 3_000

#: Grids of coefficients to choose from, by step and tolerance; how many candidates are enough; and
#: around how many networks they are counted (assumed).
_GRIDS = ((0.2, 0.1), (0.1, 0.1), (0.1, 0.2), (0.05, 0.1), (0.1, 0.3), (0.05, 0.2), (0.05, 0.3))
_ENOUGH, _TYPICAL = 9, 3

#: Networks drawn to learn what those of a space cost, at the middle.
_DRAWS = 100


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


@dataclass(frozen=True)
class DraftStart:
    """A published network to search around: its name for people, its keys in the recipe.

    `space` is the file of the space.
    """

    name: str
    weights: str
    architecture: str | None
    space: Path


_CPU = _TrainingScale(10_000, 40, 10, 300_000, (10, 100), 3, 64, 64, 0.5)
_GPU = _TrainingScale(50_000, 200, 30, 8_000_000, (30, 300), 4, 256, 224, 1.0)
#: From a published network, less is left to learn (assumed).
_CPU_FINE_TUNING = _TrainingScale(10_000, 16, 4, 30_000, (8, 20), 2, 32, 224, 0.5)
_GPU_FINE_TUNING = _TrainingScale(50_000, 100, 10, 800_000, (10, 50), 4, 64, 224, 1.0)


class SpaceOffer(NamedTuple):
    """Where to search: a space at a resolution in pixels, and the MACs of its networks.

    Around a start, networks have this resolution at most. `low`, `macs` and `high` are the
    quantiles of 2, 50 and 98 %.
    """

    space: str
    resolution: int
    low: int
    macs: int
    high: int


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
        network = _fitting(survey, limits, start)
        budget, parts = _rounded(network.macs), _device_parts(limits)
    else:
        network = _nearest(survey, budget, start)
        grid = _coefficient_grid(_typical(survey, network, budget))
        parts = _budget_parts(survey, budget, scale, grid, start)
        candidates = grid.candidates
    executor = _executor_text(device, gpu=gpu)
    text = _text(survey, network, budget, scale, parts, executor=executor, name=name, start=start)
    return Draft(text, network, budget, candidates)


def _nearest(survey: Survey, budget: int, start: DraftStart | None) -> SpaceOffer:
    """The space and resolution whose middle is nearest to that of the bounds.

    Raises `InvalidInput` where no space has a network within them.
    """
    offers = list(_offers(survey, start))
    near = [each for each in offers if each.low <= budget and _least(budget) <= each.high]
    if start is None:
        finest = max((each.resolution for each in near), default=0)
        near = [each for each in near if each.resolution == finest]
    network = min(near or offers, key=lambda each: _distance(each, budget))
    if start is not None:  # whose space has the resolution as a choice
        limit = _FINEST * network.resolution
        finest = max(each.resolution for each in offers if each.resolution <= limit)
        network = network._replace(resolution=finest)
    _check_reach(network, offers, budget, survey, start)
    return network


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
    macs = f"macs: [{written(_least(budget))}, {written(budget)}]"
    return _Parts(
        f"{macs}  # networks outside are never trained",
        _COEFFICIENTS.format(
            **grid._asdict(),
            seeds=2 if start else 3,
            epochs=_proxy_epochs(survey, start),
            fraction=_fraction(scale.proxy_images, survey.trained),
        ),
        f"targets: [{members}]",
    )


def _device_parts(limits: Bounds) -> _Parts:
    sizes = {"sram": limits.sram, "flash": limits.flash}
    lines = [f"{name}: {written(most)}" for name, most in sizes.items() if most is not None]
    if limits.macs:
        lines.append(f"macs: [{limits.macs[0]}, {written(limits.macs[1])}]")
    lines[0] += "  # networks outside are never trained"
    return _Parts(
        "\n    ".join(lines) + "\n  precision: int8  # of these bytes, and of the finalists",
        _FIXED_COEFFICIENTS,
        "phi: [0, -1]  # the baseline, and a member of about half its MACs\n"
        "  int8: true  # every member is quantised, and measured again",
    )


def _fitting(survey: Survey, limits: Bounds, start: DraftStart | None) -> SpaceOffer:
    """Of spaces and resolutions, that with the most MACs on average among the networks that fit.

    Source of the rule: TinyNAS (Lin et al. 2020, section 3.1).
    """
    objective = Objective(target=1, bounds=limits, precision=Precision.INT8)
    found: dict[SpaceOffer, float] = {}
    for name, resolution in _places(survey, start, _LARGE_DEVICE, _SMALL_DEVICE):
        candidates = Candidates(_adapted(name, survey, resolution), objective)
        rows = candidates.sample(_DRAWS, np.random.default_rng(0))
        if len(rows):
            macs = candidates.table(rows)[:, 0]
            quantiles = np.quantile(macs, (0.02, 0.5, 0.98)).astype(int).tolist()
            found[SpaceOffer(name, resolution, *quantiles)] = float(macs.mean())
    if not found:
        try:  # says which bytes are nearest, at the fewest pixels
            candidates.unseen(set(), np.zeros_like(candidates.sizes), np.random.default_rng(0))
        except InvalidInput as error:
            raise InvalidInput(f"--sram, --flash: {str(error).partition(': ')[2]}") from None
    return max(found, key=found.__getitem__)


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


def _typical(survey: Survey, network: SpaceOffer, budget: int) -> list[Architecture]:
    """Networks that may become the baseline: those drawn that cost nearest the budget's middle."""
    drawn = _drawn(_adapted(network.space, survey, network.resolution))
    middle = math.sqrt(_LEAST) * budget
    drawn.sort(key=lambda each: abs(math.log(cost(each).macs / middle)))
    return drawn[:_TYPICAL]


def run_name(path: Path) -> str:
    """A run's name made of a file's or folder's."""
    stem = path.stem if path.suffix in (".parquet", ".npz") else path.name
    found = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-_.")[:64]
    return found if RUN_NAME.fullmatch(found) else "images"


def suggested_budget(survey: Survey, *, gpu: bool, start: DraftStart | None = None) -> int:
    """The MACs that suit images and machine: the middle of a space, for a CPU half of that."""
    scale = _scale(gpu, start)
    offers = (each for each in _offers(survey, start) if each.resolution <= scale.pixels)
    network = max(offers, key=lambda each: (each.resolution, -each.macs))
    return _rounded(scale.ease * network.macs / math.sqrt(_LEAST))


def _offers(survey: Survey, start: DraftStart | None = None) -> Iterator[SpaceOffer]:
    """Spaces at resolutions, with what their networks cost."""
    networks: dict[str, list[Architecture]] = {}
    for name, resolution in _places(survey, start, _LARGE, _SMALL):
        if name not in networks:
            networks[name] = _drawn(_adapted(name, survey, resolution))
        yield SpaceOffer(name, resolution, *_quantiles(networks[name], resolution))


def _places(
    survey: Survey, start: DraftStart | None, large: Sequence[str], small: Sequence[str]
) -> Iterator[tuple[str, int]]:
    """Spaces, with resolutions in pixels that do not enlarge most images, the finest first.

    Around a `start`, from its own resolution down.
    """
    side = max(survey.sides.median, _SMALL_PIXELS[0])
    if start is not None:
        resolutions = _adapted(str(start.space), survey, side).resolutions
        yield from ((str(start.space), each) for each in sorted(resolutions, reverse=True))
        return
    for spaces, offered in ((large, _LARGE_PIXELS), (small, _SMALL_PIXELS)):
        pixels = {each for each in offered if each <= side}
        pixels |= {side} if offered[0] <= side <= offered[-1] else set()
        yield from ((name, each) for name in spaces for each in sorted(pixels, reverse=True))


def _adapted(name: str, survey: Survey, resolution: int | None = None) -> Space:
    return choices.load(name).adapted(
        num_classes=len(survey.classes),
        resolution=resolution,
        in_channels=1 if survey.grey else 3,
    )


def _drawn(space: Space) -> list[Architecture]:
    """Networks of a space, each combination of choices as likely as any."""
    draw = random.Random(0)
    return [
        space.decode({name: draw.choice(values) for name, values in space.choices.items()})
        for _ in range(_DRAWS)
    ]


def _quantiles(networks: list[Architecture], resolution: int) -> tuple[int, int, int]:
    """The MACs of 2, 50 and 98 % of the networks at most."""
    macs = sorted(cost(network, resolution).macs for network in networks)
    return macs[round(0.02 * _DRAWS)], macs[_DRAWS // 2], macs[round(0.98 * _DRAWS)]


def _distance(network: SpaceOffer, budget: int) -> float:
    """How far a space's middle is from the middle of the bounds, as a ratio's logarithm."""
    return abs(math.log(network.macs / (math.sqrt(_LEAST) * budget)))


def _check_reach(
    network: SpaceOffer,
    offers: list[SpaceOffer],
    budget: int,
    survey: Survey,
    start: DraftStart | None,
) -> None:
    """Raises `InvalidInput` where the space has no network within the bounds."""
    bounds = Bounds(macs=(_least(budget), budget))
    space = _adapted(network.space, survey, network.resolution)
    candidates = Candidates(space, Objective(target=budget, bounds=bounds))
    if len(candidates.sample(1, np.random.default_rng(0))) == 0:
        least, most = min(each.low for each in offers), max(each.high for each in offers)
        lacking = f"the space around {start.name} has no" if start else "no shipped space has a"
        raise InvalidInput(
            f"--budget {written(budget)}: {lacking} network of "
            f"{written(_least(budget))} to {written(budget)} MACs for images of "
            f"{survey.sides.median} pixels; choose a budget between about "
            f"{short(_rounded(least))} and {short(_rounded(most))}"
        )


def _least(budget: int) -> int:
    """The least MACs of a baseline within a budget."""
    return max(1, round(_LEAST * budget))


def written(count: int) -> str:
    """A count as a recipe has it: 300M where that is exact."""
    text = short(count)
    return text if quantity(text) == count else str(count)


def _rounded(macs: float) -> int:
    """Two digits, as people say a budget."""
    return int(float(f"{macs:.1e}"))


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
#: narrowed to 0.75; half the rate gave 86.4, 85.1, 86.1 and 87.1 %, twice the rate 85.1 % (Lite0).
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
