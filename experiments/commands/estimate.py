"""`phiscale estimate`: what a recipe will take, and what would make it fit into a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.commands.shared_options import AsJson, Set, Target
from experiments.commands.terminal import out, print_json, print_rows
from experiments.progress import log
from reports.formatting import count, duration, size

if TYPE_CHECKING:
    from experiments.planning.estimate import Estimate


def estimate(
    recipe: Target,
    hours: Annotated[
        float | None,
        typer.Option(min=0.001, help="Show what would fit into this many hours."),
    ] = None,
    machines: Annotated[
        int, typer.Option(min=1, help="Also estimate this many machines like this one.")
    ] = 2,
    changes: Set = None,
    as_json: AsJson = False,
) -> None:
    """Measure what a recipe takes: hours and disk space, by stage.

    It trains the smallest, the median and the largest network for some seconds.
    """
    from experiments import config
    from experiments.planning import estimate as estimating
    from experiments.planning import time_limit

    saved = Path(recipe) / "recipe.yaml"
    loaded = config.load(str(saved) if saved.is_file() else recipe, tuple(changes or ()))
    estimator = estimating.Estimator(loaded, log.note)
    found = estimator.estimate(machines=machines)
    ways = time_limit.ways(estimator, hours) if hours else []
    enough = time_limit.machines_for(estimator, hours) if hours else None
    if as_json:
        print_json(_as_data(found, hours, ways, enough))
        return
    _print_estimate(found)
    if hours is not None:
        _print_fit(recipe, found, hours, ways, enough)


def _print_estimate(found: Estimate) -> None:
    low, middle, high = (count(macs) for macs in found.macs)
    out.print(
        f"{found.combinations:.1e} of {found.size:.1e} networks of {found.space} are within the "
        f"bounds: {low} to {high} MACs, half of them {middle} or more\n"
    )
    rows = [
        [probe.name, count(probe.macs), f"{probe.architecture.resolution}"]
        + [f"{1 / seconds:,.0f} images/s" for seconds in (probe.train, probe.validation)]
        for probe in found.probes
    ]
    at_once = f", {found.workers} at a time" if found.workers > 1 else ""
    print_rows((f"measured here{at_once}", "MACs", "pixels", "training", "validation"), rows)
    totals = ("all", 0, found.seconds, found.shared, found.bytes)
    rows = [
        [
            name,
            f"{trainings} ×" if trainings else "",
            duration(here.middle),
            f"{duration(here.low)} – {duration(here.high)}",
            duration(there.middle),
            size(written),
        ]
        for name, trainings, here, there, written in [
            *((s.name, s.trainings, s.seconds, s.shared, s.bytes) for s in found.stages),
            totals,
        ]
    ]
    out.print()
    shared = f"{found.machines} machines"
    print_rows(("stage", "", "here", "between", shared, "disk"), rows)
    out.print(f"decoded images take {size(found.cache_bytes)} of disk space", style="dim")


def _print_fit(
    recipe: str,
    found: Estimate,
    hours: float,
    ways: list[tuple[str, dict[str, int]]],
    enough: int | None,
) -> None:
    limit = duration(3600 * hours)
    out.print()
    if found.seconds.middle <= 3600 * hours:
        sure = "surely" if found.seconds.high <= 3600 * hours else "probably"
        out.print(f"it {sure} fits into {limit} as it is")
        return
    out.print(f"to fit into {limit}, one of:")
    for words, values in ways:
        sets = " ".join(f"--set {key}={value}" for key, value in values.items())
        out.print(f"  {words}: phiscale run {recipe} {sets}", markup=False, soft_wrap=True)
    if enough is not None:
        out.print(f"  {enough} machines like this one (executor.kind: ray)")
    if not ways and enough is None:
        out.print("  only a smaller recipe: lower objective.bounds and resolution")


def _as_data(
    found: Estimate,
    hours: float | None,
    ways: list[tuple[str, dict[str, int]]],
    enough: int | None,
) -> dict[str, Any]:
    probes = [
        {name: value for name, value in probe._asdict().items() if name != "architecture"}
        for probe in found.probes
    ]
    stages = [
        vars(stage) | {name: getattr(stage, name)._asdict() for name in ("seconds", "shared")}
        for stage in found.stages
    ]
    totals = {"seconds": found.seconds._asdict(), "shared": found.shared._asdict()}
    fit = {
        "hours": hours,
        "ways": [{"what": words, "set": values} for words, values in ways],
        "machines": enough,
    }
    return (
        vars(found)
        | {"probes": probes, "stages": stages, "bytes": found.bytes, **totals}
        | ({"fit": fit} if hours else {})
    )
