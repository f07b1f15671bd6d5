"""Puts what the benchmarks of the search measured into docs/search.md, as tables and a figure.

`python -m experiments.benchmarks.search_page` writes what stands between the page's marks
`<!-- samplers -->` and `<!-- fidelity -->` and their ends, and draws docs/samplers.svg. Everything
follows from `experiments/results/samplers.json` and `fidelity.json`, however much is in them.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks import fidelity, samplers
from space.files import write_file

PAGE = Path(__file__).parents[2] / "docs" / "search.md"
#: Order of the rows, and how lines are told apart, also in grey.
STYLES = {
    "predictor": ("#0072b2", "o", "-"),
    "tpe_multivariate": ("#d55e00", "s", "-"),
    "tpe": ("#e69f00", "s", "--"),
    "evolution": ("#009e73", "^", "-"),
    "local": ("#cc79a7", "v", "-"),
    "controller": ("#56b4e9", "D", "--"),
    "nsga2": ("#666666", "P", ":"),
    "nsga3": ("#999999", "X", ":"),
    "gp": ("#8c564b", "*", "-."),
    "random": ("#000000", ".", ":"),
}

#: Searches of one sampler in one setting on one surrogate.
Groups = Mapping[tuple[str, str, str], list[dict[str, Any]]]


def main() -> None:
    """Writes the page and the figure."""
    write_file(PAGE, renewed(PAGE.read_text("utf-8")))
    found = json.loads(samplers.RESULT.read_text("utf-8"))
    _draw(_groups(found), found)


def renewed(text: str) -> str:
    """The page's `text` with what is measured by now."""
    found = json.loads(samplers.RESULT.read_text("utf-8"))
    text = _between(text, "samplers", "\n".join(_samplers(found, _groups(found))))
    if fidelity.RESULT.is_file():
        text = _between(text, "fidelity", "\n".join(_fidelity()))
    return text


def _between(text: str, name: str, content: str) -> str:
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    marked = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    return marked.sub(lambda _: f"{start}\n{content}\n{end}", text)


def _groups(found: Mapping[str, Any]) -> Groups:
    groups = defaultdict(list)
    for search in found["searches"].values():
        groups[search["surrogate"], search["setting"], search["sampler"]].append(search)
    return groups


def _at(searches: list[dict[str, Any]], trials: int) -> list[float]:
    """The values after so many trials, of the searches that came so far."""
    return [s["values"][str(trials)] for s in searches if str(trials) in s["values"]]


def _samplers(found: Mapping[str, Any], groups: Groups) -> Iterator[str]:
    for kind, title in (
        ("boosting", "gradient boosting"),
        ("gaussian_process", "Gaussian process"),
    ):
        settings = [s.name for s in samplers.SETTINGS if (kind, s.name, "predictor") in groups]
        if not settings:
            continue
        judged = found["references"][kind]["quality"]
        yield (
            f"**On a surrogate by {title}** (in cross-validation Kendall τ "
            f"{judged['kendall_tau']:.3f}, R² {judged['r2']:.3f}, RMSE "
            f"{100 * judged['rmse']:.2f} points):\n"
        )
        yield from _headline(kind, settings, groups)
        for setting in settings:
            yield from _table(kind, setting, found, groups)
    about = found["environment"]
    yield (
        f"CPU seconds on {about['processor']}, {about['threads']} thread, beside other work; "
        f"Python {about['python']}, Optuna {about['optuna']}, NumPy {about['numpy']}, "
        f"scikit-learn {about['scikit-learn']}."
    )


def _headline(kind: str, settings: list[str], groups: Groups) -> Iterator[str]:
    """The predictor's median at 100 and 200 trials against each TPE's at 1,000, same seeds."""
    cells = (("predictor", 100), ("predictor", 200), ("tpe", 1_000), ("tpe_multivariate", 1_000))
    yield f"| setting | seeds | {' | '.join(f'{name}, {n:,}' for name, n in cells)} |"
    yield "| --- |" + " --- |" * (len(cells) + 1)
    for setting in settings:
        values = [
            {s["seed"]: s["values"][str(n)] for s in groups.get((kind, setting, name), ())}
            for name, n in cells
        ]
        known = [each for each in values if each]
        common = sorted(set.intersection(*map(set, known)))
        medians = [float(np.median([v[seed] for seed in common])) if v else 0.0 for v in values]
        rival = max(medians[2:])
        if not rival:
            continue
        marks = ["**" if place < 2 and m >= rival else "" for place, m in enumerate(medians)]
        shown = [f"{b}{m:.4f}{b}" if m else "" for b, m in zip(marks, medians, strict=True)]
        yield f"| {setting} | {len(common)} | {' | '.join(shown)} |"
    yield "\nMedians over the seeds that all cells have. Bold: at least the better TPE's value.\n"


