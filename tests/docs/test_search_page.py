from experiments.benchmarks.search_page import PAGE, renewed


def test_page_says_what_the_benchmarks_measured():
    text = PAGE.read_text("utf-8")
    assert "predictor" in text
    assert renewed(text) == text, "run python -m experiments.benchmarks.search_page"
