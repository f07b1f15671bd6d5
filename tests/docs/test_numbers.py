"""Numbers that a page gives as measured come from committed files; all others are settings."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments.benchmarks import arena, elastic
from scaling.coefficients import PUBLISHED
from scaling.grid import candidates
from scaling.power import POWER, seeds_for
from search.lease import EXPIRY
from space import presets
from space.cost import cost
from space.device import litert_micro

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "experiments" / "results"

#: A number with what it counts, as a measurement would have.
MEASURE = re.compile(
    r"\d[\d.,]*(?: (?:to|and|–) \d[\d.,]*)*\s?(?:%|times|points?|ms|µs|s|(?:processor )?seconds?"
    r"|minutes?|hours?|MB|GB|MiB|training runs)(?!\w)"
)
#: What is tested elsewhere, or is not prose: code, what is included, tables of
#: `experiments.benchmarks.search_page`, targets of links.
OTHER = re.compile(
    r"```.*?```|`[^`]*`|<!-- ([\w ]+) -->.*?<!-- /\1 -->|(?<=\])\([^)]*\)", re.DOTALL
)


def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


class Study:
    """Mean accuracies of a study by baseline, rule and factor, and what its README says."""

    def __init__(self, name: str) -> None:
        folder = RESULTS / f"study-{name}"
        rows = csv.DictReader((folder / "points.csv").read_text("utf-8").splitlines())
        self.rows = list(rows)
        self.readme = (folder / "README.md").read_text("utf-8")
        (self.runs, self.minutes) = re.findall(
            r"(\d+) training runs .*? (\d+) minutes", self.readme
        )[0]

    def __call__(self, baseline: str, rule: str, factor: float) -> str:
        (row,) = (
            row
            for row in self.rows
            if (row["baseline"], row["rule"]) == (baseline, rule) and float(row["factor"]) == factor
        )
        return percent(float(row["accuracy"]))


def clothes() -> tuple[list[dict[str, str]], str]:
    """The members and rivals of the run on photos of clothes, and its minutes."""
    folder = RESULTS / "clothing"
    texts = [(folder / f"{name}.csv").read_text("utf-8") for name in ("family", "rivals")]
    family, rivals = ([*csv.DictReader(text.splitlines())] for text in texts)
    every = [*family, *sorted(rivals, key=lambda row: row["member"])]
    assert [row["told_apart"] for row in rivals] == ["False", "False"]
    return every, re.findall(r"(\d+) minutes", (folder / "README.md").read_text("utf-8"))[0]


def readme() -> Iterator[str]:
    """The others are in test_readme.py."""
    yield f"[{Study('dimensions').runs} training runs]"
    training = result("training")["summary"]["times_as_fast_in_a_long_search"]
    yield f"{training['advised']:.1f} times as fast as with a tuned PyTorch loop"
    yield f"{training['tutorial']:.1f} times as fast as with a tutorial's loop"
    rows = list(csv.DictReader((RESULTS / "demo" / "family.csv").read_text("utf-8").splitlines()))
    for row in (rows[0], rows[-1]):
        yield percent(float(row["accuracy"]))
    clothing, minutes = clothes()
    yield f"made of them in {minutes} minutes on two CPU cores"
    b0, b1, start_b0, start_b1 = (percent(float(row["accuracy"])) for row in clothing)
    yield f"B0 reaches {b0} of {clothing[0]['images']} test photos"
    yield f"itself at the same cost {start_b0}"
    yield f"B1 reaches {b1} and Lite0 {start_b1}"
    text = (RESULTS / "clothing" / "member_comparisons.csv").read_text("utf-8")
    (pair,) = csv.DictReader(text.splitlines())
    assert (pair["member"], pair["other"], pair["told_apart"]) == ("b0", "b1", "True")
    low, high = (100 * float(pair[end]) for end in ("low", "high"))
    yield f"B1 is ahead of B0 by {low:.1f} to {high:.1f} points"
    yield f"is {points_ahead(photos_at_four_times(), 'compound')} points ahead of compound scaling"
    seconds = result("cost")["seconds"]
    yield f"{1e3 * seconds['cost, efficientnet_b0, nothing remembered']:.2f} ms"
    yield f"{1e6 * seconds['cost, efficientnet_b0']:.0f} µs"
    yield f"{seconds['fvcore, efficientnet_b0']:.2f} s"
    published = result("published")
    assert not any(each["removed_told_apart"] for each in published["differences"])
    gains = {each["dimension"]: f"{100 * each['gain']:.2f}" for each in published["dimensions"]}
    yield (
        f"the {published['counts']['architectures']} ImageNet architectures in timm's tables the "
        f"same: a doubling of MACs by depth gains {gains['depth']} points, by width "
        f"{gains['width']} points, by compound scaling {gains['compound']} points, and none"
    )


def pretrained() -> Iterator[str]:
    b0, b1, start_b0, start_b1 = (percent(float(row["accuracy"])) for row in clothes()[0])
    yield f"B0 reached {b0} and EfficientNet-Lite0 {start_b0} at 25M MACs"
    yield f"and B1 {b1} and Lite0 {start_b1} at 50M"
    shapes = result("start")["shapes"]

    def shaped(budget: int, fold: int) -> tuple[str, str, int]:
        """Lite0's accuracy, the best of the other shapes', and how many these are."""
        own, *others = (e for e in shapes if (e["budget"], e["fold"]) == (budget, fold))
        assert (own["width"], own["depth"], own["images"]) == (1, 1, 756)
        return percent(own["accuracy"]), percent(max(e["accuracy"] for e in others)), len(others)

    one, two, larger = shaped(10**7, 1), shaped(10**7, 2), shaped(25 * 10**6, 2)
    yield f"reached {one[0].removesuffix(' %')} and {two[0]} of 756 photos in two folds"
    yield f"the other reached {one[1]} and {two[1]}."
    yield f"Lite0 at 48 pixels reached {larger[0]} and the best of three others {larger[1]}"
    assert (one[2], two[2], larger[2]) == (5, 3, 3)
    fold, unseen = (unit for unit in result("start")["units"] if unit["budget"] == 10_000_000)
    assert (unseen["fold"], unseen["networks"]["searched"]["resolution"]) == (3, 36)
    found = {way: percent(value) for way, value in unseen["accuracy"].items()}
    yield f"that reached {found['searched']} of {unseen['images']} photos"
    yield f"reached {found['coarse']}, a random network of the space {found['random']}"
    yield f"uniformly {found['narrowed']}, and the network that was found {found['fresh']} from"
    pixels = unseen["networks"]["compound"]["resolution"]
    yield f"with {pixels} pixels, reached {found['compound']}, without a search"
    accuracy = {way: percent(value) for way, value in fold["accuracy"].items()}
    assert fold["networks"]["searched"] == fold["networks"]["coarse"]
    yield f"it reached {accuracy['searched']} of {fold['images']} photos, and with {fold['rate']}"
    yield f"on held-out images, {accuracy['coarse']}; Lite0 narrowed uniformly reached "
    yield accuracy["narrowed"]
    yield f"the chosen network from fresh weights {accuracy['fresh']}"
    of = {
        (each["network"], each["fold"], each["rate"]): each["accuracy"]
        for each in result("start")["learning_rates"]
    }

    def ahead(*networks: str) -> list[float]:
        pairs = [(name, fold) for name in networks for fold in (0, 1)]
        return [100 * (of[*pair, 0.016] - of[*pair, 0.008]) for pair in pairs]

    four, two = ahead("coarse at 25M", "narrowed at 25M"), ahead("coarse at 10M")
    assert min(four) > 0
    yield f"in all four pairs, by {np.mean(four):.1f} points in the mean"
    assert [value > 0 for value in two].count(True) == 1
    yield f"at 10M, by {np.mean(two):.1f} points, ahead in one pair of two"


def device() -> Iterator[str]:
    units = result("int8")["units"]
    lost = {
        space: [
            100 * (unit["float32_accuracy"] - unit["int8_accuracy"])
            for unit in units
            if unit["space"] == space
        ]
        for space in ("efficientnet_lite_small", "efficientnet_small")
    }
    arenas = result("arena")["units"]
    for space in ("efficientnet_lite_small", "efficientnet_small", "mnasnet_small"):
        own = [unit for unit in arenas if unit["space"] == space]
        heads = [unit["head"] / unit["sram"] for unit in own]
        totals = [(unit["head"] + unit["tail"]) / unit["sram"] for unit in own]
        head, total = (
            f"{median(each):.2f} {{}}{min(each):.2f} to {max(each):.2f}" for each in (heads, totals)
        )
        yield f"| `{space}` | {len(own)} | {head.format('| ')} | {total.format('(')}) |"
    yield f"are 678 + 222 a tensor + 8 a channel, within {100 * structures_miss(arenas):.1f} %"
    runtimes = result("kit")["runtimes"]
    torch, onnx, torch_lite, litert = (
        f"{100 * runtimes[name]['median_error']:.1f} %"
        for name in (
            *("torch mnasnet_small 32", "onnx mnasnet_small 32"),
            *("torch efficientnet_lite_small 48", "litert efficientnet_lite_small 48"),
        )
    )
    yield f"off by {torch} and {onnx} in the median"
    yield f"for LiteRT by {torch_lite} and {litert}"
    lite, gated = lost.values()
    yield f"epochs, lost {interval(lite)} points of accuracy in 8 bits"
    yield f"squeeze-and-excite {interval(gated)} (`efficientnet_small`)"
    difference = [after - before for before, after in zip(lite, gated, strict=True)]
    yield f"difference is {interval(difference)} (95 %, {len(lite)} seeds"
    assert np.mean(lite) + half_width(lite) < 1


def structures_miss(arenas: list[dict[str, Any]]) -> float:
    """How far the estimate of LiteRT's structures is off, as a part, at most in the lite space."""
    own = [n for n, unit in enumerate(arenas) if unit["space"] == "efficientnet_lite_small"]
    networks = {number: arena.drawn(number, np.random.default_rng(number))[1] for number in own}
    return max(
        abs(litert_micro(network).sram / arenas[number]["tail"] - 1)
        for number, network in networks.items()
    )


