"""A headless Chromium, spoken to in its DevTools protocol over two pipes: no package, no port, no network."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
# No sandbox: root, whom a container has, is refused one. No name is known, so that nothing is fetched from elsewhere.
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--no-first-run", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"),
)
SECONDS = 60  # for one answer


class Browser:
    """One tab; `asked` has the address of each request that it made."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands, self.answers = commands, answers
        self.unread, self.last, self.session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    @property
    def asked(self) -> list[str]:
        sent = [event["params"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [each["request"]["url"] for each in sent]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return what a method answers. Raises RuntimeError for its error, TimeoutError where no answer comes."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        sent = json.dumps(message).encode() + b"\0"
        while sent:
            sent = sent[os.write(self.commands, sent) :]
        while (found := self._next()).get("id") != self.last:
            self.events.append(found)
        if "error" in found:
            raise RuntimeError(f"{method}: {found['error']['message']}")
        return found["result"]

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b"\0" not in self.unread:
            ready, _, _ = select.select([self.answers], [], [], max(0, end - time.monotonic()))
            read = os.read(self.answers, 1 << 20) if ready else b""
            if not read:
                raise TimeoutError("Chromium ended" if ready else f"Chromium said nothing for {SECONDS} s")
            self.unread += read
        message, _, self.unread = self.unread.partition(b"\0")
        return json.loads(message)

    def open(self, page: Path, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """Show a file in a window of that size, with a phone's rules for the width of a page or a desktop's."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def value(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript in the page; a promise is waited for."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        found = self.call("Runtime.evaluate", **asked)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", "an exception"))
        return found["result"].get("value")

    def picture(self, path: Path) -> None:
        """Write what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a Chromium whose files are in the folder `profile`, and end it."""
    commands_out, commands_in = os.pipe()  # it reads commands from its descriptor 3, and writes answers to 4
    answers_out, answers_in = os.pipe()
    command = [PROGRAM, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
    shell = ["bash", "-c", 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"', "bash", str(commands_out), str(answers_in)]
    with (profile.parent / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [*shell, *command], pass_fds=(commands_out, answers_in), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    os.close(commands_out)
    os.close(answers_in)
    try:
        yield (found := Browser(commands_in, answers_out))
        with contextlib.suppress(TimeoutError, OSError):
            found.session = None
            found.call("Browser.close")
    finally:
        os.close(commands_in)  # it ends by itself when its pipe does
        os.close(answers_out)
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
