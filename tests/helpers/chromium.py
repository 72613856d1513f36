"""A headless Chromium that is driven through its pipe, for pages that are used and not only shown."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """A page of a browser of its own; `profile` is a folder that keeps what it stores."""

    def __init__(self, profile: Path, size: tuple[int, int] = (1200, 800), touch: bool = False):
        here, there = os.pipe(), os.pipe()
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        # the browser reads file 3 and writes file 4
        script = f'exec 3<&{here[0]} 4>&{there[1]}; exec "$0" "$@"'
        self._browser = subprocess.Popen(
            ["bash", "-c", script, BROWSER, *words, f"--window-size={size[0]},{size[1]}", "about:blank"],
            pass_fds=(here[0], there[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(here[0]), os.close(there[1])
        self._out, self._in, self._rest, self._number, self._session = here[1], there[0], b"", 0, None
        targets = self._call("Target.getTargets")["targetInfos"]
        target = next(item["targetId"] for item in targets if item["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": touch}
        self._call("Emulation.setDeviceMetricsOverride", **metrics)
        self._call("Page.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session = None
        try:
            self._call("Browser.close")
        except (OSError, TimeoutError):
            self._browser.kill()
        self._browser.wait(20)
        os.close(self._out), os.close(self._in)

    def _call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + 60
        while time.monotonic() < until:
            while b"\0" not in self._rest:
                if not select.select([self._in], [], [], max(0, until - time.monotonic()))[0]:
                    raise TimeoutError(method)
                part = os.read(self._in, 1 << 20)
                if not part:
                    raise OSError("the browser has ended")
                self._rest += part
            answer, _, self._rest = self._rest.partition(b"\0")
            found = json.loads(answer)
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]
        raise TimeoutError(method)

    def open(self, url: str) -> None:
        """Open a page anew, also where only the part after # differs."""
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str):
        """The value of an expression in the page."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + 30
        while not self.run(condition):
            assert time.monotonic() < until, condition
            time.sleep(0.03)

    def press(self, key: str) -> None:
        """Press a key as a person does."""
        for kind in ("rawKeyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key)

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Drag with the mouse."""
        for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
            more = {"button": "left", "buttons": 1, "clickCount": 1}
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def downloads(self, folder: Path) -> None:
        """Let the page save files into a folder."""
        session, self._session = self._session, None
        self._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self._session = session

    def picture(self, path: Path) -> Path:
        """Save what is on the screen as PNG."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))
        return path
