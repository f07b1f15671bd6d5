"""The commands on trained networks: export, predict, verify."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.commands.shared_options import AsJson
from experiments.commands.terminal import print_json, print_rows, say
from experiments.progress import log
from experiments.runs.resolve import existing_family, find_family, load_architecture
from experiments.studies.recipes import is_json
from space.validation import InvalidInput, one_of

if TYPE_CHECKING:
    from scaling.formats import Format

_EVERY = "safetensors,torch,onnx,program,timm,card"

Trust = Annotated[
    bool, typer.Option("--trust", help="Run code in the folder even if phiscale did not write it.")
]


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_ARCHITECTURE",
            help="RUN, RUN:MEMBER or their folder; or a preset, or an architecture.json.",
        ),
    ],
    to: Annotated[str, typer.Option(help="Formats, with commas between them.")] = _EVERY,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Also quantise to 8 bits, and measure the accuracy: onnx, litert, openvino, "
            "executorch.",
        ),
    ] = False,
    weights: Annotated[
        Path | None,
        typer.Option(help="For an architecture (default: the model.safetensors beside it)."),
    ] = None,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="For an architecture: export random weights.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("--out", help="For an architecture: the folder to write to.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write networks in formats that need no phiscale: PyTorch, ONNX, timm, a model card.

    litert, openvino, executorch and coreml are written only if named, each with its extra.
    """
    from experiments.families import export as exporting

    formats = _formats(to, int8)
    if found := find_family(source):
        if weights is not None or folder is not None or untrained:
            raise InvalidInput("--weights, --untrained and --out: only for an architecture")
        target = found.folder
        family = exporting.export_family(target, formats, int8=int8, only=found.member)
    else:
        if int8:
            raise InvalidInput("--int8: needs a run, for the images that calibrate and test it")
        architecture, path = load_architecture(source), Path(source)
        name = path.absolute().parent.name if is_json(source) else path.name.replace(":", "-")
        beside = path.with_name("model.safetensors")
        if weights is None and is_json(source) and beside.is_file():
            weights = beside
        if (weights is None) is not untrained:
            raise InvalidInput(
                f"{source}: give --untrained or weights, not both"
                if untrained
                else f"{source}: has no trained weights; give them as --weights FILE, or export "
                "random ones with --untrained"
            )
        target = folder or Path("exported") / name
        family = exporting.export_architecture(name, architecture, weights, target, formats)
    files = {member.name: [*sorted(member.files), "README.md"] for member in family.members}
    quantised = {
        each.name: {name: asdict(lost) for name, lost in each.int8.items() if name in formats}
        for each in family.members
        if int8 and each.int8
    }
    if as_json:
        print_json(
            {"folder": str(target), "members": files} | ({"int8": quantised} if int8 else {})
        )
        return
    for name, names in files.items():
        say(f"{target / name}: {', '.join(names)}")
        for format_, lost in quantised.get(name, {}).items():
            say(
                f"{name} {format_}: {lost['accuracy']:.2%} of {lost['images']:,} test images with "
                f"8 bits, {lost['full_accuracy']:.2%} with 32"
            )
            if lost["arena"]:
                say(f"{name} {format_}: {lost['arena']:,} bytes of RAM on a microcontroller")


def _formats(given: str, int8: bool) -> set[Format]:
    """The formats of `--to`, whose packages are there where they were named."""
    from scaling.formats import Format, onnx, require
    from scaling.verification import INT8, RUNTIMES

    known = {each.value: each for each in Format}
    names = list(filter(None, (word.strip() for word in given.split(","))))
    if unknown := [name for name in names if name not in known]:
        raise one_of("--to", unknown[0], known)
    formats = {known[name] for name in names}
    if int8 and not INT8.keys() & formats:
        raise InvalidInput(f"--int8: --to must name one of {', '.join(INT8)}, but got {given}")
    if Format.ONNX in formats and (int8 or given != _EVERY):
        onnx.require()
    for format_ in RUNTIMES.keys() & formats:
        require(RUNTIMES[format_])
    return formats


def predict(
    member: Annotated[
        str, typer.Argument(metavar="RUN:MEMBER", help="A member of a run, or the member's folder.")
    ],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE…", help="Image files, or folders of them.")
    ],
    format_: Annotated[
        str, typer.Option("--format", help="What to run: safetensors, torch, onnx, litert …")
    ] = "safetensors",
    top: Annotated[
        int, typer.Option(min=1, max=10**6, help="Classes to print for each image.")
    ] = 3,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Print the most probable classes of images; they are the same in every format.

    An image that cannot be read is named, the others are predicted, and the status is 1.
    """
    from experiments.families.export import Unpredicted, predictions
    from experiments.families.preprocess import image_files
    from scaling.saved_family import load_member
    from scaling.verification import FILES

    chosen = {each.value: each for each in FILES}
    if format_ not in chosen:
        raise one_of("--format", format_, chosen)
    saved, files = load_member(existing_family(member).member_folder), list(image_files(images))
    facts: list[dict[str, object]] = []
    for each in predictions(saved, files, chosen[format_], top=top, trust=trust):
        if isinstance(each, Unpredicted):
            log.trouble(each.reason)
            facts.append({"image": str(each.image), "error": each.reason})
            continue
        pairs = list(zip(each.classes, each.probabilities, strict=True))
        best = [{"class": name, "probability": odds} for name, odds in pairs]
        facts.append({"image": str(each.image), "top": best})
        if not as_json:
            answers = [f"{name} {odds:.1%}" for name, odds in pairs]
            say(_printable("   ".join([str(each.image), *answers])))
    if as_json:
        print_json(facts)
    if any("error" in fact for fact in facts):
        raise typer.Exit(1)


def _printable(line: str) -> str:
    """A line without control characters, which names of files and classes may contain."""
    return "".join(each if each.isprintable() else "�" for each in line)


def verify(
    family: Annotated[str, typer.Argument(metavar="RUN", help="A run, or a family's folder.")],
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Reload a family in every format, and check files, costs and outputs."""
    from experiments.families.export import run_images, some_inputs
    from scaling.export import edited
    from scaling.formats import CARD
    from scaling.saved_family import load_family
    from scaling.verification import Different, verify

    folder = existing_family(family).folder
    try:
        loaded = load_family(folder)
        data = run_images(folder)
        if data is None:
            log.remark(f"{folder}: is not in a run, so outputs are compared on random inputs")
        images = data.test if data else None
        checks = list(verify(loaded, lambda member: some_inputs(member, images), trust=trust))
    except (InvalidInput, Different) as error:
        log.trouble(str(error))
        raise typer.Exit(1) from None
    for member in loaded:
        if edited(member.folder / CARD, member.record):
            log.remark(f"{member.folder / CARD}: was edited after it was written")
    if as_json:
        print_json([asdict(check) for check in checks])
        return
    rows = [[c.member, c.what, "same" if c.checked else "not run", c.note] for c in checks]
    print_rows(("member", "what", "", "note"), rows, numeric=())
