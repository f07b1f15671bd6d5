"""The commands before a run: a recipe for images of one's own, and what it will take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.prompt import Prompt

from experiments.commands.options import AsJson, Set, Target
from experiments.commands.terminal import err, out, print_json, print_rows, wrote
from experiments.config import quantity
from experiments.progress import log
from reports.text import count, duration, size
from space.files import write_file
from space.validation import InvalidInput

if TYPE_CHECKING:
    from experiments.planning.estimate import Estimate

Device = Literal["auto", "cpu", "cuda"]


def init(
    images: Annotated[
        Path, typer.Argument(help="A folder with one folder per class, Parquet files, or an .npz.")
    ],
    budget: Annotated[
        str | None, typer.Option(help="MACs that the baseline may cost, as in 300M.")
    ] = None,
    device: Annotated[Device | None, typer.Option(help="Where to train (auto).")] = None,
    file: Annotated[
        Path | None, typer.Option("--out", help="The recipe to write (default: NAME.yaml).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at images and write a recipe for them.

    On a terminal it asks for what is not given.
    """
    from experiments.data.load import bar
    from experiments.data.survey import survey
    from experiments.planning import draft as drafts

    asked = _macs(budget)
    target = file or Path(f"{drafts.run_name(images.absolute())}.yaml")
    _refuse_overwriting(target, force)
    with bar() as progress:
        found = survey(str(images), progress)
    if not as_json:
        for line in drafts.facts(found):
            out.print(line, markup=False)
    for line in found.remarks():
        log.remark(line)
    chosen = device or _ask_device()
    gpu = _has_gpu(chosen)
    if asked is None:
        suggested = drafts.suggested_budget(found, gpu=gpu)
        asked = _ask_budget(suggested) or suggested
    name = drafts.run_name(images.absolute())
    made = drafts.draft(found, asked, gpu=gpu, device=chosen, name=name)
    write_file(target, made.text)
    if as_json:
        network = made.network._asdict()
        print_json({"recipe": str(target), "budget": made.budget, **network} | found.to_dict())
        return
    out.print(
        f"search   {made.network.space} at {made.network.resolution} pixels, up to "
        f"{drafts.written(made.budget)} MACs",
        markup=False,
    )
    wrote(target)
    out.print(f"what it takes:  phiscale estimate {target}", markup=False, soft_wrap=True)
    out.print(f"to run it:      phiscale run {target}", markup=False, soft_wrap=True)


def estimate(
    recipe: Target,
    hours: Annotated[
        float | None, typer.Option(min=0.001, help="Say what would make it fit into so many hours.")
    ] = None,
    machines: Annotated[
        int, typer.Option(min=1, help="Say also what so many machines like this one take.")
    ] = 2,
    changes: Set = None,
    as_json: AsJson = False,
) -> None:
    """Measure what a recipe will take: hours and disk, by stage.

    It trains the smallest, the median and the largest network for some seconds.
    """
    from experiments import config
    from experiments.planning import estimate as estimating
    from experiments.planning import fitting

    saved = Path(recipe) / "recipe.yaml"
    loaded = config.load(str(saved) if saved.is_file() else recipe, tuple(changes or ()))
    estimator = estimating.Estimator(loaded, log.note)
    found = estimator.estimate(machines=machines)
    ways = fitting.ways(estimator, hours) if hours else []
    enough = fitting.machines_for(estimator, hours) if hours else None
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
    out.print(f"decoded images take {size(found.cache_bytes)} of the disk", style="dim")


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
        out.print("  nothing less than a smaller recipe: lower objective.bounds and resolution")


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


def _macs(budget: str | None) -> int | None:
    if budget is None:
        return None
    found = quantity(budget)
    if not isinstance(found, int) or found < 1:
        raise InvalidInput(
            f"--budget {budget}: a number of multiply–adds is needed, such as 300M or 1.5G"
        )
    return found


def _refuse_overwriting(target: Path, force: bool) -> None:
    if target.suffix not in (".yaml", ".yml"):
        raise InvalidInput(f"--out {target}: a recipe's name ends in .yaml; choose such a one")
    if target.exists() and not force:
        raise InvalidInput(
            f"{target}: this file exists already; choose another with --out, or overwrite it with "
            "--force"
        )


def _asks() -> bool:
    return sys.stdin.isatty() and err.is_terminal


def _ask_device() -> Device:
    if not _asks():
        return "auto"
    choice: Device = Prompt.ask(  # type: ignore[assignment]
        "Train on which device?", choices=["auto", "cpu", "cuda"], default="auto", console=err
    )
    return choice


def _ask_budget(suggested: int) -> int | None:
    from experiments.planning.draft import written

    while _asks():
        said = Prompt.ask(
            "How many multiply–adds may the baseline cost?",
            default=written(suggested),
            console=err,
        )
        try:
            return _macs(said)
        except InvalidInput as error:
            log.trouble(str(error))
    return None


def _has_gpu(device: Device) -> bool:
    """Whether trainings will use a GPU."""
    if device == "auto":
        import torch

        return torch.cuda.is_available()
    return device == "cuda"