def half_width(values: list[float]) -> float:
    """Of a mean's 95 % interval (Student's t)."""
    return float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))


def interval(values: list[float]) -> str:
    return f"{np.mean(values):.2f} ± {half_width(values):.2f}".replace("-", "−")


def searching() -> Iterator[str]:
    units = [result("elastic")["units"][f"order, 30 epochs, seed {seed}"] for seed in range(3)]
    truth, short = elastic.accuracies().mean(axis=1), elastic.accuracies("proxy").T
    runs = [run["proxy"] for each in elastic.known() for run in each["training_runs"]]
    seconds = np.mean([sum(epoch["seconds"] for epoch in run) for run in runs])
    training = np.mean([unit["training"] for unit in units])
    parts = [np.array(unit["accuracies"]) for unit in units]
    yield f"took {training:.0f} processor seconds"
    yield f"as long as {training / seconds:.0f} short training runs"
    yield "by Kendall's τ {:.2f}, {:.2f} and {:.2f} with".format(
        *(elastic.tau(each, truth) for each in parts)
    )
    agreed = [elastic.tau(*pair) for pair in combinations(parts, 2)]
    yield f"Two of the three agree by {min(agreed):.2f} to {max(agreed):.2f}"
    mean, low, high = elastic.difference(parts, short, truth)
    yield f"difference, {mean:.2f} ({low:.2f} to {high:.2f})".replace("-", "−")
    taus = sorted(elastic.tau(each, truth) for each in short)
    yield "by {:.2f}, {:.2f} and {:.2f} (three seeds)".format(*taus)


