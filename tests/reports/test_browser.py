"""The page in a real browser, where one is installed: Chromium, headless, by Playwright, file://."""

import shutil
from dataclasses import replace

import pytest

from reports import page, run_comparison, tables
from reports.load import load

playwright = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed: pip install playwright"
)

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

MEMBERS = "#chart-accuracy .plot .tone-family .mark"


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, tmp_path):
    """Opens a page as a reader would; what its console says and what it fetches is in `.said`."""
    contexts = []

    def open_page(html, *, width=1440, height=900, **preferences):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", **preferences
        )
        contexts.append(context)
        tab = context.new_page()
        tab.said = []
        tab.on("console", lambda message: tab.said.append(message.text))
        tab.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.on("request", lambda request: tab.said.append(request.url))
        path = tmp_path / "index.html"
        path.write_text(html, "utf-8")
        tab.goto(path.as_uri())
        own = ("data:image/jpeg;", path.as_uri())
        tab.said[:] = [line for line in tab.said if not line.startswith(own)]
        return tab

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def html(finished_run):
    run = load(finished_run)
    return page.render(run, tables.collect(run))


def ticks(tab, chart="chart-accuracy"):
    return tab.locator(f"#{chart} .plot text").all_text_contents()


def test_the_page_loads_without_a_word_on_the_console(visit, html):
    tab = visit(html)
    charts = tab.locator(".chart").evaluate_all(
        "all => all.map(each => [each.id, each.querySelectorAll('.plot path').length])"
    )
    assert len(charts) == 7
    assert all(paths > 0 for _, paths in charts)
    broken = tab.locator("img").evaluate_all("all => all.filter(each => !each.naturalWidth).length")
    assert broken == 0
    assert tab.said == []


def test_an_injected_script_is_not_run(visit, html):
    tab = visit(html.replace("</main>", "<script>window.owned = true</script></main>"))
    assert tab.evaluate("window.owned ?? null") is None
    assert any("Content Security Policy" in line for line in tab.said)


def test_hovering_names_a_point_and_leaving_hides_it(visit, html, finished_run):
    tab = visit(html)
    tab.locator(MEMBERS).nth(1).hover(force=True)
    tip = tab.locator("#chart-accuracy .tip")
    member = load(finished_run).family["members"][1]
    assert tip.is_visible()
    assert tip.text_content().startswith(f"B1{100 * member['accuracy']:.1f} % ±")
    tab.mouse.move(5, 5)
    assert tip.is_hidden()


def test_a_click_pins_a_network_and_its_stages_add_up(visit, html):
    tab = visit(html)
    panel = tab.locator("#pinned")
    assert panel.is_hidden()
    tab.locator(MEMBERS).nth(2).click(force=True)
    assert panel.locator("h3").text_content() == "B2"
    rows = panel.locator("tbody tr")
    shares = [rows.nth(i).locator("td").nth(9).text_content() for i in range(rows.count())]
    assert sum(float(share.removesuffix(" %")) for share in shares) == pytest.approx(100, abs=0.5)
    assert panel.locator("svg.network rect").count() > 5
    panel.get_by_role("button", name="Close").click()
    assert panel.is_hidden()


def test_the_keyboard_reaches_points_and_pins_them(visit, html):
    tab = visit(html)
    tab.locator("#chart-accuracy .plot").focus()
    tab.keyboard.press("ArrowLeft")
    assert tab.locator("#chart-accuracy .tip b").text_content() == "B3"
    tab.keyboard.press("Enter")
    assert tab.locator("#pinned h3").text_content() == "B3"
    tab.keyboard.press("Escape")
    assert tab.locator("#pinned").is_hidden()


def test_a_layer_can_be_hidden_and_shown(visit, html):
    tab = visit(html)
    dots = tab.locator("#chart-accuracy .plot .tone-complete path")
    key = tab.locator("#chart-accuracy").get_by_role("button", name="trials", exact=True)
    assert dots.count() == 1
    key.click()
    assert (dots.count(), key.get_attribute("aria-pressed")) == (0, "false")
    key.click()
    assert (dots.count(), key.get_attribute("aria-pressed")) == (1, "true")


