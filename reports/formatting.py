"""Numbers and names as people read them, and as no browser or spreadsheet can misread them."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

#: A password in a storage's URL, wherever it stands in a text.
_PASSWORD = re.compile(r"(\w://[^\s/:@]*):[^\s/@]+@(?!\S*@)")

#: A URL with several @, of which any may belong to a password.
_AMBIGUOUS = re.compile(r"(\w://)[^\s/:@]*:[^\s@]*@\S*@\S*")

_NUMBER = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?")

#: What lays out text, and the joiners that some scripts and emoji are written with.
_SHOWN = "\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"

_WORDS = "no one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905


def count(value: float) -> str:
    """A count as people say it: 41.2M, 1.2G."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= 0.9995 * size:
            return f"{value / size:#.3g}".rstrip(".") + unit
    return f"{value:.0f}"


def short(value: float) -> str:
    """A count for an axis, without zeros that say nothing: 40K, 2.5M."""
    return re.sub(r"\.0+(?=\D|$)|(\.\d*?)0+(?=\D|$)", r"\1", count(value))


def percent(value: float) -> str:
    """A fraction as a percentage with one digit after the point, on one line."""
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def half_width(low: float, high: float) -> str:
    """Half of an interval of fractions, in percentage points: ± 0.8."""
    return f"±\N{NO-BREAK SPACE}{50 * (high - low):.1f}"


def points(difference: float, *, signed: bool = False, unit: bool = True) -> str:
    """A difference of fractions in percentage points: 1.2 points; with its sign: −1.2, +1.2."""
    amount = f"{100 * difference:+.1f}" if signed or not unit else f"{100 * difference:.1f}"
    return amount.replace("-", "−") + (" points" if unit else "")


def size(count: float) -> str:
    """Bytes as people say them: 4.2 MB (millions)."""
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= 0.9995 * bytes_:
            return f"{count / bytes_:.3g} {unit}"
    return f"{count:.0f} bytes"


def duration(seconds: float) -> str:
    """Seconds as the two largest of days, hours, minutes and seconds."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        whole, left = divmod(left, size)
        if whole or parts:
            parts.append(f"{whole} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))


def word(count: int) -> str:
    """A number as text has it: in words up to twelve."""
    return _WORDS[count] if count < len(_WORDS) else f"{count:,}"


def number(count: int, noun: str) -> str:
    """`three networks`, `one network`, `48 networks`."""
    return f"{word(count)} {noun}" + ("" if count == 1 else "s")


def printable(text: str) -> str:
    """`text` with control and direction-changing characters spelled out: ⟨U+202E⟩.

    They could otherwise make a name look like another, or reverse what stands beside it.
    """
    return "".join(
        f"⟨U+{ord(letter):04X}⟩" if _hidden(letter) else letter for letter in without_password(text)
    )


def shortened(text: str, most: int) -> str:
    """`text`, of which the end is left out where it has more than `most` letters."""
    shown = printable(text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _hidden(letter: str) -> bool:
    return letter not in _SHOWN and unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def without_password(text: str) -> str:
    """`text` with *** for the password of any URL in it, and for all of a URL with several @."""
    return _PASSWORD.sub(r"\1:***@", _AMBIGUOUS.sub(r"\1***", text))


def cell(value: object) -> object:
    """`value` as a CSV cell that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return value
    shown = printable(value)
    risky = shown.startswith(("=", "+", "-", "@", "\t")) and not _NUMBER.fullmatch(shown)
    return f"'{shown}" if risky else shown


def to_csv(table: pd.DataFrame) -> str:
    """A table as CSV; what a spreadsheet would take for a formula begins with an apostrophe.

    A column of text that this or `printable` changes is followed by NAME_json, its text as JSON
    strings, for programs that need it as it was. Passwords are hidden there too.
    """
    shown = table.map(cell)
    for name in table.columns[::-1]:
        raw = [without_password(each) if isinstance(each, str) else each for each in table[name]]
        if any(
            isinstance(one, str) and one != other
            for one, other in zip(raw, shown[name], strict=True)
        ):
            quoted = [json.dumps(each) if isinstance(each, str) else None for each in raw]
            shown.insert(list(shown.columns).index(name) + 1, f"{name}_json", quoted)
    return str(shown.rename(columns=cell).to_csv(index=False))
