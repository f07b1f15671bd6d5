"""`phiscale latency`: how long networks take to answer, measured or looked up."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.commands.shared_options import AsJson, Resolution
from experiments.commands.terminal import err, out, print_json, print_rows, say, shown, wrote
from experiments.runs.resolve import find_family, load_architecture
from scaling.saved_family import ARCHITECTURE, SavedFamily, load_family
from space import choices
from space.validation import InvalidInput

if TYPE_CHECKING:
    from experiments.latency.tables import LatencyTable
    from experiments.latency.timing import LatencyRow, Subject
    from space.choices import Space


def latency(
    target: Annotated[
        str,
        typer.Argument(
            help="RUN, RUN:MEMBER or their folder; a preset; an architecture.json; "
            "with --build-table or --kit a space."
        ),
    ],
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "cpu",
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, max=10**6, help="Images at a time; may be repeated (1)."),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="eager, compile, graph or onnxruntime; may be repeated (eager)."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=10_000, help="CPU threads.")] = None,
    resolution: Resolution = None,
    table: Annotated[
        Path | None, typer.Option(help="A latency table; shows its prediction as well.")
    ] = None,
    build_table: Annotated[
        Path | None, typer.Option(help="Measure the latency table of a space and write it here.")
    ] = None,
    kit: Annotated[
        Path | None,
        typer.Option(help="Write the parts of a space here, to be measured elsewhere."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="Of a kit: onnx, litert or program.")
    ] = "onnx",
    as_json: AsJson = False,
) -> None:
    """Measure seconds per call and images per second: medians of many calls, with quartiles.

    In float32, channels last. The latencies of a family are saved in its latency.csv, plotted
    against accuracy, and added to its cards.
    """
    from experiments.data.load import bar
    from experiments.latency import tables, timing

    batches, backends = batch or [1], [timing.backend_of(name) for name in backend or ["eager"]]
    if kit is not None:
        if len(batches) > 1 or backend or threads or device != "cpu":
            raise InvalidInput("--kit: takes --resolution, --format and one --batch alone")
        _write_kit(_space(target, resolution), kit, format_, batches[0], as_json)
        return
    if build_table is not None:
        if len(batches) + len(backends) > 2:
            raise InvalidInput(
                "--build-table: a table holds for one --batch and one --backend; give one of each"
            )
        space = _space(target, resolution)
        with bar() as progress:
            built = tables.measure(
                space,
                device=device,
                batch=batches[0],
                backend=backends[0],
                threads=threads,
                progress=progress,
            )
        built.save(build_table)
        _print_table(built, build_table, f"{target} at {space.base.resolution} pixels", as_json)
        return
    family, subjects = _subjects(target, resolution)
    predictor = tables.load(table) if table else None
    predicted = {each.name: predictor.predict(each.architecture) for each in subjects if predictor}
    rows = list(
        timing.survey(subjects, device=device, batches=batches, backends=backends, threads=threads)
    )
    if as_json:
        print_json(
            [
                row._asdict() | ({"predicted_seconds": predicted[row.member]} if predicted else {})
                for row in rows
            ]
        )
    else:
        _print(rows, predicted)
    if family is not None:
        from experiments.latency.family_latency import save_latencies

        names = ", ".join(str(path) for path in save_latencies(family, rows))
        err.print(f"wrote {names} and the cards", soft_wrap=True)


def _space(name: str, resolution: int | None) -> Space:
    space = choices.load(name)
    base = replace(space.base, resolution=resolution or space.base.resolution)
    return replace(space, base=base)


def _write_kit(space: Space, folder: Path, format_: str, batch: int, as_json: bool) -> None:
    from experiments.data.load import bar
    from experiments.latency import kit

    with bar() as progress:
        count = kit.write(space, folder, format_, batch=batch, progress=progress)
    if as_json:
        print_json({"kit": str(folder), "files": count})
        return
    say(
        f"{folder}: {count:,} files; run measure.py there on the device, and give its latency.csv "
        "as objective.latency_table"
    )


def _subjects(target: str, resolution: int | None) -> tuple[SavedFamily | None, list[Subject]]:
    """The networks of `target`, and their family if they are one."""
    from experiments.latency.timing import Subject, members

    found = find_family(target)
    if found and found.member is None:
        if resolution is not None:
            raise InvalidInput("--resolution: each member of a family has its own; leave it out")
        family = load_family(found.folder)
        return family, members(family)
    saved = Path(target) / ARCHITECTURE
    network = load_architecture(str(saved) if saved.is_file() else target)
    return None, [Subject(target, replace(network, resolution=resolution or network.resolution))]


def _print(rows: list[LatencyRow], predicted: dict[str, float]) -> None:
    headers = ["network", "accuracy", "backend", "batch", "median", "quartiles", "images/s"]
    headers += ["predicted"] if predicted else []
    cells = [
        [
            row.member,
            shown(row.accuracy, "{:.1%}".format, "–"),
            row.backend,
            f"{row.batch}",
            _milliseconds(row.median_seconds),
            f"{row.low_seconds * 1e3:.3g} – {row.high_seconds * 1e3:.3g}",
            f"{row.images_per_second:,.0f}",
            *([_milliseconds(predicted[row.member])] if predicted else []),
        ]
        for row in rows
    ]
    print_rows(tuple(headers), cells, numeric=(1, *range(3, len(headers))))
    out.print(f"float32 on {rows[0].device}, threads: {rows[0].threads}")


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _print_table(built: LatencyTable, path: Path, of: str, as_json: bool) -> None:
    """Prints how far the predictions of a new table are off."""
    judged = built.judged
    if as_json:
        print_json({"table": str(path), "parts": len(built.seconds), **asdict(judged)})
        return
    say(
        f"{len(built.seconds):,} parts of {of}; on {judged.networks} other networks the "
        f"prediction is {judged.median_error:.1%} off (median; at most "
        f"{judged.largest_error:.1%}), rank correlation τ = {judged.rank_correlation:.2f}"
    )
    wrote(path)
