"""Puts what the benchmarks of the search measured into docs/searching.md, as tables and a figure.

`python -m experiments.benchmarks.search_page` writes what stands between the page's marks, such as
`<!-- samplers -->` and its end, and draws docs/samplers.svg. Everything follows from
`samplers.json`, `nas_bench_macro.json`, `fidelity.json` and `zero_cost.json` in
`experiments/results`, however much is in them.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks import fidelity, nas_bench_macro, samplers, zero_cost
from space.files import write_file

PAGE = Path(__file__).parents[2] / "docs" / "searching.md"
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
    "smac3": ("#bcbd22", "<", "-."),
    "botorch": ("#17becf", "h", "-."),
    "random": ("#000000", ".", ":"),
    "brute_force": ("#882255", "x", ":"),
}

#: Numbers of trials that the page shows.
AT = samplers.AT[1:]
#: The two TPEs and the predictor, which is to be as good with far fewer trials.
HEADLINE = (("predictor", 100), ("predictor", 200), ("tpe", 1_000), ("tpe_multivariate", 1_000))

#: What the tables call the surrogates.
SURROGATES = {"boosting": "boosting", "gaussian_process": "Gaussian process"}


class Paired(NamedTuple):
    """Searches of the same seeds compared: `wins` of `seeds`, and the mean gain of reward."""

    wins: int
    seeds: int
    gain: float

    def __str__(self) -> str:
        return f"{self.wins} of {self.seeds} ({100 * self.gain:+.2f})"


#: A sampler in a setting on a surrogate, and a number of trials.
Cell = tuple[tuple[str, str, str], int]

#: Searches by seed of one sampler in one setting on one surrogate.
Groups = Mapping[tuple[str, str, str], dict[int, dict[str, Any]]]


def main() -> None:
    """Writes the page and the figure."""
    write_file(PAGE, renewed(PAGE.read_text("utf-8")))
    found = _found()
    _draw(_groups(found), found)


def renewed(text: str) -> str:
    """The page's `text` with what is measured by now."""
    found = _found()
    groups = _groups(found)
    for name, lines in (
        ("samplers", _headline("boosting", groups)),
        ("paired", _paired_headline(groups)),
        ("outside", _outside(groups)),
        ("short", _short(groups)),
        ("macro", _macro()),
        ("speed", _speed(found, groups)),
        ("own kind", _headline("gaussian_process", groups)),
        ("fronts", _fronts(groups)),
        ("warm start", _warm(groups)),
        ("fidelity", _fidelity()),
        ("zero cost", _zero_cost()),
        ("all", _all(found, groups)),
    ):
        text = _between(text, name, "\n".join(lines) or "(Not measured yet.)")
    return text


def _found() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(samplers.RESULT.read_text("utf-8"))
    return found


def _between(text: str, name: str, content: str) -> str:
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    marked = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    return marked.sub(lambda _: f"{start}\n{content.strip()}\n{end}", text)


def _groups(found: Mapping[str, Any]) -> Groups:
    groups: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for search in found["searches"].values():
        name = search["surrogate"], search["setting"], search["sampler"]
        groups[name][search["seed"]] = search
    return groups


def _values(groups: Groups, name: tuple[str, str, str], trials: int) -> dict[int, float]:
    """By seed, the values after so many trials, of the searches that came so far."""
    searches = groups.get(name, {})
    return {
        seed: search["values"][str(trials)]
        for seed, search in searches.items()
        if str(trials) in search["values"]
    }


def _row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _header(cells: Sequence[object]) -> Iterator[str]:
    yield _row(cells)
    yield _row(["---"] + ["---:"] * (len(cells) - 1))