def report() -> Iterator[str]:
    found = result("decision")
    cases, rising = found["cases"], "rising by 1 point"
    regret = {each["images"]: each["regret"] for each in cases if each["truth"] == rising}
    yield f"{found['families']} families of four members"
    yield f"at most {100 * max(each['false_statements'] for each in cases):.0f} % of the families"
    yield f"at most {100 * max(each['missed_intervals'] for each in cases):.2f} % had an interval"
    yield (
        f"was {100 * regret[300]:.1f} points below the best with 300 images, and "
        f"{100 * regret[3000]:.1f} with 3,000"
    )


def watching() -> Iterator[str]:
    seconds = result("hours")["seconds"]
    low, high = (seconds / 60 for seconds in seconds["foretold"])
    yield f"{low:.0f} to {high:.0f} minutes, and the run took {seconds['run'] / 60:.0f} minutes"


def growth_of_b0() -> str:
    b0 = presets.load("efficientnet_b0")
    (scaled,) = candidates(b0, [PUBLISHED])
    return f"{cost(scaled.architecture).macs / cost(b0).macs:.2f} times"


def method() -> Iterator[str]:
    yield f"product {PUBLISHED.nominal:.2f}, but the scaled B0 at 258 pixels is {growth_of_b0()}"


def scaling() -> Iterator[str]:
    yield f"have the product {PUBLISHED.nominal:.2f} but make B0 {growth_of_b0()} as expensive"
    yield f"With 1.3 points of noise, half a point takes {seeds_for(0.005, 0.013)} seeds"
    yield f"that is found with {100 * POWER:.0f} % power"
    yield f"(at {100 * POWER:.0f} % power)"
    yield from coverage()
    yield from studies()
    tables = result("growth")["growth_tables"]
    yield f"draws {len({unit['seed'] for unit in tables['units']})} tables with a known truth"
    yield f"three noisy accuracies ({100 * tables['noise']:.1f} points)"
    yield f"at most {max(unit['lookups'] for unit in tables['units'])} rows for both targets"
    photos = photos_at_four_times()
    yield f"learned growth is {points_ahead(photos, 'compound')} points ahead of compound scaling"
    behind_pixels = points_ahead(photos, "resolution")
    assert behind_pixels.startswith("−")
    yield f"It is {behind_pixels.removeprefix('−')} points behind resolution alone"
    shipped = sum(unit["shipped"] == "learned" for unit in photos)
    yield f"shipped learned growth in {shipped} of the {len(photos)} folds"
    before = result("growth")["growth_clothing_random_starts"]["units"][1]
    behind = before["resolution"]["accuracies"][0] - before["learned"]["accuracies"][0]
    yield f"it was {100 * behind:.1f} points behind resolution alone without them"
    others = [unit for unit in photos if unit["fold"]]
    yield f"On the other four folds it is {points_ahead(others, 'compound')} points ahead"


