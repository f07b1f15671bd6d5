"""`phiscale estimate`: how long a recipe takes, and how to make it fit into a time."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments import config
from experiments.commands.shared_options import AsJson, Set, Target
from experiments.commands.terminal import out, print_json, print_rows, say
from experiments.progress import log
from experiments.runs.opening import recipe_and_folder
from reports.formatting import count, duration, size

if TYPE_CHECKING:
    from experiments.planning.estimate import Estimate
    from experiments.planning.time_limit import Fit


def estimate(
    recipe: Target,
    hours: Annotated[
        float | None,
        typer.Option(min=0.001, max=1e6, help="Show how to make it fit into this many hours."),
    ] = None,
    machines: Annotated[
        int,
        typer.Option(min=1, max=10_000, help="Estimate also for this many machines like this one."),
    ] = 2,
    changes: Set = None,
    as_json: AsJson = False,
) -> None:
    """Measure how long a recipe takes: hours and disk space, by stage.

    Trains the smallest, the median and the largest network for some seconds.
    """
    from experiments.planning import time_limit
    from experiments.planning.estimate import Estimator

    loaded, _ = recipe_and_folder(config.load, recipe, overrides=changes or ())
    estimator = Estimator(loaded, log.note)
    found = estimator.estimate(machines=machines)
    fit = time_limit.fit(estimator, hours) if hours else None
    enough = time_limit.machines_for(estimator, hours) if hours else None
    if as_json:
        print_json(_as_data(found, hours, fit, enough))
        return
    _print_estimate(found)
    if hours is not None:
        _print_fit(recipe, changes or (), found, hours, fit, enough)


def _print_estimate(found: Estimate) -> None:
    low, middle, high = (count(macs) for macs in found.macs)
    out.print(
        f"{found.combinations:.1e} of {found.size:.1e} networks of {found.space} are within the "
        f"bounds, with {low} to {high} MACs (median {middle})\n"
    )
    rows = [
        [speed.name, count(speed.macs), f"{speed.architecture.resolution}"]
        + [f"{1 / seconds:,.0f} images/s" for seconds in (speed.train, speed.validation)]
        for speed in found.speeds
    ]
    at_once = f", {found.workers} at a time" if found.workers > 1 else ""
    print_rows((f"measured here{at_once}", "MACs", "pixels", "training", "validation"), rows)
    stages = [(s.name, s.training_runs, s.seconds, s.shared, s.bytes) for s in found.stages]
    rows = [
        [
            name,
            f"{training_runs} ×" if training_runs else "",
            duration(here.middle),
            f"{duration(here.low)} – {duration(here.high)}",
            duration(shared.middle),
            size(written),
        ]
        for name, training_runs, here, shared, written in [
            *stages,
            ("all", 0, found.seconds, found.shared, found.bytes),
        ]
    ]
    out.print()
    machines = f"{found.machines} machines"
    print_rows(("stage", "", "here", "between", machines, "disk"), rows)
    out.print(f"decoded images take {size(found.cache_bytes)} of the disk", style="dim")
    if found.under_load:
        out.print(
            f"other processes used about {1 - found.cpu_share:.0%} of the CPU during the "
            "measurement; a run on an idle machine is faster: measure again when it is idle",
            style="yellow",
        )


def _print_fit(
    recipe: str,
    changes: Sequence[str],
    found: Estimate,
    hours: float,
    fit: Fit | None,
    enough: int | None,
) -> None:
    from experiments.planning.time_limit import shown

    limit = duration(3600 * hours)
    out.print()
    if fit and not fit.changes:
        sure = "fits" if found.seconds.high <= 3600 * hours else "probably fits"
        out.print(f"the recipe {sure} into {limit}")
        return
    if fit:
        low, middle, high = map(duration, fit.estimate.seconds)
        out.print(f"to fit into {limit} ({middle}, between {low} and {high}):")
        less = [f"{key}={shown(value)}" for key, value in fit.changes.items()]
        sets = map(shlex.quote, [*changes, *less])
        say("  " + " --set ".join([f"phiscale run {shlex.quote(recipe)}", *sets]))
    if enough is not None:
        prefix = "or " if fit else ""
        out.print(f"{prefix}use {enough} machines like this one (executor.kind: ray)")
    if fit is None and enough is None:
        out.print(f"nothing makes it fit into {limit}: lower objective.bounds and resolution")


def _as_data(
    found: Estimate, hours: float | None, fit: Fit | None, enough: int | None
) -> dict[str, Any]:
    speeds = [speed._asdict() for speed in found.speeds]
    for speed in speeds:
        del speed["architecture"]
    stages = [
        vars(stage) | {"seconds": stage.seconds._asdict(), "shared": stage.shared._asdict()}
        for stage in found.stages
    ]
    data = vars(found) | {
        "speeds": speeds,
        "stages": stages,
        "bytes": found.bytes,
        "seconds": found.seconds._asdict(),
        "shared": found.shared._asdict(),
        "under_load": found.under_load,
    }
    if hours:
        data["fit"] = {
            "hours": hours,
            "set": fit and dict(fit.changes),
            "seconds": fit and fit.estimate.seconds._asdict(),
            "machines": enough,
        }
    return data
