"""Chromium without a window, driven by its DevTools protocol over a pipe: no port that others could reach, no driver
package.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)
# The browser wants its pipe as descriptors 3 and 4, which in this process are something else.
FOLLOWS = (
    "import fcntl,os,sys; a,b=(fcntl.fcntl(int(n),fcntl.F_DUPFD,10) for n in sys.argv[1:3]); os.dup2(a,3);"
    " os.dup2(b,4); os.execv(sys.argv[3],sys.argv[3:])"
)
START = 90  # seconds: a cold start on two busy cores


class BrowserError(AssertionError):
    """The browser ended, did not answer in time, or a script in the page failed."""


class Browser:
    """One browser with one page. Use as a context manager. `problems`: what the page's scripts threw, and what its
    content policy stopped.
    """

    def __init__(
        self, program: Path, folder: Path, *, width: int = 1400, height: int = 900, dark: bool = False
    ) -> None:
        """`folder` becomes the profile and the log; it must not be another browser's."""
        folder.mkdir(parents=True)
        self._width, self._height = width, height
        self.problems: list[str] = []
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._number = 0
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's own sandbox refuses to serve root
        command = [
            str(program),
            *FLAGS,
            *root,
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},{height}",
            "about:blank",
        ]
        with (folder / "browser.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", FOLLOWS, str(to_browser), str(from_browser), *command],
                pass_fds=(to_browser, from_browser),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"},
            )
        os.close(to_browser)
        os.close(from_browser)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            target = self._call("Target.createTarget", {"url": "about:blank"}, timeout=START)["targetId"]
            self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.send(f"{domain}.enable")
            self._lay_out(height)
            self.dark(dark)
        except BaseException:
            self.close()
            raise

    # --- what a test does ------------------------------------------------------------------------

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'", f"{url} to load")

    def evaluate(self, script: str) -> Any:
        """The script's value (of a promise: what it comes to), as JSON can carry it."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(f"{script[:100]}: {details.get('exception', {}).get('description') or details['text']}")
        return answer["result"].get("value")

    def wait(self, condition: str, what: str = "", *, timeout: float = 45) -> Any:
        """Until the script's value is truthy; that value, or True for an element, which JSON cannot carry."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                value = self.evaluate(f"Promise.resolve(({condition})).then(value => value?.nodeType ? true : value)")
            except BrowserError:
                if self._process.poll() is not None:
                    raise
                value = None  # between two pages
            if value:
                return value
            if time.monotonic() > deadline:
                frame = "(document.querySelector('iframe')?.contentDocument?.body?.innerText ?? '').slice(0, 1500)"
                shown = self.evaluate(
                    f"location.href + '\\n' + document.body.innerText.slice(0, 1500) + '\\nin the frame: ' + {frame}"
                )
                raise BrowserError(f"not within {timeout:.0f} s: {what or condition}\n{shown}")
            time.sleep(0.1)

    def sees(self, text: str, *, timeout: float = 45) -> None:
        """Until the text is on the page, in whatever case the style sheet shows it."""
        self.wait(
            f"document.body.innerText.toLowerCase().includes({json.dumps(text.lower())})",
            f"the text {text!r}",
            timeout=timeout,
        )

    def press(self, key: str) -> None:
        """A key by its DOM name: Tab, Enter, ArrowDown, or one letter."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowDown": 40}
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            more = text if kind == "keyDown" else {}
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes.get(key, ord(key[0].upper())),
                **more,
            )

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def cookie(self, url: str, name: str, value: str) -> None:
        self.send("Network.setCookie", url=url, name=name, value=value)

    def dark(self, on: bool) -> None:
        self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if on else "light"}],
        )

    def picture(self, file: Path, *, height: int | None = None) -> None:
        """A PNG of what is shown; of the given height, the page laid out for it meanwhile."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lay_out(height or self._height)
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
        self._lay_out(self._height)

    def resize(self, width: int) -> None:
        """As of a window that its user makes so wide."""
        self._width = width
        self._lay_out(self._height)

    def _lay_out(self, height: int) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride", width=self._width, height=height, deviceScaleFactor=1, mobile=False
        )

    def close(self) -> None:
        try:
            if self._process.poll() is None:
                self._call("Browser.close", timeout=5)
        except (BrowserError, OSError):
            pass
        try:
            self._process.wait(120)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait(120)
        self._reader.join(120)
        os.close(self._out)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the pipe: JSON, each message ended by a NUL ---------------------------------------------

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._call(method, parameters, session=self._session)

    def _call(
        self, method: str, parameters: dict[str, Any] | None = None, *, session: str | None = None, timeout: float = 30
    ) -> dict[str, Any]:
        self._number += 1
        waiting = self._answers[self._number] = queue.Queue()
        message = {
            "id": self._number,
            "method": method,
            "params": parameters or {},
            **({"sessionId": session} if session else {}),
        }
        os.write(self._out, json.dumps(message).encode() + b"\0")
        try:
            answer = waiting.get(timeout=timeout)
        except queue.Empty:
            raise BrowserError(f"the browser did not answer {method} within {timeout:.0f} s") from None
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error'].get('message')}")
        return dict(answer["result"])

    def _read(self) -> None:
        with open(self._in, "rb") as pipe:
            rest = b""
            while data := os.read(pipe.fileno(), 65536):
                *messages, rest = (rest + data).split(b"\0")
                for message in messages:
                    self._take(json.loads(message))
        for waiting in list(self._answers.values()):
            waiting.put({"error": {"message": "the browser ended"}})

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers.pop(message["id"]).put(message)
        elif message.get("method") == "Runtime.exceptionThrown":
            details = message["params"]["exceptionDetails"]
            self.problems.append(str(details.get("exception", {}).get("description") or details["text"]))
        elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["source"] in (
            "security",
            "violation",
        ):
            self.problems.append(message["params"]["entry"]["text"])