def _headline(kind: str, groups: Groups) -> Iterator[str]:
    """The predictor's medians against those of each TPE at 1,000 trials, of the same seeds."""
    cells = [
        (name, trials)
        for name, trials in HEADLINE
        if any(_values(groups, (kind, s.name, name), trials) for s in samplers.SETTINGS)
    ]
    if not any(name.startswith("tpe") for name, _ in cells):
        return
    yield from _header(["setting", "seeds", *(f"{name}, {trials:,}" for name, trials in cells)])
    for setting in samplers.SETTINGS:
        values = [_values(groups, (kind, setting.name, name), n) for name, n in cells]
        seeds = set.intersection(*map(set, values))
        if not seeds:
            continue
        medians = [median(v[seed] for seed in seeds) for v in values]
        rival = max(medians[2:])
        level = [f"**{m:.4f}**" if m >= rival else f"{m:.4f}" for m in medians[:2]]
        yield _row([setting.name, len(seeds), *level, *(f"{m:.4f}" for m in medians[2:])])


def _paired(groups: Groups, one: Cell, other: Cell) -> Paired | None:
    """The gain of `one` over `other` by seed; None where they share no seed."""
    first, second = (_values(groups, name, trials) for name, trials in (one, other))
    gains = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    if not gains:
        return None
    return Paired(sum(gain > 0 for gain in gains), len(gains), fmean(gains))


def _paired_headline(groups: Groups) -> Iterator[str]:
    """Wins of the predictor over each TPE after 1,000 trials, on both surrogates."""
    pairs = [(n, tpe) for tpe in ("tpe_multivariate", "tpe") for n in (100, 200)]
    columns = [f"{n} trials against {tpe}, 1,000" for n, tpe in pairs]
    yield from _header(["setting", "surrogate", *columns])
    for setting, (kind, title) in product(samplers.SETTINGS, SURROGATES.items()):
        of = (kind, setting.name)
        compared = [
            _paired(groups, ((*of, "predictor"), n), ((*of, tpe), 1_000)) for n, tpe in pairs
        ]
        if all(compared):
            yield _row([setting.name, title, *compared])


def _outside(groups: Groups) -> Iterator[str]:
    """Wins of the predictor over samplers of others after as many trials."""
    yield from _header(
        ["setting", *(f"{name}, {n} trials" for name, n in samplers.OUTSIDE.items())]
    )
    for setting in samplers.SETTINGS:
        of = ("boosting", setting.name)
        compared = [
            _paired(groups, ((*of, "predictor"), n), ((*of, name), n))
            for name, n in samplers.OUTSIDE.items()
        ]
        if any(compared):
            yield _row([setting.name, *(each or "not measured" for each in compared)])


def _short(groups: Groups) -> Iterator[str]:
    """The predictor that is told the length of its search, and the one that begins at random."""
    yield from _header(["setting", "surrogate", *(f"{trials} trials" for trials in samplers.SHORT)])
    settings = (*samplers.SETTINGS, *samplers.NOISY)
    for (kind, title), setting in product(SURROGATES.items(), settings):
        of = (kind, setting.name)
        compared = [
            _paired(groups, ((*of, name), trials), ((*of, samplers.RANDOM_START), trials))
            for name, trials in samplers.SHORT_PREDICTOR.items()
        ]
        if any(compared):
            yield _row([setting.name, title, *(each or "" for each in compared)])


def _macro() -> Iterator[str]:
    """Mean regrets on NAS-Bench-Macro by what a search measured best."""
    found = json.loads(nas_bench_macro.RESULT.read_text("utf-8"))
    columns = [f"at most {most}M MACs" for most in nas_bench_macro.BOUNDS]
    yield from _header([f"regret after {nas_bench_macro.TRIALS} trials, in points", *columns])
    for sampler in nas_bench_macro.SAMPLERS:
        searches = [found.get(f"{sampler} / {most}M MACs") for most in nas_bench_macro.BOUNDS]
        shown = (f"{fmean(each):.2f}" if each else "" for each in searches)
        if any(searches):
            yield _row([sampler, *shown])


def _speed(found: Mapping[str, Any], groups: Groups) -> Iterator[str]:
    """What a proposal takes after 200 and 1,000 trials: medians over seeds and settings."""
    counts = (100, 200, 1_000)
    yield from _header(["a proposal after", *(f"{count:,} trials" for count in counts)])
    for name in STYLES:
        seconds = {
            count: [
                search["seconds"][str(count)]
                for setting in samplers.SETTINGS
                for search in groups.get(("boosting", setting.name, name), {}).values()
                if str(count) in search["seconds"]
            ]
            for count in counts
        }
        if any(seconds.values()):
            shown = (f"{1e3 * median(each):,.0f} ms" if each else "" for each in seconds.values())
            yield _row([name, *shown])
    about = found["environment"]
    yield (
        f"\nProcessor time on {about['processor']}, {about['threads']} thread, beside other work; "
        f"Python {about['python']}, Optuna {about['optuna']}, NumPy {about['numpy']}."
    )