def test_rivals_are_layers_to_switch_on(visit, html):
    tab = visit(html)
    for rule, marks in (("width", 3), ("depth", 2), ("mobilenet_v2", 1)):
        key = tab.locator("#chart-accuracy").get_by_role("button", name=rule, exact=True)
        before = tab.locator("#chart-accuracy .plot .marks .mark").count()
        assert key.get_attribute("aria-pressed") == "false"
        key.click()
        assert tab.locator("#chart-accuracy .plot .marks .mark").count() == before + marks


def test_zoom_by_button_and_by_dragging_and_back(visit, html):
    tab = visit(html)
    chart = tab.locator("#chart-accuracy")
    whole = ticks(tab)
    chart.get_by_role("button", name="Zoom in").click()
    nearer = ticks(tab)
    chart.get_by_role("button", name="Show everything").click()
    assert ticks(tab) == whole != nearer
    box = tab.locator(MEMBERS).nth(1).bounding_box()
    tab.mouse.move(box["x"] - 40, box["y"] - 20)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 60, box["y"] + 60, steps=4)
    assert tab.locator("#chart-accuracy .plot .zoom").count() == 1
    tab.mouse.up()
    assert ticks(tab) not in (whole, nearer)
    tab.mouse.dblclick(box["x"], box["y"])
    assert ticks(tab) == whole


def test_one_members_mistakes_are_shown_at_a_time(visit, html):
    tab = visit(html)
    shown = tab.locator(".panel:visible .lead")
    assert shown.count() == 1
    assert shown.text_content().startswith("B3 gets")
    tab.get_by_role("button", name="B1", exact=True).click()
    assert shown.count() == 1
    assert shown.text_content().startswith("B1 gets")
    assert tab.locator(".panel:visible .matrix rect").count() > 10
    assert tab.locator(".panel:visible .pictures img").count() == 12


@pytest.mark.parametrize("preferred", ["light", "dark"])
def test_light_and_dark_follow_the_reader_and_the_switch(visit, html, preferred):
    tab = visit(html, color_scheme=preferred)

    def light():
        colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.strip("rgb()").split(",")[:3]) > 384

    assert light() == (preferred == "light")
    switch = tab.locator(".theme")
    switch.click()
    assert light() == (preferred == "dark")
    switch.click()
    assert light() == (preferred == "light")


#: What sticks out of the window (tables scroll in their own frames), and text out of its chart.
CLIPPED = """() => {
const wide = document.documentElement.scrollWidth > innerWidth;
const out = [...document.querySelectorAll("main *")].filter((element) => {
  if (element.closest(".scroll, .tip, pre, [hidden]") || !element.checkVisibility()) return false;
  const box = element.getBoundingClientRect();
  return box.width > 0 && (box.left < -0.5 || box.right > innerWidth + 0.5);
});
const cut = [...document.querySelectorAll(".plot text, .matrix text")].filter((text) => {
  if (!text.checkVisibility()) return false;
  const [own, frame] = [text.getBoundingClientRect(), text.closest("svg").getBoundingClientRect()];
  return own.left < frame.left - 1 || own.right > frame.right + 1 || own.top < frame.top - 1
    || own.bottom > frame.bottom + 1;
});
const words = (found) => found.map((element) => element.outerHTML.slice(0, 90));
return [wide, words(out), words(cut)];
}"""


@pytest.mark.parametrize("width", [360, 1440])
def test_nothing_is_clipped(visit, html, width):
    assert visit(html, width=width).evaluate(CLIPPED) == [False, [], []]


def test_a_phone_reads_it_without_zooming(visit, html):
    tab = visit(html, width=360, height=740, has_touch=True, is_mobile=True)
    small = tab.evaluate(
        "() => [...document.querySelectorAll('main p, main td, main th, figcaption')]"
        ".filter(e => e.checkVisibility() && parseFloat(getComputedStyle(e).fontSize) < 12)"
        ".map(e => e.outerHTML.slice(0, 80))"
    )
    assert small == []
    tab.locator(MEMBERS).nth(1).tap(force=True)
    assert tab.locator("#pinned h3").text_content() == "B1"


