"""Takes docs/images/demo.png: the demo's page in a real Chromium, while its pictures appear.

Run it from the checkout after a change of the page: .venv/bin/python scripts/screenshot-demo.py
"""

import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "demo.png"
LARGEST = 400_000
PICTURES = 6
SETTLED = """Promise.all(document.getAnimations()
    .filter((one) => one.effect.getTiming().iterations !== Infinity).map((one) => one.finished)).then(() => true)"""


def take(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for_selector("#connection[data-state=live]")
    page.click("#run")
    page.mouse.move(640, 880)
    # Polled from here: the page's content security policy forbids what wait_for_function does.
    while page.evaluate("window.stagecastDemo.state.stages.image_generation.items.size") < PICTURES:
        page.wait_for_timeout(20)
    page.evaluate(SETTLED)
    page.screenshot(path=PICTURE)


def main() -> None:
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "stagecast.entrypoints.cli", "demo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as demo:
        try:
            assert demo.stdout is not None
            said = next(found for line in demo.stdout if (found := re.search(r"The demo is on (\S+)", line)))
            with sync_playwright() as playwright:
                arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
                browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
                take(browser.new_page(viewport={"width": 1280, "height": 868}), said.group(1))
                browser.close()
        finally:
            demo.terminate()
    size = PICTURE.stat().st_size
    if size > LARGEST:
        sys.exit(f"{PICTURE} has {size} bytes; the README's pictures have at most {LARGEST}")
    print(f"{PICTURE.relative_to(ROOT)}: {size} bytes")


if __name__ == "__main__":
    main()
