"""The site of the documentation, built as it would be published and looked at in a real Chromium."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="no mkdocs: the extra `dev` brings it")
in_a_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER and importlib.util.find_spec("selenium")),
    reason="no Chromium: apt-get install chromium chromium-driver",
)
# Without these Chromium looks for Google's hosts at every start; a sandbox is not to be had as root.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)
DESKTOP, PHONE = (1440, 900), (390, 844)
CONTRAST = Path(__file__).with_name("contrast.js").read_text("utf-8")
PAGES = [
    "",
    "rag/",
    "migrating/",
    "errors/",
    "fallback/",
    "models/",
    "cli/",
    "benchmarks/",
    "reference/langchain_chutes/",
    "reference/chutes_core/",
    "examples/langchain_rag/",
    "notebooks/rag_with_sources/",
]
REFERENCE = {
    "langchain_chutes": "langchain_chutes",
    "llama_index_chutes": "llama_index_chutes",
    "chutes_core": "chutes_core",
    "chutes_core.fallback": "fallback",
    "chutes_core.testing": "testing",
    "chutes_local": "chutes_local",
}
# Loads of another host, as opposed to links that a reader may follow.
FOREIGN = re.compile(
    r"<(?:script|img|iframe|source)[^>]+src=[\"'](?:https?:)?//[^\"']+"
    r"|<link(?![^>]+rel=[\"']?canonical)[^>]+href=[\"'](?:https?:)?//[^\"']+"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; any warning of mkdocs, such as a dead link, is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return folder


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    """No font, script, style or picture comes from elsewhere; links may lead there."""
    found = {str(page.relative_to(site)): FOREIGN.findall(page.read_text("utf-8")) for page in site.rglob("*.html")}
    assert found
    assert not {page: loads for page, loads in found.items() if loads}
    styles = [path for path in site.rglob("*.css") if re.search(r"url\([\"']?(?:https?:)?//", path.read_text("utf-8"))]
    assert styles == []


@pytest.mark.parametrize("package", REFERENCE)
def test_every_public_name_has_its_place_in_the_reference(site: Path, package: str) -> None:
    """Each name of `__all__` is on its page with its docstring, or said there to be another page's."""
    page = (site / "reference" / REFERENCE[package] / "index.html").read_text("utf-8")
    for name in set(importlib.import_module(package).__all__) - {"__version__"}:
        heading = f'id="{package}.{name}"' in page
        elsewhere = f"<code>{name}</code>" in page and package in ("langchain_chutes", "llama_index_chutes")
        assert heading or elsewhere, name
        if heading:
            body = page.partition(f'id="{package}.{name}"')[2].partition("doc doc-contents")[2]
            assert re.match(r"[^>]*>\s*(?:<[^>]+>\s*)*[^<\s]", body), f"{name} has no docstring"


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a word, and lets go of connections that a browser opens to have them ready."""

    timeout = 1

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@dataclass
class Reader:
    """A browser before the served site."""

    driver: Any
    address: str

    def fit(self, size: tuple[int, int]) -> None:
        """Give the window a size, with touch where it is that of a phone."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def look(self, size: tuple[int, int], page: str = "") -> None:
        """Open a page in a window of a size."""
        self.fit(size)
        self.driver.get(self.address + page)

    def find(self, selector: str) -> Any:
        """Return the first element of a selector once it can be seen."""
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.expected_conditions import visibility_of_element_located
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.driver, 20).until(visibility_of_element_located((By.CSS_SELECTOR, selector)))

    def complaints(self) -> list[str]:
        """What the console said since it was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked_elsewhere(self) -> set[str]:
        """Addresses on other hosts that anything on the pages asked for since this was last asked."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = {event["params"].get("request", {}).get("url", "") for event in events}
        return {url for url in urls if url.startswith("http") and not url.startswith(self.address)}


