"""The page of results as its reader has it: in a real browser, with mouse and keyboard."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pytest

import pages

Visit = Callable[..., Any]
LONG = "#critical_weights"


def column(page: Any, section: str, place: int) -> list[str]:
    """Texts of the cells in a column, from 1, as they stand below each other."""
    return page.locator(f"{section} tbody tr > :nth-child({place})").all_inner_texts()


def head(page: Any, section: str, name: str) -> Any:
    return page.locator(f"{section} thead th").filter(has_text=name)


def settled(page: Any, section: str) -> Any:
    """The interactive figure of a section, drawn."""
    page.locator(section).locator(".plot").scroll_into_view_if_needed()
    page.wait_for_selector(f"{section} .plot .hoverlayer", state="attached")
    return page.locator(f"{section} .plot")


def hover_text(page: Any, section: str) -> str:
    found = page.locator(f"{section} .hoverlayer .hovertext").first
    found.wait_for(state="attached")
    return found.text_content()


def point(page: Any, section: str, x: float, y: float) -> tuple[float, float]:
    """Where a cartesian figure draws a point: pixels of the window."""
    script = """([selector, x, y]) => {
        const plot = document.querySelector(selector), {xaxis, yaxis} = plot._fullLayout;
        const box = plot.getBoundingClientRect();
        return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
    }"""
    left, top = page.evaluate(script, [f"{section} .plot", x, y])
    return left, top


def ranges(page: Any, section: str) -> list[list[float]]:
    script = "s => ['xaxis', 'yaxis'].map(a => [...document.querySelector(s)._fullLayout[a].range])"
    return page.evaluate(script, f"{section} .plot")


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (400, "dark"), (1600, "light"), (1600, "dark")])
def test_nothing_is_wider_than_the_window(visit: Visit, screenshot: Callable[..., None], width: int, scheme: str):
    page = visit(width, scheme).page
    for section in ("#exp12", "#exp7", "#regimes"):
        settled(page, section)
    screenshot(page, f"page-{width}-{scheme}", whole=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for each in page.locator(".experiment details").all():  # what is folded away must fit as well
        each.evaluate("details => { details.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_column_sorts_by_value_with_nan_below(visit: Visit):
    page = visit().page
    page.locator(f"{LONG} .under button").click()  # all rows
    score = head(page, LONG, "score")
    score.get_by_role("button").click()
    assert score.get_attribute("aria-sort") == "ascending"
    rising = column(page, LONG, 3)
    assert rising[:4] == ["-inf", "-0.25", "1.5e-07", "0.3333"]
    assert rising[4] == "0.99996"  # four digits would say 1
    assert rising[-3:] == ["1.235e+04", "inf", "nan"]
    score.get_by_role("button").click()
    assert score.get_attribute("aria-sort") == "descending"
    falling = column(page, LONG, 3)
    assert (falling[0], falling[-1]) == ("inf", "nan")
    score.get_by_role("button").click()
    assert score.get_attribute("aria-sort") is None
    assert column(page, LONG, 2) == [f"block.{row}.up" for row in range(pages.ROWS)]


def test_integers_beyond_2_to_the_53_sort_exactly_and_names_by_their_numbers(visit: Visit):
    page = visit().page
    head(page, LONG, "index").get_by_role("button").click()
    assert column(page, LONG, 4)[:3] == [str(2**62 + row) for row in range(3)]
    head(page, LONG, "tensor").get_by_role("button").click()
    assert column(page, LONG, 2)[8:11] == ["block.8.up", "block.9.up", "block.10.up"]
    head(page, LONG, "rank").get_by_role("button").click()
    page.locator(f"{LONG} .under button").click()
    assert column(page, LONG, 5)[-1] == "–"


def test_a_cell_has_all_digits_in_its_title_and_shows_them_on_request(visit: Visit):
    page = visit().page
    cell = page.locator(f"{LONG} tbody tr:nth-child(2) td:nth-child(3)")
    assert (cell.inner_text(), cell.get_attribute("title")) == ("0.3333", repr(1 / 3))
    page.get_by_role("button", name="All digits").click()
    assert cell.inner_text() == repr(1 / 3)
    assert page.get_by_role("button", name="All digits").get_attribute("aria-pressed") == "true"


def test_the_keyboard_reaches_and_sorts_a_column(visit: Visit):
    page = visit().page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "results"
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('th') !== null"):
            break
    script = "() => { const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]; }"
    assert page.evaluate(script) == ["solid", "2px"]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.closest('th').getAttribute('aria-sort')") == "descending"


def test_the_pointer_shows_the_value_of_a_cell_of_the_map(visit: Visit):
    page = visit().page
    settled(page, "#exp7")
    data = pages.planes()
    for i, j in ((2, 5), (7, 1)):
        page.mouse.move(5, 5)
        page.mouse.move(*point(page, "#exp7", data["e1"][0, 0, i], data["e2"][0, 0, j]))
        page.wait_for_function(
            "text => document.querySelector('#exp7 .hoverlayer').textContent.includes(text)",
            arg=f"L₁ − L₂ = {js(data['gap'][0, 0, i, j])}",
        )
        assert pages.EVIL in hover_text(page, "#exp7") or " b ahead" in hover_text(page, "#exp7")


def js(value: float) -> str:
    """Shortest digits of a float64 as a browser writes them."""
    return np.format_float_positional(value, trim="-") if abs(value) >= 1e-6 else short_exponent(repr(value))


def short_exponent(text: str) -> str:
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent)}"


def test_the_map_zooms_and_pans_by_button_key_and_mouse(visit: Visit):
    page = visit().page
    plot = settled(page, "#exp7")
    whole = ranges(page, "#exp7")
    page.locator("#exp7 .bar").get_by_role("button", name="Zoom in").click()
    near = ranges(page, "#exp7")
    # The axes keep one scale, so the free one may show more than half: the width that was asked for is exact for one.
    assert min((b[1] - b[0]) / (a[1] - a[0]) for a, b in zip(whole, near, strict=True)) == pytest.approx(0.5, rel=1e-6)
    plot.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("l => document.querySelector('#exp7 .plot')._fullLayout.xaxis.range[0] > l", arg=near[0][0])
    page.keyboard.press("0")
    page.wait_for_function("l => document.querySelector('#exp7 .plot')._fullLayout.xaxis.range[0] <= l", arg=near[0][0])
    data = pages.planes()
    page.mouse.move(*point(page, "#exp7", data["e1"][0, 0, 2], data["e2"][0, 0, 2]))
    page.mouse.down()
    page.mouse.move(*point(page, "#exp7", data["e1"][0, 0, 5], data["e2"][0, 0, 5]), steps=4)
    page.mouse.up()
    page.wait_for_function("l => document.querySelector('#exp7 .plot')._fullLayout.xaxis.range[0] > l", arg=whole[0][0])


def test_the_boundary_shows_its_rays_and_zooms(visit: Visit):
    page = visit().page
    page.locator("#model").select_option("beta")
    settled(page, "#exp12")
    script = (
        "() => { const t = document.querySelector('#exp12 .plot').data[0]; return [t.r.length, t.r[3], t.text[3]]; }"
    )
    count, radius, text = page.evaluate(script)
    largest = pages.rays(pages.MODELS.index("beta"))["max_s"][3]
    assert (count, radius) == (pages.RAYS + 1, float(largest))
    assert f"max_s = {short_exponent(str(largest))}" in text
    names = page.evaluate("document.querySelector('#exp12 .plot').data.map(t => t.name)")
    assert names == [
        "max_s", "first breakpoint: the input moves", "censored: no change up to s_max (1)", "not certified (1)",
    ]  # fmt: skip
    before = page.evaluate("document.querySelector('#exp12 .plot')._fullLayout.polar.radialaxis.range")
    page.locator("#exp12 .bar").get_by_role("button", name="Zoom in").click()
    after = page.evaluate("document.querySelector('#exp12 .plot')._fullLayout.polar.radialaxis.range")
    assert after[1] - after[0] == pytest.approx((before[1] - before[0]) / 2)


def test_the_regimes_have_a_curve_and_a_map(visit: Visit):
    page = visit().page
    settled(page, "#regimes")
    counted = page.evaluate("document.querySelector('#regimes .plot').data.map(t => [t.name, t.x.length])")
    assert ["float32", 8] in counted
    assert "2 steps moved the input" in page.locator("#regimes .interactive .note").inner_text()
    page.locator("#regimes .bar select").last.select_option("2")
    page.wait_for_function("document.querySelector('#regimes .plot').data[0].type === 'heatmap'")
    shown = page.evaluate("[...document.querySelector('#regimes .plot').data[0].z[1]]")
    assert shown == list(10.0 ** np.arange(-8.0, 0.0))


def test_model_prompt_and_platform_choose_rows_figures_and_experiments(visit: Visit):
    page = visit().page
    everything = page.locator("#count").inner_text()
    page.locator("#model").select_option("beta")
    assert set(column(page, LONG, 1)) == {"beta"}
    assert column(page, "#exp12", 1) == ["beta"]
    assert page.locator("#exp12 img").get_attribute("alt") == "Figure polar of exp12: beta · capital · float64"
    assert not page.locator("#exp4").is_visible()  # it has nothing of this model
    assert not page.locator("nav a[href='#exp4']").is_visible()
    assert page.locator("#count").inner_text().startswith("3 of 5 experiments")
    page.locator("#model").select_option("alpha")
    page.locator("#prompt").select_option("border")
    assert column(page, "#exp12", 2) == ["border"]
    assert len(column(page, LONG, 1)) == 12  # this table has no prompts, so no prompt excludes its rows
    page.locator("#filter").get_by_role("button", name="Reset").click()
    page.locator("#platform").select_option("avx2")
    assert column(page, "#exp4", 2) == ["isa"]
    page.locator("#filter").get_by_role("button", name="Reset").click()
    assert page.locator("#count").inner_text() == everything


def test_the_search_finds_experiments_columns_and_rows(visit: Visit):
    page = visit().page
    page.locator("#search").fill("block.17.")
    assert column(page, LONG, 2) == ["block.17.up"]
    assert page.locator(".experiment:visible").count() == 1
    page.locator("#search").fill("max_s_mean beta")
    assert column(page, "#exp12", 1) == ["beta"]
    page.locator("#search").fill("no such thing")
    assert page.locator("#nothing").is_visible()


def test_dark_is_the_system_s_choice_until_the_button_is_pressed(visit: Visit):
    ground = "getComputedStyle(document.body).backgroundColor"
    assert visit(scheme="dark").page.evaluate(ground) == "rgb(20, 24, 27)"
    page = visit(scheme="light").page
    before = page.evaluate(ground)
    button = page.get_by_role("button", name="Dark")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert page.evaluate(ground) == "rgb(20, 24, 27)" != before
    assert button.get_attribute("aria-pressed") == "true"
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.evaluate(ground) == "rgb(20, 24, 27)"  # remembered


def test_names_and_texts_never_become_programs_or_elements(visit: Visit):
    page = visit().page
    for section in ("#exp12", "#exp7"):
        settled(page, section)
    page.locator("#model").select_option(pages.EVIL)
    page.wait_for_timeout(100)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src='x']").count() == 0
    assert page.locator("#exp7 tbody b").count() == 0
    assert column(page, "#exp7", 3) == [pages.EVIL_TEXT]
    assert pages.EVIL_TEXT in page.locator(".run").inner_text()
    page.locator("#exp7 .bar select").last.select_option("1")  # names of tokens beside the colours
    page.wait_for_function("document.querySelector('#exp7 .key').textContent.includes('onerror')")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src='x']").count() == 0


def test_every_link_leads_to_a_file(visit: Visit):
    page = visit().page
    found = page.evaluate("[...document.querySelectorAll('main a')].map(a => a.href)")
    paths = {Path(unquote(urlparse(url).path)) for url in found if not urlparse(url).fragment}
    assert len(paths) > 10
    missing = [path for path in paths if not path.is_file() and "docs" not in path.parts]
    assert not missing