def photos_at_four_times() -> list[dict[str, Any]]:
    units: list[dict[str, Any]] = result("growth")["growth_clothing"]["units"]
    return [unit for unit in units if unit["factor"] == 4]


def points_ahead(units: list[dict[str, Any]], rule: str) -> str:
    """How far learned growth is ahead of a rule, paired by fold."""
    means = [[np.mean(unit[each]["accuracies"]) for each in ("learned", rule)] for unit in units]
    ahead = [float(ours - theirs) for ours, theirs in means]
    return f"{100 * np.mean(ahead):.1f} ± {100 * half_width(ahead):.1f}".replace("-", "−")


def coverage() -> Iterator[str]:
    found = result("coverage")
    cases = found["cases"]
    every = [each for case in cases for each in case["coverage"].items()]
    claimed = min(right for claim, right in every if "not claimed" not in claim)
    tied = [right for claim, right in every if "best of all is tied" in claim]
    yield f"at least {100 * claimed:.0f} % of the {found['simulations']} simulations of every case"
    yield f"held in {100 * min(tied):.0f} to {100 * max(tied):.0f} % of them"
    kinds = ("refine, raw maximum", "refine, Gaussian process", "refine, as decided")
    raw, process, decided = ([case["regret"][kind] for case in cases] for kind in kinds)
    worse = [after - before for before, after in zip(raw, process, strict=True)]
    yield (
        f"in {sum(each < 0 for each in worse)} of the {len(cases)} cases, and "
        f"{100 * max(worse):.3f} points more in the other"
    )
    price = max(after - before for before, after in zip(process, decided, strict=True))
    yield f"costs up to {100 * price:.2f} points where growth in one dimension is best"


