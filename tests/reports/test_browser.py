"""The page in a real browser, where one is installed: Chromium, headless, from file://.

A probe acts on a copy of the page as a reader would and writes what it saw into the document, which
Chromium then prints. The copy admits the probe by its hash; the policy is otherwise the page's own.
"""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from reports import compare, page, tables
from reports.load import load

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--enable-logging=stderr",
]

#: What probes have: a pause, pointer events at a point of a chart, and the middle of an element.
HELPERS = """
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const chart = (id) => document.querySelector(`#${id} .plot`);
const act = (id, type, x, y, more) => chart(id).dispatchEvent(new PointerEvent(type,
  { clientX: x, clientY: y, bubbles: true, pointerType: "touch", pointerId: 1, ...more }));
const middle = (element) => { const box = element.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2]; };
const members = () => [...document.querySelectorAll("#chart-accuracy .plot .tone-family circle")];
const key = (id, name) => [...document.querySelectorAll(`#${id} .key`)]
  .find((button) => button.textContent === name);
const button = (id, label) => document.querySelector(`#${id} .tool[aria-label="${label}"]`);
const ticks = (id) => [...chart(id).querySelectorAll("text")].map((text) => text.textContent);
"""


class Browser:
    """Opens pages with a profile of its own."""

    def __init__(self, folder):
        self.folder = folder

    def probe(self, html, script, *flags, width=1440, height=900):
        """What the function body `script` returns in the page, and what the console said."""
        code = (
            f"(async () => {{{HELPERS}\nconst seen = await (async () => {{{script}}})();"
            "document.documentElement.dataset.seen = JSON.stringify(seen ?? null);})()"
            ".catch((error) => { document.documentElement.dataset.seen ="
            " JSON.stringify({ error: String(error) }); });"
        )
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        admitted = re.sub("script-src ", f"script-src 'sha256-{digest}' ", html, count=1)
        path = self.folder / "page.html"
        path.write_text(admitted.replace("</body>", f"<script>{code}</script></body>"), "utf-8")
        out = subprocess.run(
            [
                CHROMIUM,
                *FLAGS,
                *flags,
                f"--user-data-dir={self.folder / 'profile'}",
                f"--window-size={width},{height}",
                "--virtual-time-budget=20000",
                "--dump-dom",
                path.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        seen = re.search(r'<html[^>]* data-seen="([^"]*)"', out.stdout)
        assert seen, f"the probe did not end: {out.stderr[-2000:]}"
        console = [line for line in out.stderr.splitlines() if "CONSOLE" in line]
        return json.loads(unescape(seen[1])), console


@pytest.fixture
def browser(tmp_path):
    return Browser(tmp_path)


@pytest.fixture(scope="module")
def html(finished_run):
    run = load(finished_run)
    return page.render(run, tables.collect(run))


def test_the_page_loads_without_a_word_on_the_console(browser, html):
    seen, console = browser.probe(
        html,
        "return [...document.querySelectorAll('.chart')].map((figure) => "
        "[figure.id, figure.querySelectorAll('.plot path').length]);",
    )
    assert console == []
    assert len(seen) == 7
    assert all(paths > 0 for _, paths in seen)


def test_an_injected_script_is_not_run(browser, html):
    attacked = html.replace("</main>", "<script>window.owned = true</script></main>")
    seen, console = browser.probe(attacked, "return window.owned ?? null;")
    assert seen is None
    assert any("Content Security Policy" in line for line in console)


def test_hovering_names_a_point_and_leaving_hides_it(browser, html, finished_run):
    seen, _ = browser.probe(
        html,
        """
        const [x, y] = middle(members()[1]);
        act("chart-accuracy", "pointermove", x + 3, y + 2);
        const tip = document.querySelector("#chart-accuracy .tip");
        const shown = [tip.hidden, tip.textContent];
        act("chart-accuracy", "pointerleave", 0, 0);
        return [...shown, tip.hidden];
        """,
    )
    member = load(finished_run).family["members"][1]
    assert seen[0] is False
    assert seen[1].startswith(f"B1{100 * member['accuracy']:.1f} % ±")
    assert seen[2] is True


def test_a_click_pins_a_network_and_its_stages_add_up(browser, html):
    seen, _ = browser.probe(
        html,
        """
        const panel = document.getElementById("pinned");
        const before = panel.hidden;
        act("chart-accuracy", "pointerup", ...middle(members()[2]));
        const rows = [...panel.querySelectorAll("tbody tr")];
        const shares = rows.map((row) => row.children[10].textContent);
        const shown = [panel.hidden, panel.querySelector("h3").textContent, shares];
        panel.querySelector("button").click();
        return [before, ...shown, panel.hidden];
        """,
    )
    before, hidden, title, shares, after = seen
    assert (before, hidden, after) == (True, False, True)
    assert title == "B2"
    assert sum(float(share.removesuffix(" %")) for share in shares) == pytest.approx(100, abs=0.5)


def test_the_keyboard_reaches_points_and_pins_them(browser, html):
    seen, _ = browser.probe(
        html,
        """
        const press = (key) => chart("chart-accuracy").dispatchEvent(
          new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
        const tip = document.querySelector("#chart-accuracy .tip");
        press("ArrowLeft");
        const last = tip.querySelector("b").textContent;
        press("Enter");
        const pinned = document.getElementById("pinned").querySelector("h3").textContent;
        press("Escape");
        return [last, pinned, document.getElementById("pinned").hidden];
        """,
    )
    assert seen == ["B3", "B3", True]


def test_a_layer_can_be_hidden_and_shown(browser, html):
    seen, _ = browser.probe(
        html,
        """
        const layer = "#chart-accuracy .plot .tone-complete path";
        const dots = () => document.querySelectorAll(layer).length;
        const states = [dots()];
        for (let i = 0; i < 2; i++) {
          key("chart-accuracy", "trials").click();
          states.push(dots(), key("chart-accuracy", "trials").getAttribute("aria-pressed"));
        }
        return states;
        """,
    )
    assert seen == [1, 0, "false", 1, "true"]


def test_zoom_by_button_and_by_dragging_and_back(browser, html):
    seen, _ = browser.probe(
        html,
        """
        const states = [ticks("chart-accuracy")];
        button("chart-accuracy", "Zoom in").click();
        states.push(ticks("chart-accuracy"));
        button("chart-accuracy", "Show everything").click();
        states.push(ticks("chart-accuracy"));
        const [x, y] = middle(members()[1]);
        chart("chart-accuracy").setPointerCapture = () => {};
        const mouse = { pointerType: "mouse", button: 0 };
        act("chart-accuracy", "pointerdown", x - 40, y - 20, mouse);
        act("chart-accuracy", "pointermove", x + 60, y + 60, mouse);
        act("chart-accuracy", "pointerup", x + 60, y + 60, mouse);
        states.push(ticks("chart-accuracy"));
        chart("chart-accuracy").dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
        states.push(ticks("chart-accuracy"));
        return states;
        """,
    )
    whole, nearer, again, dragged, last = seen
    assert whole == again == last
    assert nearer not in (whole, dragged)
    assert dragged != whole


@pytest.mark.parametrize("preferred", ["light", "dark"])
def test_light_and_dark_follow_the_reader_and_the_switch(browser, html, preferred):
    flags = ["--blink-settings=preferredColorScheme=0"] if preferred == "dark" else []
    seen, _ = browser.probe(
        html,
        """
        const paper = () => getComputedStyle(document.body).backgroundColor;
        const first = paper();
        document.querySelector(".theme").click();
        const second = paper();
        document.querySelector(".theme").click();
        return [first, second, paper()];
        """,
        *flags,
    )
    light = [sum(map(int, re.findall(r"\d+", colour)[:3])) > 384 for colour in seen]
    assert light == ([True, False, True] if preferred == "light" else [False, True, False])


#: What sticks out of the window (tables scroll in their own frames), and text out of its chart.
CLIPPED = """
const wide = document.documentElement.scrollWidth > innerWidth;
const out = [...document.querySelectorAll("main *")].filter((element) => {
  if (element.closest(".scroll, .tip, pre, [hidden]") || !element.checkVisibility()) return false;
  const box = element.getBoundingClientRect();
  return box.width > 0 && (box.left < -0.5 || box.right > innerWidth + 0.5);
});
const cut = [...document.querySelectorAll(".plot text")].filter((text) => {
  const [own, frame] = [text.getBoundingClientRect(), text.closest("svg").getBoundingClientRect()];
  return own.left < frame.left - 1 || own.right > frame.right + 1 || own.top < frame.top - 1
    || own.bottom > frame.bottom + 1;
});
const words = (found) => found.map((element) => element.outerHTML.slice(0, 90));
return [wide, words(out), words(cut)];
"""


@pytest.mark.parametrize("width", [360, 1440])
def test_nothing_is_clipped(browser, html, width):
    assert browser.probe(html, CLIPPED, width=width)[0] == [False, [], []]


@pytest.mark.parametrize("width", [360, 1440])
def test_nothing_of_a_comparison_is_clipped(browser, finished_run, width):
    run = load(finished_run)
    runs = {"one": run, "a run with quite a long name that goes on": run}
    html = compare.render(runs, compare.compare(runs), ["runs.csv"])
    seen, console = browser.probe(html, CLIPPED, width=width)
    assert seen == [False, [], []]
    assert console == []


def test_five_thousand_trials_are_few_elements(browser, five_thousand_trials):
    # What keeps them smooth: one path for all dots of a layer, drawn anew in some milliseconds.
    html = page.render(five_thousand_trials, tables.collect(five_thousand_trials))
    seen, console = browser.probe(
        html,
        """
        const dots = document.querySelector("#chart-accuracy .plot .tone-complete path");
        act("chart-accuracy", "pointermove", ...middle(dots));
        return [
          dots.getAttribute("d").split("M").length - 1,
          document.querySelectorAll("#chart-accuracy .plot *").length,
          document.querySelector("#chart-accuracy .tip").hidden,
        ];
        """,
    )
    complete = [t for t in five_thousand_trials.study("search") if t.state == "complete"]
    assert console == []
    assert seen[0] == sum(trial.answered_from is None for trial in complete) > 3500
    assert seen[1] < 150
    assert seen[2] is False