def _fronts(groups: Groups) -> Iterator[str]:
    name = samplers.TWO.name
    counts = [count for count in AT if count <= max(samplers.OF_TWO.values())]
    columns = [f"after {count:,} trials" for count in counts]
    yield from _header(["hypervolume", "seeds", *columns])
    for sampler in samplers.OF_TWO:
        values = [_values(groups, ("boosting", name, sampler), count) for count in counts]
        yield _row([sampler, len(values[-1]), *map(_quartiles, values)])


def _warm(groups: Groups) -> Iterator[str]:
    cells = [(samplers.WARM, n) for n in (25, 50, 100)] + [("predictor", n) for n in (50, 100, 200)]
    columns = [f"{'cold' if name == 'predictor' else 'warm'}, {n}" for name, n in cells]
    yield from _header(["setting", "seeds", *columns])
    for setting in samplers.SETTINGS:
        values = [_values(groups, ("boosting", setting.name, name), n) for name, n in cells]
        seeds = set.intersection(*map(set, values))
        if seeds:
            medians = (f"{median(v[seed] for seed in seeds):.4f}" for v in values)
            yield _row([setting.name, len(seeds), *medians])


def _all(found: Mapping[str, Any], groups: Groups) -> Iterator[str]:
    for kind, title in (
        ("boosting", "gradient boosting"),
        ("gaussian_process", "a Gaussian process"),
    ):
        if kind not in found["references"]:
            continue
        judged = found["references"][kind]["quality"]
        yield (
            f"\nOn a surrogate by {title} (in cross-validation Kendall τ "
            f"{judged['kendall_tau']:.3f}, R² {judged['r2']:.3f}, RMSE "
            f"{100 * judged['rmse']:.2f} points):"
        )
        for setting in samplers.SETTINGS:
            if (kind, setting.name, "predictor") in groups:
                yield from _table(kind, setting, found, groups)


def _table(
    kind: str, setting: samplers.SamplerSetting, found: Mapping[str, Any], groups: Groups
) -> Iterator[str]:
    mine = {name: groups.get((kind, setting.name, name), {}) for name in STYLES}
    best = max(search["best"] for searches in mine.values() for search in searches.values())
    b0 = found["references"][kind]["efficientnet_b0"][setting.form]
    title = f"{setting.name} (best known {best:.4f}, EfficientNet-B0 {b0:.4f})"
    yield ""
    yield from _header([title, "seeds", *(f"{count:,}" for count in AT)])
    for name, searches in mine.items():
        if searches:
            values = [_values(groups, (kind, setting.name, name), count) for count in AT]
            shown = (_quartiles(each, of=len(searches)) for each in values)
            yield _row([name, len(searches), *shown])


def _quartiles(values: Mapping[int, float], of: int | None = None) -> str:
    """Median and quartiles, and of how many where these are fewer than `of`."""
    if not values:
        return ""
    low, middle, high = np.percentile(list(values.values()), [25, 50, 75])
    fewer = f"; {len(values)} seeds" if of is not None and len(values) < of else ""
    return f"{middle:.4f} ({low:.4f} – {high:.4f}{fewer})"


