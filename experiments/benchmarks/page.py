"""How smooth the report's page is in a browser: size, first paint, and what a reader does to it.

`python -m experiments.benchmarks.page` opens pages of made-up searches (their accuracies are a
formula) in the installed Chromium, prints the seconds and writes `experiments/results/page.json`.
It needs Playwright, of the extra `dev`.
"""

from __future__ import annotations

import json
import math
import os
import platform
import random
import shutil
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.runs.environment import environment
from reports import page, tables
from reports.load import Run, Trial
from space import choices
from space.cost import cost
from space.files import write_file
from space.validation import InvalidInput

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TRIALS = (1_000, 5_000)
REPEATS = 5
EPOCHS = 5
#: Networks that are drawn at random; more trials than these name some of them again.
NETWORKS = 2_000
RESULT = Path(__file__).parents[1] / "results" / "page.json"

#: Milliseconds from an event until the next frame has been drawn, for each thing that readers do.
_ACTS = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const plot = document.querySelector("#chart-accuracy .plot");
  const dots = plot.querySelector(".tone-complete path").getBoundingClientRect();
  const at = { clientX: dots.x + dots.width / 2, clientY: dots.y + dots.height / 2, bubbles: true,
    pointerType: "touch", pointerId: 1 };
  const point = (type) => plot.dispatchEvent(new PointerEvent(type, at));
  const key = [...document.querySelectorAll("#chart-accuracy .key")]
    .find((button) => button.textContent === "trials");
  const tool = (label) => document.querySelector(`#chart-accuracy [aria-label="${label}"]`);
  const acts = {
    hover: () => point("pointermove"),
    pin: () => point("pointerup"),
    hide_layer: () => key.click(),
    show_layer: () => key.click(),
    zoom: () => tool("Zoom in").click(),
    zoom_back: () => tool("Show everything").click(),
    theme: () => document.querySelector(".theme").click(),
  };
  const seconds = {};
  for (const [name, act] of Object.entries(acts)) {
    await frame();
    const start = performance.now();
    act();
    await frame();
    seconds[name] = (performance.now() - start) / 1000;
  }
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return { first_paint: paint.startTime / 1000, ...seconds };
}"""


def made_up(trials: int) -> Run:
    """A run whose search has so many trials; a sixth of them pruned after two epochs."""
    space = choices.load("mnasnet_small").adapted(num_classes=10, resolution=32)
    draw = random.Random(0)
    networks = []
    for _ in range(min(trials, NETWORKS)):
        chosen = {name: draw.choice(values) for name, values in space.choices.items()}
        network = space.decode(chosen)
        networks.append((chosen, network.to_dict(), network.key, cost(network)._asdict()))
    made = tuple(
        _trial(number, *networks[number % len(networks)], draw) for number in range(trials)
    )
    recipe = {"name": "made-up", "objective": {"target": 4_000_000}}
    return Run(path=Path("made-up"), recipe=recipe, trials={"search": made})


def _trial(
    number: int,
    chosen: Mapping[str, Any],
    architecture: Mapping[str, Any],
    key: str,
    price: Mapping[str, int],
    draw: random.Random,
) -> Trial:
    ended = 2 if number % 6 == 5 else EPOCHS
    best = 0.95 - 0.6 * (price["macs"] / 4e5) ** -0.3 + draw.gauss(0, 0.02)
    curve = [best * (1 - 0.9 * math.exp(-epoch / 2)) for epoch in range(1, ended + 1)]
    rewards = [accuracy * (price["macs"] / 4e6) ** -0.07 for accuracy in curve]
    epochs = [
        {"epoch": place, "accuracy": accuracy, "loss": 1.0, "train_loss": 1.0, "seconds": 1.0}
        for place, accuracy in enumerate(curve, start=1)
    ]
    return Trial(
        study="search",
        number=number,
        state="complete" if ended == EPOCHS else "pruned",
        value=rewards[-1] if ended == EPOCHS else None,
        choices=chosen,
        reports=dict(enumerate(rewards, start=1)),
        job=f"trial-{number}",
        key=key,
        architecture=architecture,
        cost=price,
        budget={"epochs": EPOCHS, "data_fraction": 1.0, "seed": 0},
        measurement={"accuracy": curve[-1], "images": 600, "epochs": epochs, "train_seconds": 5.0},
        seconds=6.0,
    )


def measure(browser: Browser, html: str) -> dict[str, Any]:
    """The page's bytes, and the median and the most of the seconds of each act, in fresh tabs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.html"
        path.write_text(html, "utf-8")
        seen = []
        for _ in range(REPEATS):
            tab = browser.new_page(viewport={"width": 1440, "height": 900})
            tab.goto(path.as_uri())
            seen.append(tab.evaluate(_ACTS))
            tab.close()
    return {
        "bytes": len(html.encode()),
        "seconds": {
            name: {
                "median": round(statistics.median(one[name] for one in seen), 4),
                "most": round(max(one[name] for one in seen), 4),
            }
            for name in seen[0]
        },
    }


def main() -> None:
    """Measures pages of `TRIALS` trials."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise InvalidInput("Playwright is needed: pip install 'phiscale[dev]'") from None
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise InvalidInput("a Chromium is needed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        found = {}
        for trials in TRIALS:
            run = made_up(trials)
            found[str(trials)] = measure(browser, page.render(run, tables.collect(run)))
            print(trials, json.dumps(found[str(trials)], indent=1))
        about = {
            "browser": f"Chromium {browser.version}, headless, no GPU",
            "processor": environment()["processor"],
            "cores": os.cpu_count(),
            "system": platform.system(),
            "repeats": REPEATS,
        }
        browser.close()
    write_file(RESULT, json.dumps({"about": about, "trials": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
