"""The page on published networks says what the committed statistics say, which timm's tables do."""

import json
import re

import pytest

from docs import measured
from reports import published_page, timm_results

FOUND = json.loads((measured.RESULTS / "published.json").read_text("utf-8"))
PAGE = (measured.RESULTS.parents[1] / "docs" / "published.md").read_text("utf-8")


def test_every_number_of_the_page_comes_from_the_committed_file(tmp_path):
    assert list(published_page.sentences(FOUND)) == FOUND["sentences"]
    measured.write(tmp_path)
    said = (tmp_path / "published.md").read_text("utf-8")
    for sentence in FOUND["sentences"]:
        assert sentence in said
    prose = re.sub(r"```.*?```|\(.*?\)|`.*?`", "", PAGE, flags=re.DOTALL)
    settings = {"1", "log2", "95", "100M", "1,000"}  # top-1; the level; what is left out
    assert set(re.findall(r"\w*\d[\w,]*", prose)) <= settings


def rounded(found: object) -> object:
    """With numbers to nine digits: the last ones are another processor's."""
    return json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.9g}"))


def test_the_committed_file_follows_from_timms_tables(shared):
    results = timm_results.load(shared / "data" / "timm_results")
    if dict(results.hashes) != FOUND["sha256"]:
        pytest.skip("the tables beside this checkout are of another version of timm")
    assert rounded(published_page.collect(results)) == rounded(FOUND)