def _table(kind: str, setting: str, found: Mapping[str, Any], groups: Groups) -> Iterator[str]:
    mine = {name: groups[kind, setting, name] for name in STYLES if (kind, setting, name) in groups}
    best = max(search["best"] for searches in mine.values() for search in searches)
    b0 = found["references"][kind]["efficientnet_b0"][setting.split(",")[0]]
    yield f"{setting} (best known {best:.4f}, EfficientNet-B0 {b0:.4f}):\n"
    yield f"| sampler | seeds | {' | '.join(f'{n:,}' for n in samplers.AT)} | seconds a proposal |"
    yield "| --- |" + " --- |" * (len(samplers.AT) + 2)
    for name, searches in mine.items():
        cells = []
        for trials in samplers.AT:
            values = _at(searches, trials)
            low, middle, high = np.percentile(values, [25, 50, 75]) if values else (0, 0, 0)
            many = f", {len(values)}×" if 0 < len(values) < len(searches) else ""
            cells.append(f"{middle:.4f} ({low:.4f} – {high:.4f}{many})" if values else "")
        slow = {int(n): each for search in searches for n, each in search["seconds"].items()}
        last = max(slow)
        yield f"| {name} | {len(searches)} | {' | '.join(cells)} | {slow[last]:.3f} at {last:,} |"
    yield ""


def _fidelity() -> Iterator[str]:
    found = json.loads(fidelity.RESULT.read_text("utf-8"))
    count = len(found["networks"])
    yield f"| {count} networks: reward after | Kendall τ with {fidelity.LONG_EPOCHS} epochs |"
    yield "| --- | --- |"
    for name, tau in fidelity.correlations(found).items():
        shown = f"a training of {fidelity.PROXY_EPOCHS} epochs (the proxy)"
        yield f"| {shown if name == 'proxy' else name} | {tau:.2f} |"
    yield (
        f"\n| pruner | epochs until one of the best {fidelity.BEST} is trained | never, of "
        f"{fidelity.ORDERS} orders | epochs for all {count} |"
    )
    yield "| --- | --- | --- | --- |"
    for kind, each in fidelity.savings(found).items():
        reached = f"{each['epochs']:.0f}" if np.isfinite(each["epochs"]) else "never"
        yield f"| {kind} | {reached} | {each['never']:.0%} | {each['whole']:.0f} |"


def _draw(groups: Groups, found: Mapping[str, Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    for panel, setting in zip(panels.flat, samplers.SETTINGS, strict=True):
        for name, (colour, marker, line) in STYLES.items():
            searches = groups.get(("boosting", setting.name, name), [])
            at = [trials for trials in samplers.AT if _at(searches, trials)]
            if not at:
                continue
            low, middle, high = (
                [float(np.percentile(_at(searches, trials), part)) for trials in at]
                for part in (25, 50, 75)
            )
            panel.plot(at, middle, line, marker=marker, color=colour, label=name, markersize=5)
            if name in ("predictor", "tpe_multivariate"):
                panel.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
        b0 = found["references"]["boosting"]["efficientnet_b0"][setting.form]
        if setting.form == "soft":
            panel.axhline(b0, color="#999999", linewidth=0.8)
            panel.annotate("EfficientNet-B0", (50, b0), fontsize=8, va="bottom", color="#666666")
        panel.set_title(setting.name.replace("noise 0.3", "0.3 points of noise"), fontsize=10)
        panel.set_xscale("log")
        panel.set_xticks(samplers.AT, [f"{trials:,}" for trials in samplers.AT])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    figure.supxlabel("trials")
    figure.supylabel("reward of the best observed, without noise")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    figure.savefig(PAGE.with_name("samplers.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
