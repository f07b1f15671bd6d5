"""The documentation's pages are those that were written."""

from experiments.benchmarks.search_page import PAGE

#: What Sphinx writes itself, over a page of the same name and without a word.
OWN = {"search", "genindex", "py-modindex"}


def test_no_page_is_overwritten_by_one_of_sphinx():
    pages = {page.stem for page in PAGE.parent.glob("*.md")}
    assert pages
    assert not pages & OWN
