"""The README says what the committed results say, and its example runs."""

import csv
import json
import re
from collections import defaultdict
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "experiments" / "results"
README = " ".join((REPOSITORY / "README.md").read_text("utf-8").split())


def result(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def test_the_demo_is_the_recorded_one():
    rows = list(csv.DictReader((RESULTS / "demo" / "family.csv").read_text("utf-8").splitlines()))
    first, last = rows[0], rows[-1]
    assert (
        f"a baseline with {int(first['macs']) / 1e6:.1f}M multiply–adds classifies "
        f"{float(first['accuracy']):.1%}".replace("%", " %")
    ) in README
    assert (
        f"the largest member, {last['name'].upper()}, with {int(last['macs']) / 1e6:.1f}M "
        f"multiply–adds {float(last['accuracy']):.1%}".replace("%", " %")
    ) in README


def test_the_sampler_wins_as_often_as_the_records_say():
    values = defaultdict(dict)
    for search in result("samplers")["searches"].values():
        if search["surrogate"] == "boosting":
            key = (search["setting"], search["sampler"])
            values[key][search["seed"]] = search["values"]
    wins = {}
    for setting in ("soft, exact", "hard, exact", "soft, noise 0.3", "hard, noise 0.3"):
        ours, theirs = values[setting, "predictor"], values[setting, "tpe_multivariate"]
        assert len(ours.keys() & theirs.keys()) == 20
        wins[setting] = sum(ours[seed]["100"] > theirs[seed]["1000"] for seed in theirs)
    soft, hard, soft_noise, hard_noise = wins.values()
    said = f"it wins {soft} and {hard} of 20 comparisons without noise, and "
    said += f"{soft_noise} and {hard_noise} of 20 with realistic noise"
    assert said in README


def test_speeds_are_the_measured_ones():
    training = result("training")["summary"]["times_as_fast_in_a_long_search"]
    said = f"{training['advised']:.1f} times as fast as with a tuned PyTorch loop and "
    assert said + f"{training['tutorial']:.1f} times as fast as with a tutorial's loop" in README
    seconds = result("cost")["seconds"]
    first = 1e3 * seconds["cost, efficientnet_b0, nothing remembered"]
    again = 1e6 * seconds["cost, efficientnet_b0"]
    traced = seconds["fvcore, efficientnet_b0"]
    said = f"EfficientNet-B0 takes {first:.2f} ms, and {again:.0f} µs once its stages are cached; "
    assert f"{said}fvcore takes {traced:.2f} s" in README


def test_the_example_runs(capsys):
    text = (REPOSITORY / "README.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(code, {})
    assert re.match(r"Cost\(macs=\d+, params=\d+, activations=\d+\)", capsys.readouterr().out)


def test_every_linked_file_exists():
    text = (REPOSITORY / "README.md").read_text("utf-8")
    linked = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)}
    for link in linked:
        assert link.startswith("https://") or (REPOSITORY / link).exists(), link
