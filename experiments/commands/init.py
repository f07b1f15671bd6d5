"""`phiscale init`: look at images and write a recipe for them."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer
from rich.prompt import Prompt

from experiments.commands.shared_options import AsJson, Set
from experiments.commands.terminal import err, out, print_json, say, typed, wrote
from experiments.config import DataConfig, StartConfig, override, quantity, written
from experiments.progress import log
from reports.formatting import duration
from space.files import write_file
from space.validation import InvalidInput, validate

if TYPE_CHECKING:
    from experiments.planning.spaces import DraftStart

Device = Literal["auto", "cpu", "cuda"]


def init(
    images: Annotated[
        Path, typer.Argument(help="A folder per class, a CSV of labels, Parquet files, or an .npz.")
    ],
    budget: Annotated[
        str | None, typer.Option(help="MACs that the baseline may cost, as in 300M.")
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1e6, help="Write a recipe that takes at most this many hours here."
        ),
    ] = None,
    sram: Annotated[
        str | None,
        typer.Option(help="Bytes of SRAM of a device, as in 256K."),
    ] = None,
    flash: Annotated[str | None, typer.Option(help="Bytes of its flash, as in 1M.")] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Weights to start from: a file, RUN:b1, hf-hub:timm/NAME."),
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Network of these weights (default: recognised).")
    ] = None,
    device: Annotated[Device | None, typer.Option(help="Where to train (auto).")] = None,
    file: Annotated[
        Path | None, typer.Option("--out", help="The recipe to write (default: NAME.yaml).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite it.")] = False,
    changes: Set = None,
    as_json: AsJson = False,
) -> None:
    """Look at images and write a recipe for them.

    It prints the splits and classes that it found. `--sram` and `--flash` bound networks in int8.
    On a terminal it asks for what is not given.
    `--set` takes the keys of `data`, as in --set data.follow_links=true.
    """
    from experiments.data.load import bar
    from experiments.data.survey import described, survey
    from experiments.planning import draft as drafts
    from search.objective import Bounds

    name = drafts.run_name(images.absolute())
    asked, target = _count("budget", budget), file or Path(f"{name}.yaml")
    limits = None
    if sram or flash:
        macs = (1, asked) if asked else None
        limits = Bounds(macs=macs, sram=_count("sram", sram), flash=_count("flash", flash))
    if architecture and not start:
        raise InvalidInput("--architecture: names the network of --start; give that, too")
    _refuse_overwriting(target, force)
    with bar() as progress:
        found = survey(_data_config(images, changes or []), progress)
    if not as_json:
        for line in described(found.tree):
            say(line)
        out.print()
        for line in drafts.facts(found):
            out.print(line)
    for line in found.remarks():
        log.remark(line)
    with ExitStack() as undone:
        around = _draft_start(start, architecture, target, force) if start else None
        if around and not force:
            undone.callback(around.space.unlink)
        chosen = device or _ask_device()
        gpu = _has_gpu(chosen)
        if asked is None and limits is None:
            suggested = drafts.suggested_budget(found, gpu=gpu, start=around)
            asked = _ask_budget(suggested) or suggested
        draft_of = partial(
            drafts.draft, found, limits=limits, gpu=gpu, device=chosen, name=name, start=around
        )
        made, seconds = draft_of(asked or 0), None
        if hours is not None:
            from experiments.planning.time_limit import fitted_draft

            made, estimate = fitted_draft(
                draft_of, made.budget, hours, keep_budget=bool(budget or limits), say=log.remark
            )
            seconds = estimate.seconds
        write_file(target, made.text)
        undone.pop_all()
    if as_json:
        facts = {"recipe": str(target), "budget": made.budget, "candidates": made.candidates}
        took = {"seconds": seconds and seconds._asdict()}
        print_json(facts | made.network._asdict() | took | found.to_dict())
        return
    at_most = budget if limits else written(made.budget)
    given = {"SRAM": sram, "flash": flash, "MACs": at_most}.items()
    most = ", ".join(f"{limit} {what}" for what, limit in given if limit)
    out.print(
        f"search   {made.network.space} at {'up to ' if around else ''}"
        f"{made.network.resolution} pixels, up to {most}"
    )
    if made.candidates:
        out.print(f"grid     at least {made.candidates} candidates for α, β, γ")
    if seconds is not None:
        low, middle, high = map(duration, seconds)
        out.print(f"time     {middle}, between {low} and {high}")
    if around:
        wrote(around.space)
    wrote(target)
    say(f"to estimate:    phiscale estimate {typed(target)}")
    say(f"to run:         phiscale run {typed(target)}")


def _draft_start(weights: str, architecture: str | None, recipe: Path, force: bool) -> DraftStart:
    """The start of the recipe; its space is written beside the recipe."""
    import yaml

    from experiments.planning.spaces import DraftStart
    from experiments.runs.start import absolute, find
    from space.around import space_around

    given = StartConfig(weights=weights, architecture=architecture)
    start, given = find(given), absolute(given)
    assert given.weights is not None
    space = recipe.with_name(f"{recipe.stem}-space.yaml")
    _refuse_overwriting(space, force)
    name = start.record.source
    text = yaml.safe_dump(space_around(start.architecture, f"around {name}"), sort_keys=False)
    write_file(space, f"# Written by `phiscale init`: networks near {name}.\n{text}")
    return DraftStart(name, given.weights, given.architecture, space.absolute())


def _data_config(images: Path, changes: list[str]) -> DataConfig:
    """The section `data` of the recipe, as the command line gives it."""
    keys: dict[str, Any] = {"data": {"source": str(images)}}
    for change in changes:
        override(keys, change)
        if keys.keys() != {"data"}:
            raise InvalidInput(
                f"--set {change}: `init` takes keys of `data` only, as in "
                "data.follow_links=true; change others in the recipe that it writes"
            )
    return validate(DataConfig, keys["data"], source="--set data")


def _count(option: str, given: str | None) -> int | None:
    if given is None:
        return None
    found = quantity(given)
    if not isinstance(found, int) or found < 1:
        of = "multiply–adds, such as 300M" if option == "budget" else "bytes, such as 256K or 1M"
        raise InvalidInput(f"--{option} {given}: must be a number of {of}")
    return found


def _refuse_overwriting(target: Path, force: bool) -> None:
    if target.suffix.lower() not in (".yaml", ".yml"):
        raise InvalidInput(f"--out {target}: a recipe's name must end in .yaml")
    if target.exists() and not force:
        raise InvalidInput(
            f"{target}: this file already exists; choose another with --out, or overwrite it with "
            "--force"
        )


def _asks() -> bool:
    return sys.stdin.isatty() and err.is_terminal


def _ask_device() -> Device:
    if not _asks():
        return "auto"
    choice: Device = Prompt.ask(  # type: ignore[assignment]
        "Train on which device?", choices=[*get_args(Device)], default="auto", console=err
    )
    return choice


def _ask_budget(suggested: int) -> int | None:
    while _asks():
        question = "How many multiply–adds may the baseline cost?"
        answer = Prompt.ask(question, default=written(suggested), console=err)
        try:
            return _count("budget", answer)
        except InvalidInput as error:
            log.trouble(str(error))
    return None


def _has_gpu(device: Device) -> bool:
    """Whether training runs will use a GPU."""
    if device == "auto":
        import torch

        return torch.cuda.is_available()
    return device == "cuda"
