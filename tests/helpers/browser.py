"""A headless Chromium that is driven through its debugging pipe: a message is JSON that ends with a null byte."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One page of a browser. Commands are those of the DevTools protocol."""

    def __init__(self, profile: Path):
        to_read, self.to = os.pipe()
        self.of, to_write = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        command = ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{to_write}', "sh", BROWSER, *flags]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, pass_fds=(to_read, to_write), **quiet)
        os.close(to_read), os.close(to_write)
        self.rest, self.number, self.session, self.errors = b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        os.write(self.to, json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        return self.wait(lambda found: found.get("id") == self.number)["result"]

    def wait(self, wanted) -> dict[str, Any]:
        """Return the next message that is wanted. Errors of the page are kept in `errors`."""
        while True:
            while b"\0" not in self.rest:
                more = os.read(self.of, 1 << 20)
                assert more, "the browser has ended"
                self.rest += more
            text, _, self.rest = self.rest.partition(b"\0")
            found = json.loads(text)
            if found.get("method") == "Runtime.exceptionThrown":
                details = found["params"]["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description") or details["text"])
            if found.get("method") == "Log.entryAdded" and found["params"]["entry"]["level"] == "error":
                self.errors.append(found["params"]["entry"]["text"] + " " + found["params"]["entry"].get("url", ""))
            if "error" in found:
                raise AssertionError(found["error"])
            if wanted(found):
                return found

    def open(self, address: str, width: int = 1440, height: int = 900, dark: bool = False, touch: bool = False) -> None:
        """Open a page in a window of this size."""
        scale = {"deviceScaleFactor": 1, "mobile": touch}
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, **scale)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch, maxTouchPoints=2)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.errors.clear()
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        self.wait(lambda found: found.get("method") == "Page.loadEventFired")

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + 30
        while not self.run(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.03)

    def key(self, key: str, shift: bool = False) -> None:
        """Press a key: its name, or a character."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        codes = {
            "Tab": 9,
            "Enter": 13,
            "ArrowLeft": 37,
            "ArrowUp": 38,
            "ArrowRight": 39,
            "ArrowDown": 40,
            "Backspace": 8,
        }
        about = {"key": key, "modifiers": 8 * shift, "windowsVirtualKeyCode": codes.get(key, 0), **text}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Send a mouse event: pressed, released, moved or wheel."""
        pressed = {} if kind in ("moved", "wheel") else {"button": "left", "clickCount": 1}
        name = "mouse" + kind.capitalize()
        self.call("Input.dispatchMouseEvent", type=name, x=x, y=y, **(pressed | more))

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Drag with the mouse."""
        for kind, place in (("pressed", start), ("moved", end), ("released", end)):
            self.mouse(kind, *place, button="left", buttons=1)

    def downloads(self, folder: Path) -> None:
        """Let pages save files into a folder."""
        session, self.session = self.session, None
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self.session = session

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """Send a touch event: start, move or end, with the fingers that are down."""
        fingers = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)]
        self.call("Input.dispatchTouchEvent", type="touch" + kind.capitalize(), touchPoints=fingers)

    def picture(self, path: Path) -> None:
        """Save what is in the window as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End the browser."""
        self.call("Browser.close") if self.process.poll() is None else None
        self.process.wait(timeout=20)
        os.close(self.to), os.close(self.of)
