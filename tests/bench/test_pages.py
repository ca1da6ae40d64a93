"""What people look at, in a browser: a suite's report, and MLflow's pages on its runs.

Driven by Chromium; skipped, saying so, where it or its driver is not installed.
"""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from conftest import chromium, environment, write

SUITE = """
name = "seen"
about = "To be looked at."
datasets = ["breast-cancer", "sim-ehr[codes=8,rows=120]"]
generators = ["copycat", "marginal", "gaussian", "smote"]
metrics = ["c2st_auroc_gap", "cmd_distance", "tstr_auroc", "mia_distance_auroc_gap"]
"""
PATIENCE = 40.0  # seconds that a page may take to show something, on a machine that tests keep busy
pytestmark = pytest.mark.xdist_group("pages")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a suite has been run and reported on."""
    folder = tmp_path_factory.mktemp("seen")
    write(folder / "seen.toml", SUITE)
    for args in (("run", "--suite", "seen.toml"), ("report", "seen.toml")):
        done = subprocess.run([sys.executable, "-m", "bench", *args], cwd=folder, env=environment(),
                              capture_output=True, text=True, check=False, timeout=200)  # fmt: skip
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def server(seen: Path) -> Iterator[tuple[str, str]]:
    """MLflow's address, and what `bench ui` says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (seen / "ui.log").open("w") as log:
        running = subprocess.Popen([sys.executable, "-m", "bench", "ui", "--port", str(port)], cwd=seen,
                                   env=environment(), stdout=log, stderr=subprocess.STDOUT)  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(address), 60)
        yield address, (seen / "ui.log").read_text()
    finally:
        running.terminate()
        running.wait(timeout=30)


def _answers(address: str) -> bool:
    try:
        return b"MLflow" in urllib.request.urlopen(address, timeout=5).read()
    except OSError:
        return False


@pytest.fixture(scope="module")
def browser():
    """A browser without a window, whose console is kept."""
    driver = chromium()
    yield driver
    driver.quit()