@pytest.fixture(scope="module")
def reader(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """One Chromium for all tests here, and the site on this machine."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
        driver.set_page_load_timeout(120)
        try:
            yield Reader(driver, f"http://127.0.0.1:{server.server_port}/")
        finally:
            driver.quit()
            server.shutdown()


@pytest.fixture(scope="module", params=PAGES)
def opened(reader: Reader, request: pytest.FixtureRequest) -> Reader:
    """The browser with one of the pages open, for all that is looked at there: the longest take seconds to load."""
    reader.look(DESKTOP, request.param)
    return reader


@in_a_browser
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_page_fits_and_stays_at_home(opened: Reader, size: tuple[int, int]) -> None:
    """A page is no wider than the window, loads its pictures, asks no other host and leaves the console silent."""
    opened.fit(size)
    width, window, whole = opened.driver.execute_script(
        "const page = document.documentElement; return [page.scrollWidth, page.clientWidth, innerWidth]"
    )
    assert width <= window <= whole == size[0]
    broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    assert opened.driver.execute_script(broken) == []
    assert opened.find("article h1").text
    assert opened.complaints() == []
    assert opened.asked_elsewhere() == set()


@in_a_browser
def test_code_fits(opened: Reader) -> None:
    """On a desktop no code has to be moved sideways to be read."""
    opened.fit(DESKTOP)
    wide = "return [...document.querySelectorAll('pre, pre code')].filter(c => c.scrollWidth > c.clientWidth + 1)"
    assert opened.driver.execute_script(f"{wide}.map(c => c.innerText)") == []


@in_a_browser
@pytest.mark.parametrize("scheme", ["default", "slate"])
def test_every_text_stands_out(opened: Reader, scheme: str) -> None:
    """In light and in dark each text has the contrast that WCAG AA asks for, computed from what is shown."""
    opened.fit(DESKTOP)
    opened.driver.execute_script(
        "const still = document.createElement('style');"
        "still.textContent = '* { transition: none !important; animation: none !important }';"
        "document.head.append(still);"
        "document.body.setAttribute('data-md-color-scheme', arguments[0]);",
        scheme,
    )
    assert opened.driver.execute_script(CONTRAST) == []


@in_a_browser
def test_commands_are_copied_without_their_prompt(reader: Reader) -> None:
    """What the copy button takes of a command is what is typed: no prompt, and nothing that the command says."""
    reader.look(DESKTOP, "login/")
    taken = reader.driver.execute_script(
        "const code = document.querySelector('.language-console pre code'); code.setAttribute('data-md-copying', '');"
        "const text = code.innerText; code.removeAttribute('data-md-copying'); return text"
    )
    assert "chutes-connect login --api-key" in taken.splitlines()
    assert "$" not in taken


@in_a_browser
def test_search_finds_a_model_by_a_part_of_its_name(reader: Reader) -> None:
    """The name of a model is searched for as people remember it."""
    reader.look(DESKTOP, "?q=kimi")
    assert "Kimi" in reader.find(".md-search-result__item").text


def test_the_pages_for_language_models(site: Path) -> None:
    """One file lists the pages, the other has them whole."""
    brief, whole = (site / "llms.txt").read_text("utf-8"), (site / "llms-full.txt").read_text("utf-8")
    assert "](https://chutes-connect.github.io/chutes-connect/fallback/): " in brief
    assert "zai-org/GLM-5.2-TEE" in whole
    assert whole.count("\n# ") > 25


@in_a_browser
def test_wide_tables_scroll_in_their_frame(reader: Reader) -> None:
    """On a phone the table of failures is wider than the screen, and can be moved inside its frame."""
    reader.look(PHONE, "errors/")
    frames = "return [...document.querySelectorAll('.md-typeset__scrollwrap')]"
    inner, outer = reader.driver.execute_script(f"{frames}.map(f => [f.scrollWidth, f.clientWidth]).at(-1)")
    assert inner > outer


@in_a_browser
def test_navigation_leads_on_at_either_width(reader: Reader) -> None:
    """The menu is beside the text, or behind a button on a phone, and its links work."""
    reader.look(DESKTOP)
    reader.find(".md-nav--primary a[href='rag/']").click()
    assert "Retrieval-augmented generation" in reader.find("article h1").text
    reader.look(PHONE)
    assert not reader.driver.execute_script(
        "const r = document.querySelector('.md-sidebar--primary').getBoundingClientRect(); return r.right > 0"
    )
    reader.find("label.md-header__button[for='__drawer']").click()
    reader.find(".md-nav--primary label[for='__nav_3']").click()
    reader.find(".md-nav--primary a[href='rag/']")
    assert reader.complaints() == []


@in_a_browser
def test_search_finds_guides_and_names(reader: Reader) -> None:
    """A word of a guide and the name of a class are found, without asking anybody."""
    for words, page in (("reset marker", "/fallback/"), ("TimeLimits", "/reference/chutes_core/")):
        reader.look(DESKTOP)
        reader.find("input.md-search__input").send_keys(words)
        reader.find(f".md-search-result__link[href*='{page}']")
    assert reader.complaints() == []
    assert reader.asked_elsewhere() == set()
