"""The report's page in a real browser without network: it sorts, filters, searches, shows its pictures, and asks nobody for anything."""

import dataclasses
from collections.abc import Iterator

import pytest
from PIL import Image

from bench.cards import Edit
from bench.measures import Measure
from bench.records.store import Store
from bench.report.page.write import write
from bench.values import Record
from tests.browser import Page, browser, chromium
from tests.made_records import failed_record, made_record

pytestmark = pytest.mark.skipif(chromium() is None, reason="neither chromium nor google-chrome is on the path")

DDIM, DDPM = "eds.representation.ddim", "eds.state_space.ddpm"
EVIL = "<script>alert(1)</script>"
WORSE = "</script><img src=x onerror=alert(2)>"
NAMES = "[...document.querySelectorAll('#leaderboard section:not(.empty) tbody th small')].map(e => e.textContent)"
CLAIMS = "[...document.querySelectorAll('#claims section:not(.empty) tbody tr[id]')].map(e => e.id)"


def records() -> list[Record]:
    measured = [made_record(DDIM, steps=steps, quality=quality) for steps, quality in ((5, 3.5), (50, 1.0), (10, 2.0))]
    again = [
        made_record(name, steps=50, quality=quality, seed=seed) for name, quality, seed in ((DDIM, 1.1, 1), (DDPM, 2.5, 0), (DDPM, 2.5, 1))
    ]
    noisy = dataclasses.replace(measured[0], scores={**measured[0].scores, "fd_digits": Measure(value=3.5, low=3.25, high=3.75, n=500)})
    gpu = made_record(DDIM, steps=20, quality=0.5, device="GPU test")
    first = made_record("eps.noise.x", steps=30, quality=9.0)
    evil = dataclasses.replace(
        first, card=dataclasses.replace(first.card, title=WORSE, claims=()), cell=dataclasses.replace(first.cell, strategy=EVIL)
    )
    failed = dataclasses.replace(failed_record("eps.training.p2"), reason=f"{EVIL}: {WORSE}")
    workload = dataclasses.replace(measured[1].cell.workload, task=Edit())
    edit = dataclasses.replace(measured[1], cell=dataclasses.replace(measured[1].cell, workload=workload))
    return [noisy, *measured[1:], *again, gpu, evil, failed, edit]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    store = Store(folder / "digits" / "cpu")
    for k, record in enumerate(records()):
        cell = record.cell
        store.write(dataclasses.replace(record, samples_png=f"samples/{cell.id}.png"))
        store.sample_path(cell.id).parent.mkdir(exist_ok=True)
        Image.new("L", (89, 35), 20 * k).save(store.sample_path(cell.id))
    assert len(list(store.records())) == len(records())
    Image.new("L", (89, 35)).save(store.sample_path("real"))
    written = write("digits", [store], folder / "out")
    with browser(folder / "profile") as tab:
        tab.open(written.html)
        yield tab


@pytest.fixture(autouse=True)
def _fresh(page: Page) -> Iterator[None]:
    """Every test starts from what the reader first sees, and leaves a clean console."""
    page.run("document.querySelectorAll('form').forEach(f => f.reset())")
    page.until("document.querySelector('#leaderboard output').textContent === '8 of 8 shown'")
    yield
    assert page.complaints == []


