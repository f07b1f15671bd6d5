"""Writes the committed results as tables in Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy import stats

from reports.published_gains import COSTS
from reports.published_page import interval
from space.files import write_file

RESULTS = Path(__file__).parents[1] / "experiments" / "results"


def write(folder: Path) -> None:
    """Writes a page for each result into `folder`."""
    folder.mkdir(exist_ok=True)
    for name, page in _PAGES.items():
        result, _, section = name.partition("/")
        path = RESULTS / f"{result}.json"
        found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        found = found.get(section) if section else found
        text = f"*Not measured yet: `experiments/results/{result}.json` has no such result.*"
        if found:
            text = f"{page(found)}\n\n{_where(found)}"
        write_file(folder / f"{section or result}.md", text + "\n")


def _training(found: dict[str, Any]) -> str:
    summary, setting = found["summary"], found["setting"]
    rows = []
    for name in summary["seconds"]:
        gain = summary["accuracy_gain_over"].get(name)
        rows.append(
            [
                name,
                f"{len(found['ways'][name]['trained'])}",
                f"{summary['training_runs_per_hour'][name]:,.0f}",
                f"{summary['images_per_second'][name]:,.0f}",
                *(
                    f"{summary[ratio][name]:.2f}" if gain else ""
                    for ratio in ("times_as_fast_as", "times_as_fast_in_a_long_search")
                ),
                f"{summary['accuracy'][name]:.3f}",
                f"{gain['mean']:+.3f} ± {gain['half_width']:.3f}" if gain else "",
            ]
        )
    headers = (
        *("way", "networks trained", "training runs per hour", "images per second"),
        *("phiscale is × as fast", "in a long search", "mean accuracy", "phiscale's gain, 95 %"),
    )
    achieved = summary["operations_per_second"]["phiscale"] / 1e9
    ceiling = found["ceilings"]["matrix_operations_per_second"] / 1e9
    return (
        f"{_table(headers, rows)}\n\n"
        f"{setting['architectures']} random networks, {setting['train_images']:,} images, "
        f"{setting['epochs']} epochs, on {setting['device']}. phiscale's convolutions do "
        f"{achieved:,.0f} billion operations per second, a large matrix product {ceiling:,.0f} on "
        f"{found['hardware']['threads']} CPU threads. A way that trained fewer networks is "
        "compared with `advised` on those. In a long search, unlike here, no worker waits for the "
        "last one."
    )


def _profile(found: dict[str, Any]) -> str:
    ways: dict[str, dict[str, float]] = found["seconds"]
    parts = list(next(iter(ways.values())))
    rows = [
        [name, f"{sum(spent.values()):.1f} s"]
        + [f"{spent[part] / sum(spent.values()):.1%}" for part in parts]
        for name, spent in ways.items()
    ]
    return (
        f"{_table(('one training run', 'seconds', *parts), rows)}\n\n"
        f"A network of {found['macs'] / 1e6:.1f}M MACs: an epoch of {found['train_images']:,} "
        f"images and validation on {found['held_out_images']:,}."
    )


def _accuracy(found: dict[str, Any]) -> str:
    rows = [
        [name, *(f"{accuracy:.2%}" for accuracy in accuracies.values())]
        for name, accuracies in found["accuracy"].items()
    ]
    most = max(len(row) for row in rows)
    rows = [row + [""] * (most - len(row)) for row in rows]
    setting = found["setting"]
    every = [list(accuracies.values()) for accuracies in found["accuracy"].values()]
    mean = fmean(accuracy for accuracies in every for accuracy in accuracies)
    error = math.sqrt(mean * (1 - mean) / setting["test_images"])
    apart = max(max(accuracies) - min(accuracies) for accuracies in every)
    return (
        f"{_table(('recipe', *(f'seed {seed}' for seed in range(most - 1))), rows)}\n\n"
        f"{setting['epochs']} epochs of {setting['images']:,} images of CIFAR-10, tested on "
        f"{setting['test_images']:,}; a network of {setting['macs'] / 1e6:.1f}M MACs. The standard "
        f"error of such an accuracy is {100 * error:.1f} points; two seeds of one recipe differ by "
        f"up to {100 * apart:.1f}, so they do not show which recipe is better."
    )


def _latency(found: dict[str, Any]) -> str:
    rows = [
        [
            row["member"],
            f"{row['macs'] / 1e6:,.0f}M",
            row["backend"],
            f"{row['median_seconds'] * 1e3:.1f} ms",
            f"{row['low_seconds'] * 1e3:.1f} – {row['high_seconds'] * 1e3:.1f}",
        ]
        for row in found["networks"]
    ]
    table = found["table"]
    return (
        f"{_table(('network', 'MACs', 'backend', 'median', 'quartiles'), rows)}\n\n"
        f"One image, one thread. The table of `{table['space']}` at {table['resolution']} pixels "
        f"has {table['parts']:,} parts; for {table['networks']} other networks, "
        f"the prediction was {table['median_error']:.1%} off in the median and "
        f"{table['largest_error']:.1%} at most, with a rank correlation of "
        f"{table['rank_correlation']:.2f} (Kendall's τ)."
    )


def _reader(found: dict[str, Any]) -> str:
    rates, setting = found["images_per_second"], found["setting"]
    ways = list(next(iter(rates.values())))
    rows = [
        [f"{side} pixels", *(f"{own[way]:,.0f}" for way in ways)] for side, own in rates.items()
    ]
    return (
        f"{_table(('images per second of a core', *ways), rows)}\n\n"
        f"{setting['images']} photos as JPEG files of {' × '.join(map(str, setting['size']))} "
        f"pixels, quality {setting['quality']}; processor time. The decoded cache is read from "
        "memory here; from a disk it is as fast as the disk."
    )


def _overhead(found: dict[str, Any]) -> str:
    clock, driver = found["found"]["clock_seconds"], found["found"]["driver_seconds"]
    rows = [
        [name.replace(", tpe", ""), f"{1e3 * clock[name]:,.0f} ms", f"{1e3 * driver[name]:,.0f} ms"]
        for name in clock
        if "random" not in name and "journal" not in name
    ]
    return (
        f"{_table(('no-op trials of 28 choices, TPE', 'by the clock', 'of the driver'), rows)}\n\n"
        "Time per trial. *Of the driver* is its processor time, which other work on the machine "
        "changes less. Executors with workers have two; *reuse* is Tune's `reuse_actors`."
    )


def _speedup(found: dict[str, Any]) -> str:
    measured = found["found"]
    return (
        f"{measured['training_runs']} training runs on {measured['images']:,} images: two workers "
        f"with one thread each are {measured['two_workers_over_one']:.2f} times as fast as one "
        f"such worker, one worker with two threads {measured['two_threads_over_one']:.2f} times."
    )


def _operations(found: dict[str, Any]) -> str:
    setting, counts = found["setting"], found["operations"]
    ways = next(iter(counts.values()))
    rows = [[way, *(f"{own[way]:,}" for own in counts.values())] for way in ways]
    names = (f"`{name}`" for name in counts)
    return (
        f"{_table(('operations of a step', *names), rows)}\n\n"
        "Those that launch a kernel, counted on a CPU under autocast with the layers of a GPU "
        f"({setting['batch']} images of {setting['resolution']} pixels, "
        f"{setting['optimizer'].upper()}). An operation on many tensors counts as one. The "
        "changes: weights in bfloat16 at once, no counts of batches, constants of normalisation "
        "once, squeeze as linear layers. *All by Triton*: if every norm with its activation, and "
        "every depthwise convolution, were by Triton's kernels; a GPU uses those that are faster. "
        "*In one pass*: several seeds of one network, as below."
    )


def _width(found: dict[str, Any]) -> str:
    measured = found["found"]
    rows = [
        [
            f"{seconds} s",
            f"{each['trials_per_second']:.1f}",
            f"{each['utilisation']:.0%}",
            f"{1e3 * each['driver_cpu_seconds_per_trial']:.0f} ms",
        ]
        for seconds, each in measured["trials"].items()
    ]
    headers = (
        "a trial sleeps",
        "trials a second",
        "workers are busy",
        "driver's processor, a trial",
    )
    return (
        f"{_table(headers, rows)}\n\n"
        f"{measured['workers']} Ray workers of {measured['megabytes_per_worker']} MB, SQLite and "
        f"TPE, all on the driver's machine. {_beyond(measured)}"
    )


def _beyond(measured: dict[str, Any]) -> str:
    """What limits the number of workers, and what follows for 1,000 of them."""
    trials = {float(seconds): each for seconds, each in measured["trials"].items()}
    longest, workers = max(trials), measured["workers"]
    fastest = max(each["trials_per_second"] for each in trials.values())
    idle = [seconds for seconds, each in trials.items() if each["utilisation"] < 0.9]
    seen = (
        f"Workers were idle for more than a tenth of their time if trials took {max(idle):g} s or "
        f"less; {workers * longest / max(idle):,.0f} workers with trials of {longest:g} s ask as "
        "much of the driver"
        if idle
        else "Workers were idle for less than a tenth of their time even in the last row; "
        f"{workers * longest / min(trials):,.0f} workers with trials of {longest:g} s ask as much "
        "of the driver"
    )
    return (
        f"{seen}. The driver handed out at most {fastest:.0f} trials per second, so in theory it "
        f"keeps 1,000 workers busy with trials of {1000 / fastest:.0f} s or longer."
    )


def _faults(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{executor}, {storage}",
            *(f"{each[name]}" for name in ("kills", "finished", "retried", "duplicates", "lost")),
        ]
        for executor, storages in found["found"].items()
        for storage, each in storages.items()
    ]
    headers = ("executor, storage", "kills", "finished", "started again", "trained twice", "lost")
    return _table(headers, rows)


def _fuzz(found: dict[str, Any]) -> str:
    readers = found["found"].items()
    rows = [
        [name, *(f"{each.get(outcome, 0):,}" for outcome in ("data", "sentence"))]
        for name, each in readers
    ]
    readings = sum(each.get("data", 0) + each.get("sentence", 0) for _, each in readers)
    return (
        f"{_table(('reader of', 'gave data', 'gave a sentence'), rows)}\n\n"
        f"{readings:,} readings in all; none ended in anything else."
    )


def _race(found: dict[str, Any]) -> str:
    ranked = sorted(found["grid_accuracies"].items(), key=lambda each: -each[1])
    chosen = {name: way["chosen"] for name, way in found["ways"].items()}
    rows = [
        [
            name,
            f"{accuracy:.1%}",
            "yes" if name in found["grid_confidence_set"] else "",
            ", ".join(way for way, label in chosen.items() if label == name),
        ]
        for name, accuracy in ranked
    ]
    grid = found["grid_forward_macs"]
    ways = " ".join(
        f"`{name}` chose {way['chosen']} ({way['decision']}), {100 * way['regret']:.1f} points "
        f"behind the full grid's best and "
        f"{'' if way['in_confidence_set'] else 'not '}in the set, with "
        f"{way['training_runs']} training runs, {way['forward_macs'] / grid:.0%} of the "
        "multiply–adds."
        for name, way in found["ways"].items()
    )
    return (
        f"{_table(('candidate', 'accuracy', 'in the confidence set', 'chosen by'), rows)}\n\n"
        f"{found['seeds']} seeds, {found['epochs']} epochs, level {found['level']:.0%}; candidates "
        f"up to {100 * found['grid_gap']:.1f} points behind the best may not be told from it. The "
        f"full grid's {found['grid_training_runs']} training runs took {grid / 1e12:.2f}·10¹² "
        f"multiply–adds forward. {ways}"
    )


def _coverage(found: dict[str, Any]) -> str:
    cases, count = found["cases"], found["simulations"]
    claims = dict.fromkeys(claim for case in cases for claim in case["coverage"])
    covered = []
    for claim in claims:
        known = [case for case in cases if claim in case["coverage"]]
        trials = sum(case["counted"][claim] for case in known)
        right = sum(case["coverage"][claim] * case["counted"][claim] for case in known)
        least = min(case["coverage"][claim] for case in known)
        covered.append([claim, f"{trials:,}", f"{right / trials:.1%}", f"{least:.1%}"])
    ways = list(cases[0]["regret"])
    lost = [
        [
            f"{case['truth']}, noise {100 * case['noise']:g}"
            f"{', unequal' if case['unequal_variances'] else ''}",
            *(f"{100 * case['regret'][way]:.2f}" for way in ways),
        ]
        for case in cases
    ]
    runs = [f"{fmean(case['runs'][way] for case in cases):.0f}" for way in ways]
    power = " ".join(
        f"{each['finalists']} finalists with {each['seeds']} seeds: {each['found']:.0%}."
        for each in found["power"]
    )
    return (
        f"{_table(('claim, at 95 %', 'n', 'right', 'in the worst case'), covered)}\n\n"
        f"Accuracy in points that the choice loses at equal cost, the mean of {count} simulations "
        f"a case; {found['candidates']} candidates differ by {100 * found['spread']:g} points:\n\n"
        f"{_table(('truth', *ways), [*lost, ['*training runs to choose, on average*', *runs]])}\n\n"
        f"Of differences that a design should find with 80 % power it found, {power}"
    )


def _published(found: dict[str, Any]) -> str:
    counts = found["counts"]
    dimensions = [
        [row["dimension"], interval(row, "gain"), interval(row, "removed"), f"{row['n']}"]
        for row in found["dimensions"]
    ]
    families = [[row["family"], interval(row, "gain"), f"{row['n']}"] for row in found["families"]]
    recipes = [
        [f"`{row['recipe']}`", interval(row, "gain", signed=True), f"{row['n']}"]
        for row in found["recipes"]
    ]
    times = [
        [f"`{row['device']}`", *(interval(row, cost, unit=1) for cost in COSTS), f"{row['n']:,}"]
        for row in found["times"]
    ]
    return "\n\n".join(
        (
            f"{counts['accuracies']:,} accuracies of {counts['networks']:,} trained networks: "
            f"{counts['architectures']} architectures, {counts['recipes']} recipes.",
            *(f"- {sentence}" for sentence in found["sentences"]),
            "Per doubling of MACs, by dimension:",
            _table(("dimension", "points", "% of the errors removed", "lines"), dimensions),
            "By family, over its recipes:",
            _table(("family", "points", "recipes"), families),
            "More points per doubling than the other recipes that trained the same lines:",
            _table(("recipe", "points", "lines"), recipes),
            "Kendall's τ of each cost with the time of an image:",
            _table(("device", *COSTS.values(), "networks and resolutions"), times),
        )
    )


def _formats(found: dict[str, Any]) -> str:
    member, runtimes = found["member"], found["runtimes"]
    rows = [
        [
            f"`{name}`",
            f"{each['largest_difference']:.0e}",
            f"{100 * each['int8_accuracy']:.2f} %",
            f"{100 * each['int8_same_class']:.1f} %",
        ]
        for name, each in runtimes.items()
    ]
    headers = (
        *("`--to`", "largest difference, of the largest output", "accuracy with 8 bits"),
        f"the same class as with 32 bits, of {found['compared_images']} images",
    )
    without = runtimes["openvino"]["largest_difference_without_hint"]
    return (
        f"{_table(headers, rows)}\n\n"
        f"A run's b1: {member['params']:,} parameters, {member['resolution']} pixels, "
        f"{member['classes']} classes, {100 * member['accuracy']:.2f} % of "
        f"{member['test_images']:,} test images with 32 bits. OpenVINO without its hint differed "
        f"by {100 * without:.1f} % of the largest output."
    )


def _where(found: dict[str, Any]) -> str:
    if "sha256" in found:
        files = (f"`{name}` (SHA-256 {sha[:12]}…)" for name, sha in found["sha256"].items())
        return f"Files: {', '.join(files)}."
    hardware = found["hardware"]
    versions = {"torch": hardware.get("torch")} | found.get("versions", {})
    named = ", ".join(
        f"{name} {versions[name]}"
        for name in ("torch", "ray", "optuna", "pillow")
        if versions.get(name)
    )
    gpus = f", GPUs: {hardware['gpus']}" if "gpus" in hardware else ""
    note = f" Note: {found['note']}." if "note" in found else ""
    machine = f"{hardware['processor']}, {hardware['cores']} cores{gpus}"
    return f"`{found['command']}`; {machine}; {named}.{note}"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headers, ["---"] + ["---:"] * (len(headers) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _growth_tables(found: dict[str, Any]) -> str:
    rows = []
    for width in (1.0, 0.75):
        own = [unit for unit in found["units"] if unit["width"] == width]
        within = sum(unit["judged"] >= -0.001 for unit in own)
        rows.append(
            [
                f"uniform width {width}",
                *(f"{fmean(unit[name] for unit in own):.0%}" for name in ("macs", "least_macs")),
                *(
                    f"{100 * fmean(unit[name] for unit in own):+.2f}"
                    for name in ("judged", "true", "best_true", "over_compound")
                ),
                f"{within} of {len(own)}",
                f"{sum(unit['told_apart'] for unit in own)} of {len(own)}",
            ]
        )
    headers = (
        *("against", "MACs", "least MACs at its accuracy", "judged", "true", "best possible, true"),
        *("over compound scaling, true", "judged within 0.1", "told from compound scaling"),
    )
    return f"{_table(headers, rows)}\n\nMeans over the tables; differences in points of accuracy."


def _growth_accel_nasbench(found: dict[str, Any]) -> str:
    rows = []
    for factor in sorted({unit["factor"] for unit in found["units"]}):
        own = [unit for unit in found["units"] if unit["factor"] == factor]
        ahead = [100 * unit["over_compound"] for unit in own]
        rows.append(
            [
                f"{factor:g} × the MACs of one layer a stage",
                f"{fmean(ahead):+.2f} ({min(ahead):+.2f} to {max(ahead):+.2f})",
                f"{100 * fmean(unit['best'] for unit in own):+.2f}",
                f"{fmean(unit['macs'] for unit in own):.3f}",
                f"{max(unit['lookups'] for unit in own)}",
            ]
        )
    headers = (
        *("target", "learned − compound, points", "best possible", "MACs over compound's"),
        "look-ups for all targets",
    )
    return _table(headers, rows)


def _growth_clothing(found: dict[str, Any]) -> str:
    rows = []
    for factor in sorted({unit["factor"] for unit in found["units"]}):
        own = [unit for unit in found["units"] if unit["factor"] == factor]
        for rule in ("learned", "compound", "width", "depth", "resolution"):
            accuracies = [fmean(unit[rule]["accuracies"]) for unit in own]
            ahead = [
                100 * (fmean(unit["learned"]["accuracies"]) - each)
                for unit, each in zip(own, accuracies, strict=True)
            ]
            half = float(stats.sem(ahead) * stats.t.isf(0.025, len(ahead) - 1))
            pixels = [unit[rule]["resolution"] for unit in own]
            rows.append(
                [
                    f"{factor:g} × the MACs, {rule}",
                    f"{fmean(unit[rule]['macs'] for unit in own) / 1e6:.1f}M",
                    f"{min(pixels)}" + f" – {max(pixels)}" * (min(pixels) < max(pixels)),
                    f"{100 * fmean(accuracies):.1f} %",
                    ""
                    if rule == "learned"
                    else f"{fmean(ahead):+.1f} ± {half:.1f}".replace("-", "−"),
                ]
            )
    headers = ("growth", "MACs", "pixels", "test accuracy", "learned is ahead by, points (95 %)")
    folds = sorted({unit["fold"] for unit in found["units"]})
    return (
        f"{_table(headers, rows)}\n\nMeans over {len(folds)} folds with a seed each, paired by "
        f"fold; {found['epochs']} epochs. For both targets learned growth took "
        f"{max(unit['runs'] for unit in found['units'])} training runs of "
        f"{found['proxy_epochs']} epoch."
    )


_PAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    "training": _training,
    "profile": _profile,
    "accuracy": _accuracy,
    "latency": _latency,
    "reader": _reader,
    "orchestration/overhead": _overhead,
    "orchestration/speedup": _speedup,
    "orchestration/width": _width,
    "operations": _operations,
    "faults": _faults,
    "fuzz": _fuzz,
    "race": _race,
    "coverage": _coverage,
    "published": _published,
    "formats": _formats,
    "growth/growth_tables": _growth_tables,
    "growth/growth_accel_nasbench": _growth_accel_nasbench,
    "growth/growth_clothing": _growth_clothing,
}