def until(true: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait for something to be so."""
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.2)


def texts(browser, css: str) -> list[str]:
    return browser.execute_script("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", css)


def says(browser, *words: str) -> None:
    """Wait until the page shows these."""
    body = "return document.body.innerText"
    until(lambda: all(word in browser.execute_script(body) for word in words))


# --- the report ---


@pytest.fixture
def page(seen: Path, browser):
    browser.get_log("browser")
    browser.get((seen / "bench-store/boards/seen/report.html").as_uri())
    yield browser
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def test_the_report_draws_all_it_has(page) -> None:
    assert texts(page, "h2")[:4] == ["Findings", "Board", "Trade-offs", "How sure is this order"]
    plots = page.execute_script("return document.querySelectorAll('.plot').length")
    assert plots > 8
    assert page.execute_script("return document.querySelectorAll('.plot[data-drawn]').length") < plots  # those in sight
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    drawn = "return [...document.querySelectorAll('.plot')].filter(p => p.querySelector('svg.main-svg')).length"
    until(lambda: page.execute_script(drawn) == plots)
    assert not texts(page, ".plot .error")
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.execute_script(wide) <= 0  # nothing is cut off at the side
    broken = "return [...document.images].filter(i => !i.naturalWidth).length"
    assert page.execute_script(broken) == 0


def test_the_board_is_sorted_and_filtered(page) -> None:
    def names() -> list[str]:
        return texts(page, "#ranking tbody tr:not([hidden]) td:nth-child(1)")

    assert sorted(names()) == ["copycat", "gaussian", "marginal", "smote"]
    button = page.find_elements("css selector", "#ranking th button")[1]
    assert button.text.startswith("fidelity")
    page.execute_script("arguments[0].click()", button)
    values = "return [...document.querySelectorAll('#ranking tbody td:nth-child(2)')].map(c => c.dataset.value)"
    rising = [float(v) for v in page.execute_script(values)]
    assert rising == sorted(rising)
    page.execute_script("arguments[0].click()", button)
    falling = [float(v) for v in page.execute_script(values)]
    assert falling == sorted(rising, reverse=True)
    head = page.find_elements("css selector", "#ranking th")[1]
    assert head.get_attribute("aria-sort") == "descending"
    field = page.find_element("css selector", "#filter input[type=search]")
    field.send_keys("gauss")
    assert names() == ["gaussian"]
    assert texts(page, "#filter .count") == ["1 of 4 rows"]
    field.clear()
    page.execute_script("document.querySelector('#filter [name=reference]').click()")
    assert sorted(names()) == ["gaussian", "smote"]


def test_figures_follow_the_generator_that_is_picked(page) -> None:
    from selenium.webdriver.support.ui import Select

    section = page.find_element("css selector", "section#breast-cancer")
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    shown = """return [...arguments[0].querySelector('[id$="marginals"] .plot').data]
        .filter(t => t.visible === true).map(t => t.meta)"""
    select = Select(section.find_element("css selector", "select"))
    for pick, metas in (("smote", {"", "smote"}), ("*", {"", "marginal", "gaussian", "smote"})):
        select.select_by_value(pick)
        until(lambda metas=metas: set(page.execute_script(shown, section)) == metas)
        assert select.first_selected_option.get_attribute("value") == pick
    drawn = "return arguments[0].querySelectorAll('.plot[data-drawn] svg.main-svg').length"
    assert page.execute_script(drawn, section) > 0


def test_without_scripts_the_report_is_tables(seen: Path, browser) -> None:
    text = (seen / "bench-store/boards/seen/report.html").read_text(encoding="utf-8")
    bare = seen / "bare.html"
    bare.write_text(re.sub(r"<script>.*?</script>", "", text, flags=re.S), encoding="utf-8")
    browser.get(bare.as_uri())
    hidden = "return [...document.querySelectorAll('.plot, form, select')].every(e => e.offsetParent === null)"
    assert browser.execute_script(hidden)
    assert len(texts(browser, "#ranking tbody tr")) == 4
    assert len(texts(browser, "details > summary")) == len(texts(browser, ".plot"))
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert all(
        browser.execute_script("return [...document.querySelectorAll('details table')].map(t => t.offsetHeight)")
    )


# --- MLflow ---


def test_the_ui_says_where_to_compare(server: tuple[str, str]) -> None:
    address, said = server
    link = re.search(r"suite seen: (\S+)", said)
    assert link
    assert link[1].startswith(f"{address}/#/experiments/")
    assert "tags.kind = 'mean over replicates'" in unquote(link[1])
    body = json.dumps({"max_results": 10}).encode()
    request = urllib.request.Request(f"{address}/api/2.0/mlflow/experiments/search", body,
                                     {"Content-Type": "application/json"})  # fmt: skip
    found = json.loads(urllib.request.urlopen(request, timeout=20).read())["experiments"]
    assert "seen" in {e["name"] for e in found}


def test_the_table_answers_which_generator_on_this_dataset(server: tuple[str, str], browser) -> None:
    link = re.search(r"suite seen: (\S+)", server[1])
    assert link
    browser.get(link[1].replace("replicates%27", "replicates%27%20and%20tags.dataset%20%3D%20%27breast-cancer%27"))
    says(browser, "breast-cancer · gaussian", "breast-cancer · smote", "4 matching runs")
    rows = browser.execute_script("return document.body.innerText")
    assert "sim-ehr" not in rows
    assert rows.index("breast-cancer · copycat") < rows.index("breast-cancer · marginal")  # by fidelity


def test_runs_are_compared_and_the_board_is_a_table_and_a_report(server: tuple[str, str], seen: Path, browser) -> None:
    import sqlite3

    address = server[0]
    database = sqlite3.connect(f"file:{seen}/bench-store/mlflow.db?mode=ro", uri=True)
    ids = dict(database.execute("select name, run_uuid from runs where lifecycle_stage = 'active'"))
    experiment = database.execute("select experiment_id from experiments where name = 'seen'").fetchone()[0]
    database.close()
    picked = json.dumps([ids[f"breast-cancer · {g}"] for g in ("gaussian", "smote")])
    browser.get(f"{address}/#/compare-runs?runs={quote(picked)}&experiments={quote(json.dumps([str(experiment)]))}")
    says(browser, "Comparing 2 Runs", "breast-cancer · gaussian", "tstr_auroc", "fidelity")
    run = f"{address}/#/experiments/{experiment}/runs/{ids['board · seen']}/artifacts"
    browser.get(f"{run}/ranking.json")
    says(browser, "fidelity mean", "gaussian", "copycat")
    browser.get("about:blank")  # else the page stays as it is
    browser.get(f"{run}/report.html")
    until(lambda: browser.find_elements("css selector", "iframe"))
    browser.switch_to.frame(browser.find_element("css selector", "iframe"))
    says(browser, "Report: seen", "Findings")
    assert len(texts(browser, "#ranking tbody tr")) == 4
    browser.execute_script("document.querySelector('.plot').scrollIntoView()")
    until(lambda: browser.execute_script("return document.querySelectorAll('.plot[data-drawn] svg').length") > 0)
    browser.switch_to.default_content()