def choose(page: Page, part: str, name: str, value: object) -> None:
    page.run(
        f"(() => {{ const c = document.querySelector('#{part} form').elements[{name!r}]; c.value = {value!r};"
        "c.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def column(page: Page, title: str) -> list[str]:
    """The first table's cells under this heading, top to bottom, as the reader sees them."""
    return list(
        page.run(
            "(() => { const t = document.querySelector('#leaderboard section:not(.empty) table');"
            f"const k = [...t.tHead.rows[0].cells].findIndex(c => c.textContent.trim() === {title!r});"
            "return [...t.tBodies[0].rows].map(r => r.cells[k].firstChild.textContent.trim()); })()"
        )
    )


def test_nothing_is_asked_for_and_nothing_runs(page: Page) -> None:
    asked = [url for url in page.requests if not url.startswith(("data:", "blob:"))]
    assert len(asked) == 1 and asked[0].startswith("file:///") and asked[0].endswith("/index.html")
    assert page.run("document.scripts.length") == 3 and page.run("document.querySelectorAll('[onerror]').length") == 0
    assert EVIL in page.run("document.querySelector('#leaderboard').textContent")
    assert f"timeout: {EVIL}: {WORSE}" in page.run("[...document.querySelectorAll('#notes li')].map(l => l.textContent)")


def test_policy_stops_foreign_scripts_and_requests(page: Page) -> None:
    page.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.foreign = 1'}))")
    assert page.run("window.foreign === undefined")
    assert page.run("fetch('data:,x').then(() => 'let out', () => 'stopped')") == "stopped"
    assert len(page.complaints) >= 2 and all("Content Security Policy" in text for text in page.complaints)
    page.complaints.clear()
    page.run("document.body.lastChild.remove()")


def test_sorts_by_number_with_empty_cells_last(page: Page) -> None:
    assert column(page, "FD digits")[:4] == ["1.05", "2", "2.5", "3.5"]  # as written: best first, of two seeds their mean
    _focus(page, "Steps")
    page.press("Enter", "\r")
    page.until("document.querySelector('#leaderboard th[aria-sort=ascending]') !== null")
    assert column(page, "Steps") == ["5", "10", "30", "50", "50", "timeout"]
    page.press("Enter", "\r")
    page.until("document.querySelector('#leaderboard th[aria-sort=descending]') !== null")
    assert column(page, "Steps") == ["50", "50", "30", "10", "5", "timeout"]
    page.press("Enter", "\r")
    page.until("document.querySelector('#leaderboard th[aria-sort=descending]') === null")


def _focus(page: Page, title: str) -> None:
    """Put the focus where a reader's Tab key would: on the heading's control."""
    found = page.run(
        "(() => { const head = [...document.querySelectorAll('#leaderboard thead th')].find(c => c.textContent.trim() === "
        f"{title!r}); const control = head.matches('[tabindex]') ? head : head.querySelector('[tabindex]'); control.focus();"
        "return document.activeElement === control && control.tabIndex === 0; })()"
    )
    assert found


def test_filters_by_each_choice(page: Page) -> None:
    every = page.run(NAMES)
    assert len(every) == 8
    for name, value, wanted in (
        ("half", "EPS", {f"{EVIL}[steps=30]", "eps.training.p2[steps=10]"}),
        ("heading", "eds.state_space", {f"{DDPM}[steps=50]"}),
        ("task", "edit", {f"{DDIM}[steps=50]"}),
        ("device", "GPU test", {f"{DDIM}[steps=20]"}),
        ("dataset", "digits", set(every)),
    ):
        choose(page, "leaderboard", name, value)
        assert set(page.run(NAMES)) == wanted, name
        choose(page, "leaderboard", name, "")
    assert page.run(NAMES) == every
    choose(page, "leaderboard", "task", "generate")
    choose(page, "leaderboard", "half", "EDS")
    choose(page, "leaderboard", "device", "CPU test")
    assert page.run(NAMES) == [f"{DDIM}[steps=50]", f"{DDIM}[steps=10]", f"{DDPM}[steps=50]", f"{DDIM}[steps=5]"]


def test_searches_and_says_how_many(page: Page) -> None:
    choose(page, "leaderboard", "search", "state_space")
    assert page.run(NAMES) == [f"{DDPM}[steps=50]"]
    assert page.run("document.querySelector('#leaderboard output').textContent") == "1 of 8 shown"
    choose(page, "leaderboard", "search", "no such thing")
    assert page.run(NAMES) == []


def test_all_columns_on_request(page: Page) -> None:
    assert not page.run("document.querySelector('#leaderboard thead').textContent.includes('GMAC')")
    page.run("document.querySelector('#leaderboard form').elements.all.click()")
    assert page.run("document.querySelector('#leaderboard thead').textContent.includes('GMAC')")
    assert set(column(page, "FID")) == {"weights not found", "timeout"}


def test_empty_cells_lead_to_their_reasons(page: Page) -> None:
    links = page.run("[...document.querySelectorAll('#leaderboard td.why a')].map(a => a.getAttribute('href'))")
    assert links and page.run(f"{links!r}.every(h => document.querySelector(h) !== null)")
    whole = page.run("document.querySelector('#leaderboard td.why:has(a)').title")
    assert whole in page.run("[...document.querySelectorAll('#notes li')].map(l => l.textContent)")
    page.run("document.getElementById('notes').open = false; document.querySelector('#leaderboard td.why a').click()")
    page.until("document.getElementById('notes').open && document.querySelector('#notes li:target').getBoundingClientRect().top < 900")
    assert page.run("document.querySelector('#leaderboard td small').textContent.trim()").startswith("[")


def test_claims_filter_by_verdict_and_have_anchors(page: Page) -> None:
    (claim,) = page.run(CLAIMS)
    assert claim == "claim-eds-representation-ddim-1"
    text = page.run(f"document.getElementById({claim!r}).textContent")
    assert "reproduced" in text and "2 of 2 pairs over 2 seeds" in text and "seed 1: 1.1 / 2.5" in text and "second-hand" in text
    for verdict, wanted in (("reproduced", [claim]), ("inconclusive", []), ("", [claim])):
        choose(page, "claims", "verdict", verdict)
        assert page.run(CLAIMS) == wanted
    assert page.run(f"document.querySelector('a[href=\"#{claim}\"]') !== null")


def test_survey_tables_are_searched_and_their_notes_are_there(page: Page) -> None:
    rows = "[...document.querySelectorAll('#survey section:not(.empty) tbody tr')].map(r => r.cells[0].textContent)"
    every = page.run(rows)
    assert {"I-01", "II-01", "III-01", "III-06"} <= set(every)
    choose(page, "survey", "search", "PGGAN")
    assert page.run(rows) == ["III-01"]
    links = page.run("[...document.querySelectorAll('#survey tbody a')].map(a => a.getAttribute('href'))")
    assert links and page.run(f"{links!r}.every(h => document.querySelector(h).matches('#survey li'))")


def test_every_picture_is_shown_and_described(page: Page) -> None:
    shown = page.run(
        "Promise.all([...document.images].map(async i => { i.loading = 'eager'; await i.decode(); return [i.naturalWidth, i.alt]; }))"
    )
    assert len(shown) >= 10 and all(width > 0 and alt.strip() for width, alt in shown)


def test_controls_have_names_and_a_visible_focus(page: Page) -> None:
    assert page.run("[...document.querySelectorAll('select, input')].every(c => c.labels.length === 1 && c.labels[0].textContent.trim())")
    assert page.run("[...document.querySelectorAll('button, [tabindex=\"0\"], a')].every(c => (c.ariaLabel || c.textContent).trim())")
    _focus(page, "Steps")
    page.press("Tab")
    assert page.run("document.activeElement !== document.body && getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_fits_a_phone(page: Page) -> None:
    page.resize(390, 844)
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert page.run("document.querySelector('#leaderboard tbody th').getBoundingClientRect().width") < 170
    page.resize(1280, 900)
