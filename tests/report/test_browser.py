"""The page in a real browser, without a network: it draws, sorts, filters, fits a phone, and texts stay texts."""

import asyncio
import json
import shutil
from contextlib import contextmanager

import pytest

from tests.report.made import change, hostile_run, result, run
from tests.rescoring.made import ROLLOUTS
from verl_spark.report.page import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

ACCURACIES = {0: {n: [float(n % 3 == 0)] for n in range(20)}, 2: {n: [float(n % 3 < 2)] for n in range(20)}}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two runs, one of them hostile, a study and its table."""
    folder = tmp_path_factory.mktemp("study")
    asyncio.run(run(folder / "prmcot", accuracies=ACCURACIES))
    asyncio.run(hostile_run(folder / "hostile", accuracies=ACCURACIES))
    # Hostile problems lead the list, so that the first page shows them.
    change(folder / "prmcot" / "rollouts" / "1.jsonl", lambda number, line: line.update(spark_problem="Which $x^2$?"))
    rows = [
        [name, {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 9}] for name, mean in (("a", 0.9), ("b", 0.1))
    ]
    table = {
        "id": "t",
        "title": "T",
        "columns": ["arm", "accuracy"],
        "rows": [*rows, ["c", None], ["d", {**rows[0][1], "mean": 0.5}]],
    }
    (folder / "study.json").write_text(json.dumps({"title": "In a browser", "tables": [table]}))
    write_report([folder], folder / "report.html")
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Eight arms with two seeds each: more than a page shows as cards and opens in detail."""
    folder = tmp_path_factory.mktemp("crowd")
    for arm in range(8):
        for seed in (0, 1):
            steps = [{"spark/reward/mean": 0.1 * arm + 0.01 * seed + 0.02 * step} for step in range(3)]
            ends = {step: {str(n): [float(n <= arm + step)] for n in range(12)} for step in (0, 3)}
            result(f"arm{arm}", seed, steps, ends).write(folder / f"{arm}-{seed}.json")
    write_report([folder], folder / "report.html")
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser(report, crowd):  # the reports first: with a browser open, no other event loop can be run
    with playwright.sync_playwright() as started:
        # Without its sandbox, which a root user, as in a container, cannot have.
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def opened(browser, report, **options):
    """A page, open; whatever the browser complains of fails the test."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900}, **options)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda failed: complaints.append(failed.url))
    page.on("dialog", lambda dialog: complaints.append(dialog.message) or dialog.dismiss())
    page.on("request", lambda sent: sent.url != report and complaints.append(sent.url))
    page.goto(report)
    yield page
    assert complaints == []
    context.close()


@pytest.fixture
def page(browser, report, request):
    with opened(browser, report, **getattr(request, "param", {})) as page:
        yield page


@pytest.fixture
def crowded(browser, crowd):
    with opened(browser, crowd) as page:
        yield page


def open_rollouts(page, **chosen):
    for name, value in chosen.items():
        page.select_option(f"select[name={name}]", value)
    while page.locator("#more").is_visible():
        page.click("#more")
    for summary in page.locator(".rollout > summary").all():
        summary.click()
    return page.locator(".rollout")


def test_every_chart_is_drawn(page):
    drawn = page.evaluate(
        """[...document.querySelectorAll("svg.chart")].map((svg) => {
            const box = svg.getBoundingClientRect();
            const paths = [...svg.querySelectorAll("g[id*=-series] path")];
            const lines = paths.map((path) => path.getBBox());
            return [box.width, box.height, Math.max(...lines.map((line) => line.width + line.height))];
        })"""
    )
    assert len(drawn) > 10
    assert all(width > 200 and height > 100 and longest > 20 for width, height, longest in drawn)
    colours = page.evaluate(
        "[...document.querySelectorAll('svg.chart g[id*=-series] path')].map((one) => getComputedStyle(one).stroke)"
    )
    assert "rgb(31, 95, 191)" in colours


def test_an_arm_can_be_taken_out_of_the_charts(page):
    lines = page.locator("#curves svg.chart [id$='-series1']")
    assert lines.count() > 4
    page.locator("#curves [data-series='1']").uncheck()
    assert not any(line.is_visible() for line in lines.all())
    assert page.locator("#curves svg.chart [id$='-series0']").first.is_visible()
    page.locator("#curves [data-series='1']").check()
    assert all(line.is_visible() for line in lines.all())


def test_a_click_and_the_keyboard_sort_a_table(page):
    table = page.locator("#study-t")

    def order():
        return [row.split()[0] for row in table.locator("tbody tr").all_inner_texts()]

    head = table.locator("thead th").nth(1)
    assert (order(), head.get_attribute("aria-sort")) == (["a", "b", "c", "d"], "none")
    head.locator("button").click()
    assert (order(), head.get_attribute("aria-sort")) == (["b", "d", "a", "c"], "ascending")
    page.keyboard.press("Enter")
    assert (order(), head.get_attribute("aria-sort")) == (["a", "d", "b", "c"], "descending")
    table.locator("thead th").nth(0).locator("button").click()
    assert (order(), head.get_attribute("aria-sort")) == (["a", "b", "c", "d"], "none")


def test_rollouts_are_filtered(page):
    every = page.locator("output").inner_text()
    assert every == f"{4 * len(ROLLOUTS)} of {4 * len(ROLLOUTS)}"
    page.select_option("select[name=run]", "prmcot")
    page.select_option("select[name=step]", "2")
    assert page.locator("output").inner_text().startswith(f"{len(ROLLOUTS)} of")
    page.select_option("select[name=state]", "missing")
    assert page.locator(".rollout .state").all_inner_texts() == ["? missing"]
    assert "cut" in page.locator(".rollout .tag").all_inner_texts()
    page.select_option("select[name=state]", "gated")
    assert page.locator(".rollout .state").all_inner_texts() == ["⊘ gated"]
    page.select_option("select[name=state]", "")
    page.select_option("select[name=flag]", "marks_mismatch")
    assert page.locator(".rollout").count() == 1


def test_steps_have_a_colour_and_a_sign_and_the_verification_beside_them(page):
    found = open_rollouts(page, run="prmcot", step="1", state="no")
    assert set(found.locator(".step .sign").all_inner_texts()) == {"✓", "✗"}
    right, wrong = (found.locator(f".step.{kind}").first for kind in ("right", "wrong"))
    back = "(one) => getComputedStyle(one).backgroundColor"
    assert right.evaluate(back) != wrong.evaluate(back)
    assert wrong.locator(".sign").get_attribute("aria-label") == "marked incorrect"
    assert "<step>" in wrong.inner_text()
    assert "$x^2$" in found.first.locator(".problem").inner_text()
    boxes = [found.first.locator(f".pair > {part}").bounding_box() for part in ("div:nth-child(2)", ".verification")]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    assert "No" in found.first.locator(".verification .words").inner_text()


def test_hostile_texts_are_texts(page):
    found = open_rollouts(page, run="hostile")
    shown = "\n".join(found.locator(".problem .words").all_inner_texts())
    assert "<script>window.fired = 1</script>" in shown
    assert "</script><img src=x onerror='window.fired = 1'>" in shown
    assert "turned U+202EroundU+202C, zeroU+200Bwidth, nulU+0000, U+2028 line" in shown
    assert "half \\ud800 of a pair" in shown
    assert "$\\frac{1}{2}$ & \\boxed{3} {{ 7 * 7 }} <!--" in shown
    assert "x" * 100_000 in shown
    assert page.locator("#browser img, #browser script").count() == 0
    assert page.evaluate("window.fired") is None


@pytest.mark.parametrize("page", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True)
def test_nothing_is_wider_than_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    found = open_rollouts(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    parts = [found.first.locator(f".pair > {part}").bounding_box() for part in ("div:nth-child(2)", ".verification")]
    assert parts[0]["y"] + parts[0]["height"] <= parts[1]["y"]
    text, back = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        ".map((colour) => colour.match(/\\d+/g).slice(0, 3).map(Number).reduce((a, b) => a + b))"
    )
    assert abs(text - back) > 450


def test_paper_has_no_controls_and_all_charts(page):
    page.emulate_media(media="print")
    assert not page.locator("#browser").is_visible()
    assert not page.locator("nav").is_visible()
    assert page.locator("svg.chart").first.is_visible()
    mark = "(button) => getComputedStyle(button, '::after').content"
    assert page.locator("thead button").first.evaluate(mark) == "none"
    page.evaluate("document.querySelectorAll('details.arm').forEach((one) => { one.open = false; })")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert all(chart.is_visible() for chart in page.locator("svg.chart").all())


def test_many_arms_begin_folded_and_open_at_a_click(crowded):
    table, folded = crowded.locator("#runs table"), crowded.locator("#runs details.arm")
    assert table.locator("tbody tr").count() == 8
    assert table.is_visible()
    assert crowded.locator(".card").count() == 8
    assert not crowded.locator(".card").first.is_visible()
    folded.locator("summary").click()
    assert all(card.is_visible() for card in crowded.locator(".card").all())
    arms = crowded.locator("#detail details.arm")
    assert arms.count() == 8
    assert not any(chart.is_visible() for chart in arms.locator("svg.chart").all())
    arms.nth(7).locator("summary").click()
    assert arms.nth(7).locator("svg.chart").first.is_visible()
    assert not arms.nth(6).locator("svg.chart").first.is_visible()


def test_each_of_many_arms_has_a_look_of_its_own_that_the_legend_shows(crowded):
    lines = "[...document.querySelectorAll('#curves svg.chart')[0].querySelectorAll('[id*=\"-series\"] path')]"
    looks = crowded.evaluate(lines + ".map((one) => getComputedStyle(one).stroke)")
    assert len(set(looks)) == 8
    keys = crowded.locator("#curves .legend svg.key line")
    assert set(keys.evaluate_all("(all) => all.map((one) => getComputedStyle(one).stroke)")) == set(looks)
    assert crowded.locator("#curves [data-series]").count() == 8


def test_many_arms_fit_a_phone_and_paper(crowded):
    crowded.set_viewport_size({"width": 390, "height": 844})
    crowded.locator("#runs details.arm summary").click()
    assert crowded.evaluate("document.documentElement.scrollWidth") <= 390
    crowded.emulate_media(media="print")
    crowded.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert all(one.is_visible() for one in crowded.locator("svg.chart, .card").all())
