"""A page in a real browser, and everything about it that should not have happened."""

import time
from pathlib import Path

DESKTOP = {"width": 1280, "height": 900}


class Visit:
    """A page, and everything about it that should not have happened."""

    def __init__(self, browser, file: Path, hash_: str = "", **options):
        self.context = browser.new_context(**{"viewport": DESKTOP, **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(8_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.refused: dict[str, str] = {}
        self.page.on("requestfailed", lambda r: self.refused.update({r.url: r.failure or ""}))
        self.page.goto(file.as_uri() + hash_)

    def _dialog(self, dialog):
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def ready(self):
        self.page.wait_for_selector("#browser[data-ready]")
        return self.page


def until(condition, seconds: float = 8.0) -> None:
    """Wait here, not in the page: its policy lets nobody evaluate text as script."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
