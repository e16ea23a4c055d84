"""A real Chromium, Debian's, without a window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox",
    "--enable-unsafe-swiftshader",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """The browser; tests are skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine; make test-browser installs it on Debian")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: object) -> Iterator[object]:
    """A page of 640 x 400; its errors are in ``page.complaints``, requests to other machines in ``page.strangers``."""
    page = chromium.new_page(viewport={"width": 640, "height": 400})  # type: ignore[attr-defined]
    page.set_default_timeout(60_000)
    page.complaints, page.strangers = [], []
    page.on("console", lambda said: page.complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda asked: None if _is_local(asked.url) else page.strangers.append(asked.url))
    yield page
    page.close()


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))