def _fidelity() -> Iterator[str]:
    found = json.loads(fidelity.RESULT.read_text("utf-8"))
    count = len(found["networks"])
    yield from _header(
        [
            f"{count} networks, {len(fidelity.SEEDS)} seeds: reward after",
            f"Kendall τ with {fidelity.LONG_EPOCHS} epochs",
        ]
    )
    for name, tau in fidelity.correlations(found).items():
        shown = f"a training run of {fidelity.PROXY_EPOCHS} epochs (the proxy)"
        yield _row([shown if name == "proxy" else name, f"{tau:.2f}"])
    yield ""
    best = f"one of the best {fidelity.BEST} is trained"
    yield from _header(
        ["pruner", f"epochs until {best}", "seconds until then", f"seconds for all {count}"]
    )
    for kind, saving in fidelity.savings(found).items():
        missed = f" (never in {saving.never:.0%} of the orders)" if saving.never else ""
        amounts = (saving.epochs, saving.seconds, saving.whole_seconds)
        yield _row([kind + missed, *(f"{amount:.0f}" for amount in amounts)])
    about = found["environment"]
    mean, networks, seeds = (100 * each for each in fidelity.spread(found))
    yield (
        "\nEach Kendall τ but the last is a mean over the seeds. After the long training the\n"
        f"accuracies lie around {mean:.0f} %, with a standard deviation of {networks:.1f} points "
        f"between\nnetworks, and {seeds:.1f} between seeds of one. The second table has medians "
        f"over {fidelity.ORDERS}\n"
        "random orders of the networks, each with the curves of one seed. Seconds are processor\n"
        f"time of training runs on one thread ({about['processor']}, torch {about['torch']}), "
        "which\n"
        "on a quiet machine is wall-clock."
    )


def _zero_cost() -> Iterator[str]:
    found = json.loads(zero_cost.RESULT.read_text("utf-8"))
    photographs, imagenet = (found["networks"][data] for data in ("cifar10", "imagenet"))
    yield from _header(
        [
            "Kendall τ with accuracy",
            f"CIFAR-10, {len(photographs)} networks",
            f"ImageNet, {len(imagenet)} networks",
        ]
    )
    taus = [zero_cost.correlations(scored) for scored in (photographs, imagenet)]
    for name in taus[0]:
        yield _row([_said(name), *(f"{tau[name]:.2f}" for tau in taus)])
    model = f"the predictor's model of {zero_cost.KNOWN} of the networks"
    yield _row([model, "", f"{found['model']:.2f}"])
    yield ""
    at = [count for count in samplers.AT if count <= zero_cost.TRIALS]
    yield from _header(["first trials", *(setting.name for setting in samplers.SETTINGS)])
    for start in zero_cost.STARTS:
        searches = [found["searches"][f"{s.name} / {start}"] for s in samplers.SETTINGS]
        shown = (" / ".join(f"{median(each[str(n)]):.4f}" for n in at) for each in searches)
        yield _row([_said(start), *shown])
    yield (
        f"\nMedians over {len(zero_cost.SEEDS)} seeds of the reward after "
        f"{', '.join(map(str, at[:-1]))} and {at[-1]} trials."
    )


def _said(name: str) -> str:
    return {"macs": "MACs", "params": "parameters"}.get(name, name)


def _draw(groups: Groups, found: Mapping[str, Any]) -> None:
    from matplotlib.figure import Figure

    from reports.figure_style import save

    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    for panel, setting in zip(panels.flat, samplers.SETTINGS, strict=True):
        for name, (colour, marker, line) in STYLES.items():
            group = "boosting", setting.name, name
            values = {n: list(_values(groups, group, n).values()) for n in AT}
            at = [trials for trials, each in values.items() if each]
            if not at:
                continue
            low, middle, high = (
                [float(np.percentile(values[trials], part)) for trials in at]
                for part in (25, 50, 75)
            )
            panel.plot(at, middle, line, marker=marker, color=colour, label=name, markersize=5)
            if name in ("predictor", "tpe_multivariate"):
                panel.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
        b0 = found["references"]["boosting"]["efficientnet_b0"][setting.form]
        if setting.form == "soft":
            panel.axhline(b0, color="#999999", linewidth=0.8, label="EfficientNet-B0")
        panel.set_title(setting.name.replace("noise 0.3", "0.3 points of noise"), fontsize=10)
        panel.set_xscale("log")
        panel.set_xticks(AT, [f"{trials:,}" for trials in AT])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    figure.supxlabel("trials")
    figure.supylabel("reward of the best observed, without noise")
    shown = {
        label: handle
        for panel in panels.flat
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(shown.values(), shown, loc="outside right upper", frameon=False)
    save(figure, PAGE.with_name("samplers.svg"))


if __name__ == "__main__":
    main()
