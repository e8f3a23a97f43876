"""Chromium on the built book, from file://, with every other address out of reach."""

import json
import os
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tools import build_book

BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
REQUIRED = os.environ.get("ADVERSARIAL_LAB_REQUIRE_BROWSER") == "1"
OPTIONS = [
    "--headless=new",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--window-size=1280,900",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Under ADVERSARIAL_LAB_REQUIRE_BROWSER=1 no test here may be skipped."""
    report = yield
    if REQUIRED and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"ADVERSARIAL_LAB_REQUIRE_BROWSER=1, but skipped: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def chromium():
    """One browser for the whole run."""
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("no Chromium with chromedriver here: the built pages were not driven")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for option in OPTIONS:
        options.add_argument(option)
    session = webdriver.Chrome(options=options, service=Service(driver))
    session.set_script_timeout(300)
    yield session
    session.quit()


@pytest.fixture
def browser(chromium):
    """The browser, as a reader's first visit finds it."""
    assert build_book.is_current(), "the built book is older than its sources: run `make book`"
    drop_logs(chromium)
    yield chromium
    chromium.get("about:blank")  # the pictures of a page fill the memory of the next ones
    chromium.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def drop_logs(session):
    for kind in ("browser", "performance"):
        session.get_log(kind)


@pytest.fixture
def complaints(browser):
    """Call it at the end: what the console reported and which addresses were asked for."""

    def collect():
        errors = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
        messages = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        urls = [params["request"]["url"] for params in sent]
        return errors + [url for url in urls if not url.startswith(("file:", "data:", "blob:"))]

    return collect
