"""Readers of pages, for the tests of HTML: one that only parses, and a headless Chromium,
spoken to through two pipes, which shows what a page is to whoever opens it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars")
SECONDS = 60.0


VOID = {"br", "col", "hr", "img", "input", "meta"}


@dataclass
class Element:
    """`children` are elements and texts, in order."""

    name: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    @property
    def classes(self) -> set[str]:
        return set((self.attributes.get("class") or "").split())

    def walk(self) -> Iterator[Element]:
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, *names: str, of: str | None = None) -> list[Element]:
        """Those of these names, and of that class, in reading order."""
        return [e for e in self.walk() if e.name in names and (of is None or of in e.classes)]

    def rows(self) -> list[list[Element]]:
        """The cells of a table's body, without those of tables inside them."""
        bodies = [e for e in self.children if isinstance(e, Element) and e.name == "tbody"]
        rows = [e for body in bodies for e in body.children if isinstance(e, Element)]
        return [[cell for cell in row.children if isinstance(cell, Element)] for row in rows]

    def one(self, name: str, of: str | None = None) -> Element:
        (found,) = self.all(name, of=of)
        return found

    def called(self, id: str) -> Element:
        (found,) = [e for e in self.walk() if e.attributes.get("id") == id]
        return found


class Reader(HTMLParser):
    """Fails where an element is not closed in its turn."""

    def __init__(self, text: str):
        super().__init__()
        self.root = Element("")
        self.open = [self.root]
        self.feed(text)
        self.close()
        assert len(self.open) == 1, [element.name for element in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), attrs
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, (tag, self.open[-1].name)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


@pytest.fixture(scope="session")
def read() -> Callable[[str], Element]:
    return lambda text: Reader(text).root


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    found = Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


class Browser:
    """One tab. Its state is the process, and what the page said so far (`said`): messages of
    the console, exceptions, and addresses that were asked for."""

    def __init__(self, folder: Path):
        there, back = os.pipe(), os.pipe()
        # Chromium reads from descriptor 3 and writes to 4.
        command = f'exec "$@" 3<&{there[0]} 4>&{back[1]}'
        profile = f"--user-data-dir={folder}"
        self.process = subprocess.Popen(
            ["bash", "-c", command, "bash", CHROMIUM, *OPTIONS, "--remote-debugging-pipe", profile],
            pass_fds=(there[0], back[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there[0])
        os.close(back[1])
        self._to, self._from = there[1], back[0]
        self._rest, self._number, self._session = b"", 0, None
        self.said: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def open(self, path: Path, width: int, height: int = 900, *, scripts: bool = True) -> None:
        self.said.clear()
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.ask("Page.navigate", url=path.as_uri())
        self.until("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        end = time.monotonic() + SECONDS
        while not self.value(expression):
            assert time.monotonic() < end, expression
            time.sleep(0.05)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, **KEYS[key])

    def point(self, x: float, y: float, *, click: bool = False) -> None:
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased") if click else ():
            how = {"button": "left", "clickCount": 1}
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **how)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._listen(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._from, 2**20)
            assert more, "the browser has gone"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _listen(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        match event.get("method"):
            case "Runtime.consoleAPICalled":
                self.said.append(f"console: {about['type']} {about['args']}")
            case "Runtime.exceptionThrown":
                self.said.append(f"exception: {about['exceptionDetails']}")
            case "Log.entryAdded":
                self.said.append(f"log: {about['entry']['level']} {about['entry']['text']}")
            case "Network.requestWillBeSent":
                address = about["request"]["url"]
                if not address.startswith(("file:", "data:")):
                    self.said.append(f"asked for {address}")
            case "Page.javascriptDialogOpening":
                self.said.append(f"dialog: {about['message']}")

    def close(self) -> None:
        os.close(self._to)
        os.close(self._from)
        self.process.terminate()
        self.process.wait(SECONDS)


KEYS = {
    "Enter": {"windowsVirtualKeyCode": 13, "text": "\r"},
    "Escape": {"windowsVirtualKeyCode": 27},
    "Tab": {"windowsVirtualKeyCode": 9},
}
