"""What is said of a user's images: notes, reasons, refusals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from space.validation import InvalidInput


def printable(name: str) -> str:
    """`name` with unprintable characters escaped, for terminals and JSON."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name
    )


def reason_of(error: Exception) -> str:
    """What a library's error says, in one printable line."""
    return printable(str(error).strip().partition("\n")[0].strip()) or type(error).__name__


def plural(count: int, noun: str) -> str:
    """A count with its noun: 1 image, 2,000 images."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def listed(names: list[str], most: int = 5) -> str:
    """The first names, quoted, and how many more there are."""
    rest = len(names) - most
    return ", ".join(map(repr, names[:most])) + (f" and {rest:,} more" if rest > 0 else "")


def left_out(noun: str, why: str, names: list[str]) -> list[str]:
    """A note about files that are not used; none if there are no such files."""
    if not names:
        return []
    return [f"{plural(len(names), noun)} left out ({why}): {listed(names, 3)}."]


@contextmanager
def readable(file: Path, kind: str, remedy: str) -> Iterator[None]:
    """Raises `InvalidInput` for whatever a library raises inside, for a damaged file anything."""
    try:
        yield
    except InvalidInput:
        raise
    except Exception as error:
        raise InvalidInput(
            f"{file}: this {kind} file cannot be read ({reason_of(error)}); {remedy}"
        ) from None


def refuse_bad(
    where: Path | str, skipped: Sequence[tuple[str, str]], total: int, most: float
) -> None:
    """Raises `InvalidInput` where more than `most` of `total` images cannot be used."""
    if len(skipped) > most * total:
        raise InvalidInput(
            f"{where}: {len(skipped):,} of {total:,} images cannot be used, which is more than "
            f"data.max_bad ({most:.2%}): {named(skipped)}; repair or remove them, or raise "
            "data.max_bad"
        )


def named(skipped: Sequence[tuple[str, str]], most: int = 5) -> str:
    """The first images by name, each with its reason."""
    first = "; ".join(f"{name!r}: {reason}" for name, reason in skipped[:most])
    rest = len(skipped) - most
    return first + (f"; and {rest:,} more" if rest > 0 else "")


def changed(how: str) -> InvalidInput:
    """The error for a source that was written to while it was read."""
    return InvalidInput(
        f"data.source: the images changed while they were read ({how}); start again when nothing "
        "writes there"
    )