#: Tables that are wider than the frame they scroll in.
WIDE_TABLES = """() => [...document.querySelectorAll(".scroll")]
.filter((frame) => frame.checkVisibility() && frame.scrollWidth > frame.clientWidth + 1)
.map((frame) => [frame.scrollWidth, frame.clientWidth, frame.textContent.trim().slice(0, 60)])"""


def test_no_table_runs_off_a_phone(visit, html, finished_run):
    tab = visit(html, width=390, height=844)
    tab.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert tab.evaluate(WIDE_TABLES) == []
    cells = tab.locator("#family .stack").first.locator("tbody tr").first.locator("td")
    assert cells.nth(4).get_attribute("data-label") == "MACs"
    run = load(finished_run)
    runs = {"one": run, "other": run}
    compared = run_comparison.render(runs, run_comparison.compare(runs), ["runs.csv"])
    assert visit(compared, width=390).evaluate(WIDE_TABLES) == []


def test_pruned_trials_do_not_squash_the_others(visit, run):
    trials = [
        replace(trial, measurement={**trial.measurement, "accuracy": 0.01})
        if trial.state == "pruned"
        else trial
        for trial in run.study("search")
    ]
    low = replace(run, trials={**run.trials, "search": tuple(trials)})
    lowest = [
        min(float(tick.removesuffix(" %")) for tick in ticks(visit(each)) if tick.endswith(" %"))
        for each in (page.render(run, tables.collect(run)), page.render(low, tables.collect(low)))
    ]
    assert lowest[0] == lowest[1] > 1


def test_no_two_series_share_a_mark_and_every_study_of_the_storage_is_one(visit, run):
    more = {"growth": "coefficients", "coefficients to compare": "coefficients"}
    studies = {
        name: tuple(replace(trial, study=name) for trial in run.study(like))
        for name, like in more.items()
    }
    grown = replace(run, trials={**run.trials, **studies})
    tab = visit(page.render(grown, tables.collect(grown)))
    for name in more:
        tab.locator("#chart-accuracy").get_by_role("button", name=name, exact=True).click()
        assert tab.locator("#provenance tbody th").get_by_text(name, exact=True).count() >= 1
    chart = tab.locator("#chart-accuracy")
    marks = chart.locator(".chart-head .key svg").evaluate_all(
        'all => all.map(each => each.innerHTML.replace(/ xmlns="[^"]*"/g, \'\'))'
    )
    assert len(marks) == len(set(marks)) >= 11


@pytest.mark.parametrize("width", [360, 1440])
def test_nothing_of_a_comparison_is_clipped(visit, finished_run, width):
    run = load(finished_run)
    runs = {"one": run, "a run with quite a long name that goes on": run}
    tab = visit(
        run_comparison.render(runs, run_comparison.compare(runs), ["runs.csv"]), width=width
    )
    assert tab.evaluate(CLIPPED) == [False, [], []]
    assert tab.said == []


def test_on_paper_charts_are_as_wide_as_the_sheet_and_everything_is_open(visit, html):
    tab = visit(html)
    tab.evaluate(
        "addEventListener('beforeprint', () => { window.printed = ["
        "...document.querySelectorAll('.plot')].map(each => each.viewBox.baseVal.width); })"
    )
    pdf = tab.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    widths = tab.evaluate("window.printed")
    assert len(widths) == 7
    assert all(180 < width <= 688 for width in widths)
    assert widths[0] == 688
    assert tab.locator("#chart-accuracy .plot").evaluate("e => e.viewBox.baseVal.width") > 700


def test_five_thousand_trials_are_few_elements(visit, five_thousand_trials):
    # What keeps them smooth: one path for all dots of a layer, drawn anew in some milliseconds.
    # How smooth: experiments/benchmarks/page.py.
    tab = visit(page.render(five_thousand_trials, tables.collect(five_thousand_trials)))
    dots = tab.locator("#chart-accuracy .plot .tone-complete path")
    complete = [t for t in five_thousand_trials.study("search") if t.state == "complete"]
    drawn = dots.get_attribute("d").count("M")
    assert drawn == sum(trial.answered_from is None for trial in complete) > 3500
    assert tab.locator("#chart-accuracy .plot *").count() < 150
    dots.scroll_into_view_if_needed()
    box = dots.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert tab.locator("#chart-accuracy .tip").is_visible()
    assert tab.said == []
