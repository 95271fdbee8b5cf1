"""The report opened and clicked in headless Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import run_program

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium; without one these tests are skipped, unless DGSS_BENCH_REQUIRE_BROWSER=1."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not path:
        missing = "no chromium on PATH (Debian: apt-get install chromium)"
        if os.environ.get("DGSS_BENCH_REQUIRE_BROWSER") == "1":
            pytest.fail(f"DGSS_BENCH_REQUIRE_BROWSER=1, but {missing}")
        pytest.skip(missing)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(report_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("page") / "page.html"
    written = run_program("report", "--scale", "test", "--results", report_results, "--out", page)
    assert written.exit_code == 0, written
    return page


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The open page; afterwards it must neither have complained nor have asked for anything but itself."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("dialog", lambda dialog: complaints.append(dialog.message))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(report.as_uri())
    yield opened
    opened.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [report.as_uri()]


def test_a_click_sorts_a_table_and_another_turns_it(page: Page) -> None:
    table = page.locator("#protocol details table").last
    page.locator("#protocol summary").last.click()
    heading = table.locator("thead th", has_text="Target")

    def column() -> list[float]:
        place = heading.evaluate("th => th.cellIndex")
        cells = table.locator(f"tbody tr > :nth-child({place + 1})").all_text_contents()
        return [-1.0 if cell == "–" else float(cell) for cell in cells]

    assert heading.get_attribute("aria-sort") is None
    before = column()
    numbers = sorted(cell for cell in before if cell >= 0)
    assert len(numbers) == len(before) - 1  # one trial failed; without a score it stays last, whichever way
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert column() == [*reversed(numbers), -1.0]
    heading.get_by_role("button").focus()
    page.keyboard.press("Enter")  # the keyboard does as well
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column() == [*numbers, -1.0]
    method = table.locator("thead th", has_text="Method")
    method.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") is None
    names = table.locator("tbody tr > :nth-child(4)").all_text_contents()
    assert names[0].startswith("<script>")
    assert names.index("Frozen") < names.index("LoRA") < names.index("SpectralMoE")


def test_numbers_with_units_sort_by_size(page: Page) -> None:
    table = page.locator("#tables table").first
    table.locator("thead th", has_text="Params").get_by_role("button").click()
    shown = table.locator("tbody td:nth-child(2)").all_text_contents()
    assert [cell.split()[0] for cell in shown] == sorted((c.split()[0] for c in shown), key=float, reverse=True)
    assert shown[-1] == "0"


def test_another_task_and_another_tile_are_shown(page: Page) -> None:
    section = page.locator("#panels")
    pictures = section.locator("img:visible")
    first = pictures.evaluate_all("all => all.map(one => one.alt)")
    task, tile = section.locator("select:visible").all()
    titles = tile.locator("option").all_text_contents()
    assert len(titles) == 6
    tile.select_option(label=titles[3])
    second = pictures.evaluate_all("all => all.map(one => one.alt)")
    assert len(second) == len(first)
    assert titles[3].split(" · ")[1] in second[0]
    assert second[0] != first[0]
    task.select_option(label="loveda_r2u · DINOv3 · steps=2, evaluations=1")
    third = pictures.evaluate_all("all => all.map(one => one.alt)")
    assert "Errors of Frozen" in third[-1]
    assert len(third) == 4
    assert pictures.evaluate_all("all => all.every(one => one.complete && one.naturalWidth > 0)")


def test_a_figure_can_be_saved(page: Page, tmp_path: Path) -> None:
    with page.expect_download() as waiting:
        page.locator("#cost button.save:visible").first.click()
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    assert path.name == "cost-c0.svg"
    drawn = path.read_text()
    assert drawn.startswith("<svg")
    assert 'xmlns="http://www.w3.org/2000/svg"' in drawn
    assert "target mIoU (%)" in drawn


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_it_looks_like_something_on_every_screen(page: Page, tmp_path: Path, scheme: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    path = tmp_path / "page.png"
    page.screenshot(path=path, full_page=True)
    seen = np.asarray(Image.open(path).convert("L"))
    assert seen.shape[1] == width
    assert (np.median(seen) > 200) == (scheme == "light")
    assert len(np.unique(seen)) > 50
    for drawing in page.locator("svg:visible").all():
        box = drawing.bounding_box()
        assert box
        assert box["width"] > 200
        assert box["height"] > 50


def test_print_shows_every_view_in_the_open(page: Page) -> None:
    hidden = page.locator("#tables table").last
    assert not hidden.is_visible()
    page.emulate_media(media="print")
    assert hidden.is_visible()
    assert not page.locator(".picker").first.is_visible()
