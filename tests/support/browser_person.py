"""Somebody before a browser: signs in where LS AAI's login form stands, clicks, looks at pages."""

from __future__ import annotations

import json

from tests.support.axe import serious
from tests.support.browser import Browser
from tests.support.ui_world import PICTURES


class BrowserPerson:
    """`name` and `password` are LS AAI's; `pictures`: what the pictures' names begin with. With axe's script each look
    is at two widths, light and dark; without, it is a picture of the page as it stands.
    """

    def __init__(self, page: Browser, name: str, password: str, pictures: str = "", axe: str = "") -> None:
        self.page, self.name, self.pictures, self.axe, self.seen = page, name, pictures, axe, 0
        self._password = password

    def click(self, selector: str) -> None:
        self.page.wait(f"document.querySelector({selector!r})", selector)
        self.page.evaluate(f"document.querySelector({selector!r}).click()")

    def sign_in(self) -> None:
        self.page.wait("document.querySelector('input[name=password]')", "the login form of LS AAI")
        for field, value in (("username", self.name), ("password", self._password)):
            self.page.evaluate(f"document.querySelector('input[name={field}]').value = {json.dumps(value)}")
        self.click("form button")

    def look(self, name: str, *texts: str, timeout: float = 60) -> None:
        """The texts are there; with axe nothing is wider than the window, and it is content; a picture is kept."""
        for text in texts:
            self.page.sees(text, timeout=timeout)
        self.seen += 1
        file = f"{self.pictures}-{self.seen:02}-{name}"
        if not self.axe:
            self.page.picture(PICTURES / f"{file}.png", height=1300)
            return
        for width, dark in ((1366, False), (420, False), (1366, True)):
            self.page.resize(width)
            self.page.dark(dark)
            wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name}: {wide} pixels wider than {width}"
            found = serious(self.page, self.axe) if width == 1366 else []
            assert found == [], (name, "dark" if dark else "light", found)
            way = "dark" if dark else str(width)
            self.page.picture(PICTURES / f"{file}-{way}.png", height=1100 if width == 1366 else 1500)
        self.page.resize(1366)
        self.page.dark(False)