def studies() -> Iterator[str]:
    dimensions, width, baselines, family = map(
        Study, ("dimensions", "width", "baselines", "family")
    )
    yield f"(`study-dimensions`, {dimensions.minutes} minutes of training, 3 seeds)"
    of = {f: [dimensions("searched", r, f) for r in ("resolution", "compound")] for f in (2, 4)}
    yield f"{' and '.join(of[2])} at twice the MACs, {' and '.join(of[4])} at four times"
    yield f"(`study-width`, {width.minutes} minutes on busy cores, 3 seeds)"
    (per_doubling,) = re.findall(r"d 1, r 1 \+(.*?); .*? d 1, r 1.33 \+(.*?);", width.readme)
    yield "by width alone gains {} points at 24 pixels and {} at 32".format(*per_doubling)
    yield (
        f"CIFAR-10, {baselines.runs} training runs, 3 seeds, {baselines.minutes} minutes on busy "
        "cores"
    )
    for name in ("MobileNetV1", "MobileNetV2", "ResNet-50"):
        ahead = f"{baselines(name, 'compound', 4)} against {baselines(name, 'width', 4)}"
        yield f"{name} {ahead}"
    deeper, unscaled = baselines("MobileNetV2", "depth", 4), baselines("MobileNetV2", "baseline", 1)
    yield f"(MobileNetV2 {deeper} against {unscaled})"
    yield f"letters, {family.minutes} minutes on busy cores, 3 seeds"
    ours = dict(re.findall(r"(\dM) MACs: (.*?)%", family.readme))
    theirs = dict(re.findall(r"(\dM) MACs: .*? against (.*?)%", family.readme))
    yield f"{ours['2M']} % at two million and {ours['4M']} % at four million"
    yield f"reaches {theirs['2M']} % and {theirs['4M']} %"


#: What the files say, by page.
SAID: dict[str, Callable[[], Iterator[str]]] = {
    "README.md": readme,
    "docs/method.md": method,
    "docs/operations.md": lambda: iter((f"after {EXPIRY:.0f} seconds elsewhere",)),
    "docs/report.md": report,
    "docs/scaling.md": scaling,
    "docs/searching.md": searching,
    "docs/howto/device.md": device,
    "docs/howto/pretrained.md": pretrained,
    "docs/howto/watching.md": watching,
    "docs/howto/resume.md": lambda: iter((f"after {EXPIRY:.0f} seconds on other machines",)),
}
#: Settings, levels, examples and definitions, by page.
SETTINGS = {
    "docs/method.md": {"5 %"},
    "docs/operations.md": {"30 s"},  # how long Ray's client waits
    "docs/performance.md": {"2 MiB"},  # the size of a huge page
    "docs/published.md": {"95 %"},
    "docs/report.md": {"95 %", "2 points", "3.7 points", "18.3 points", "4 times"},
    # Levels, tolerances; the paper's rows.
    "docs/scaling.md": {"95 %", "5 %", "1 %", "13 %", "101 %", "90 %", "100 %"},
    # Of simulated noise, and the level of intervals.
    "docs/searching.md": {"0.3 points", "1.3 points", "16 training runs", "95 %"},
    "docs/howto/pretrained.md": {"1.25 times"},  # widths of a space
    "docs/howto/watching.md": {"80 %", "10 %"},
}
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
PAGES += sorted((REPOSITORY / "docs" / "howto").glob("*.md"))


@pytest.mark.parametrize("page", [str(each.relative_to(REPOSITORY)) for each in PAGES])
def test_measured_numbers_come_from_committed_files(page):
    whole = (REPOSITORY / page).read_text("utf-8")
    text, rest = (" ".join(each.split()) for each in (whole, OTHER.sub("", whole)))
    for sentence in SAID.get(page, lambda: iter(()))():
        assert sentence in text
        rest = rest.replace(" ".join(OTHER.sub("", sentence).split()), "")
    assert {match[0] for match in MEASURE.finditer(rest)} <= SETTINGS.get(page, set())


def test_a_measured_number_would_be_seen():
    text = "It takes 4 to 24 times the time, [once](page.md) 0.1 ms, `--limit 3 s`, 8 epochs."
    assert MEASURE.findall(OTHER.sub("", text)) == ["4 to 24 times", "0.1 ms"]
