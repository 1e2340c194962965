"""Save a picture of a web page as headless Chromium shows it after its scripts have run.

python benchmarks/photograph.py URL PICTURE WIDTH HEIGHT [TEXT TO CLICK ...]
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SETTLE_MS = 6_000
"""Ray's dashboard asks its server for everything after it has been loaded."""
CLICK_MS = 20_000
"""How long something to click may take to appear."""


def photograph(url: str, picture: Path, size: tuple[int, int], clicks: list[str]) -> None:
    """Open a page, click on these texts one after another, and save a picture (PNG).

    Args:
        url: address of the page.
        picture: file to write.
        size: width and height in pixels.
        clicks: texts; the innermost element with each of them is clicked.
    """
    width, height = size
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(url)
        page.wait_for_timeout(SETTLE_MS)
        for text in clicks:
            page.get_by_text(text, exact=True).last.click(timeout=CLICK_MS)
            page.wait_for_timeout(SETTLE_MS)
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    photograph(sys.argv[1], Path(sys.argv[2]), (int(sys.argv[3]), int(sys.argv[4])), sys.argv[5:])
