"""A picture of a web page as headless Chromium shows it, after its script has run and been clicked.

python benchmarks/photograph.py URL PICTURE WIDTH HEIGHT [TEXT TO CLICK ...]
"""

from __future__ import annotations

import asyncio
import base64
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp

SETTLE_S = 6.0
"""The dashboard asks its server for everything after it has been loaded."""
TRIES = 20
"""Seconds that something to click may take to appear."""
CLICK = """
[...document.querySelectorAll('*')].filter(e => e.textContent.trim() == %r)
  .slice(-1).map(e => e.click()).length
"""
"""Clicks the innermost element with that text; gives 1, or 0 without one."""


async def photograph(url: str, picture: Path, size: tuple[int, int], clicks: list[str]) -> None:
    """Open the page, click on these texts one after another, and write the picture (PNG)."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        browser = await asyncio.create_subprocess_exec(
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--remote-debugging-port=0", f"--user-data-dir={home}", "about:blank",
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            port = await asyncio.wait_for(_port(browser), 60)
            async with aiohttp.ClientSession() as http:
                async with http.get(f"http://127.0.0.1:{port}/json") as reply:
                    pages = await reply.json(content_type=None)
                address = next(p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page")
                async with http.ws_connect(address, max_msg_size=0) as page:
                    await _take(page, url, picture, size, clicks)
        finally:
            browser.kill()
            await browser.wait()


async def _port(browser: asyncio.subprocess.Process) -> int:
    assert browser.stderr is not None
    async for line in browser.stderr:
        if b"DevTools listening on" in line:
            return int(line.split(b":")[-1].split(b"/")[0])
    raise RuntimeError("Chromium ended without a word on its debugging port.")


async def _take(
    page: Any, url: str, picture: Path, size: tuple[int, int], clicks: list[str]
) -> None:
    numbers = iter(range(1, 1000))

    async def ask(method: str, **parameters: Any) -> dict[str, Any]:
        number = next(numbers)
        await page.send_json({"id": number, "method": method, "params": parameters})
        while (reply := await page.receive_json(timeout=60)).get("id") != number:
            pass
        return dict(reply.get("result", {}))

    await ask("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1],
              deviceScaleFactor=1, mobile=False)  # fmt: skip
    await ask("Page.navigate", url=url)
    await asyncio.sleep(SETTLE_S)
    for text in clicks:
        for _ in range(TRIES):
            found = await ask("Runtime.evaluate", expression=CLICK % text, returnByValue=True)
            if found.get("result", {}).get("value"):
                break
            await asyncio.sleep(1)
        else:
            raise RuntimeError(f"{url} has nothing to click that says {text!r}.")
        await asyncio.sleep(SETTLE_S)
    shot = await ask("Page.captureScreenshot", format="png")
    picture.write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    asyncio.run(
        photograph(
            sys.argv[1], Path(sys.argv[2]), (int(sys.argv[3]), int(sys.argv[4])), sys.argv[5:]
        )
    )
