import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import formatting


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1000, "1.00K"),
        (999_499, "999K"),
        (999_500, "1.00M"),
        (12_097_408, "12.1M"),
        (385_814_752, "386M"),
        (1_827_141_392, "1.83G"),
    ],
)
def test_counts_have_three_digits_and_a_unit(value, words):
    assert formatting.count(value) == words


@given(st.integers(1, 10**14))
def test_a_count_says_the_number_within_half_a_percent(value):
    digits, unit = re.fullmatch(r"([\d.]+)([KMGT]?)", formatting.count(value)).groups()
    said = float(digits) * {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[unit]
    assert said == pytest.approx(value, rel=0.00501)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3599.6, "1 h"),
        (5400, "1 h 30 min"),
        (90_061, "1 d 1 h"),
        (86_400 + 59, "1 d"),
    ],
)
def test_durations_have_their_two_largest_units(seconds, words):
    assert formatting.duration(seconds) == words


def test_numbers_agree_with_their_nouns():
    assert formatting.number(0, "network") == "no networks"
    assert formatting.number(1, "network") == "one network"
    assert formatting.number(12, "network") == "twelve networks"
    assert formatting.number(1300, "network") == "1,300 networks"


@given(st.text())
def test_no_control_or_bidi_character_is_left(name):
    hidden = [*map(chr, range(32)), *"\x7f\u200e\u200f\u202a\u202b\u202c\u202d\u202e"]
    hidden += [*"\u2066\u2067\u2068\u2069\u2028\u2029\ufeff"]
    assert not set(formatting.printable(name)) & (set(hidden) - set("\n\t"))


def test_hidden_characters_are_spelled_out_and_others_kept():
    assert formatting.printable("abc\u202ecba") == "abc⟨U+202E⟩cba"
    for name in ("Ärger", "می\u200cخواهم", "家", "👩\u200d🔬", "a\tb\n"):
        assert formatting.printable(name) == name


def test_passwords_of_urls_are_hidden_in_any_text():
    recipe = "storage: postgresql://me:s3cret@host:5432/runs\nother: mysql+x://a:b@c/d"
    assert formatting.without_password(recipe) == (
        "storage: postgresql://me:***@host:5432/runs\nother: mysql+x://a:***@c/d"
    )
    for secret in ("postgresql://phi:p@ss/w0rd@host/db", "mysql://phi:p/w@0@rd@host", "a://:x@y@z"):
        shown = formatting.without_password(f"cannot open {secret}: refused")
        assert shown == f"cannot open {secret.partition('://')[0]}://*** refused"
    for harmless in ("sqlite:///study.db", "time 12:30 me@host", "https://host:80/a@b"):
        assert formatting.without_password(harmless) == harmless


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (4.2e6, "4.2 MB"), (2.5e12, "2.5 TB")],
)
def test_sizes_have_a_unit(count, words):
    assert formatting.size(count) == words
