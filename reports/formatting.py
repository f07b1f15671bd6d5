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

#: A URL with several @, any of which may belong to a password.
_AMBIGUOUS = re.compile(r"(\w://)[^\s/:@]*:[^\s@]*@\S*@\S*")

_NUMBER = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?")

#: Control characters that stay: line breaks, tabs, and the joiners of some scripts and emoji.
_SHOWN = "\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"

_WORDS = "no one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905


def count(value: float) -> str:
    """A count with three digits and a unit: 41.2M, 1.20G."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= 0.9995 * size:
            return f"{value / size:#.3g}".rstrip(".") + unit
    return f"{value:.0f}"


def short(value: float) -> str:
    """A count without trailing zeros, for an axis: 40K, 2.5M."""
    return re.sub(r"\.0+(?=\D|$)|(\.\d*?)0+(?=\D|$)", r"\1", count(value))


def percent(value: float) -> str:
    """A fraction as a percentage with one digit after the point, on one line."""
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def half_width(low: float, high: float) -> str:
    """Half of an interval of fractions in percentage points: ± 0.8."""
    return f"±\N{NO-BREAK SPACE}{50 * (high - low):.1f}"


def points(difference: float, *, signed: bool = False, unit: bool = True) -> str:
    """A difference of fractions: 1.2 points; signed: +1.2 points; without its unit: +1.2."""
    amount = f"{100 * difference:+.1f}" if signed or not unit else f"{100 * difference:.1f}"
    return minus(amount) + (" points" if unit else "")


def minus(number: str) -> str:
    """A formatted number with a minus sign in place of the hyphen."""
    return number.replace("-", "−")


def size(count: float) -> str:
    """Bytes: 4.2 MB (millions)."""
    shown = short(count)
    return f"{shown[:-1]} {shown[-1]}B" if shown[-1].isalpha() else f"{shown} bytes"


def duration(seconds: float) -> str:
    """Seconds in the two largest units of days, hours, minutes and seconds: 1 h 30 min."""
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
    """A number for running text: in words up to twelve, then in digits."""
    return _WORDS[count] if count < len(_WORDS) else f"{count:,}"


def number(count: int, noun: str) -> str:
    """`three networks`, `one network`, `48 networks`."""
    return f"{word(count)} {plural(count, noun)}"


def plural(count: int, noun: str) -> str:
    """`epoch` for one, `epochs` for any other number."""
    return noun if count == 1 else f"{noun}s"


def printable(text: str) -> str:
    """`text` with control and direction-changing characters as ⟨U+202E⟩, without passwords.

    Such characters could make a name look like another, or reverse the text beside it.
    """
    return "".join(
        f"⟨U+{ord(letter):04X}⟩" if _hidden(letter) else letter for letter in without_password(text)
    )


def shortened(text: str, most: int) -> str:
    """`text`, cut off with an ellipsis if it has more than `most` characters."""
    shown = printable(text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _hidden(letter: str) -> bool:
    return letter not in _SHOWN and unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def without_password(text: str) -> str:
    """`text` with *** for the password of any URL, and for all of a URL with several @."""
    return _PASSWORD.sub(r"\1:***@", _AMBIGUOUS.sub(r"\1***", text))


def cell(value: object) -> object:
    """`value` as a CSV cell that a spreadsheet does not take for a formula."""
    if not isinstance(value, str):
        return value
    shown = printable(value)
    risky = shown.startswith(("=", "+", "-", "@", "\t")) and not _NUMBER.fullmatch(shown)
    return f"'{shown}" if risky else shown


def to_csv(table: pd.DataFrame) -> str:
    """A table as CSV; text that a spreadsheet would take for a formula gets an apostrophe.

    A text column NAME that this or `printable` changes is followed by NAME_json, the original text
    as JSON strings, for programs. Passwords are hidden there too.
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
