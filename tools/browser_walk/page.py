"""One notebook's page in the browser, and what page.js says about it."""

import re
import time
import urllib.parse
from pathlib import Path

SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
OPEN_S, READY_S = 90, 120


class Page:
    """A notebook, opened and its kernel ready; close() it afterwards."""

    def __init__(self, context, server, name: str):
        self.name = name
        self.console, self.dialogs = [], []
        self.page = context.new_page()
        self.page.on("console", lambda m: self.console.append(m.text[:300]) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.console.append(f"pageerror: {error}"[:300]))
        where = f"{server.url}/lab/tree/{urllib.parse.quote(name)}?reset&token={server.token}"
        self.page.goto(where, timeout=OPEN_S * 1000)
        self.page.wait_for_function("() => window.jupyterapp && window.jupyterapp.restored", timeout=OPEN_S * 1000)
        self.page.evaluate(SCRIPT)
        if not self.wait(lambda: self.page.evaluate("path => !!window.__walk.panel(path)", name), OPEN_S):
            raise RuntimeError("the notebook did not open")
        if not self.wait(lambda: self.ask("kernel") == "connected/idle", READY_S):
            raise RuntimeError(f"the kernel did not become ready: {self.ask('kernel')}")
        self.ask("listen")

    def ask(self, what: str, *args):
        """Return what page.js says about this notebook."""
        return self.page.evaluate(f"args => window.__walk.{what}(...args)", [self.name, *args])

    def value(self, control: int):
        """Return what a control shows."""
        return self.page.evaluate("id => window.__walk.value(id)", control)

    def messages(self) -> list[dict]:
        """Return the errors that the kernel has sent so far."""
        return self.page.evaluate("window.__walk.messages")

    def idle(self) -> bool:
        """Whether the kernel has nothing to do."""
        return self.ask("kernel").endswith("/idle")

    def wait(self, condition, limit_s: float, every_s: float = 0.25):
        """Return the condition's first true value, None after `limit_s`; accept dialogs (Select Kernel) meanwhile."""
        end = time.time() + limit_s
        while time.time() < end:
            for button in self.page.locator(".jp-Dialog .jp-mod-accept").all():
                self.dialogs.append(self.page.locator(".jp-Dialog").first.inner_text()[:200])
                button.click()
            if value := condition():
                return value
            time.sleep(every_s)
        return None

    def settle(self, control: int, limit_s: float) -> tuple[dict, bool]:
        """Return (look of the outputs, whether it is at rest): the kernel idle and three looks alike."""
        last, alike, end = None, 0, time.time() + limit_s
        while time.time() < end:
            look = self.ask("look", control)
            alike = alike + 1 if look == last and self.idle() else 0
            last = look
            if alike >= 2:
                return look, True
            time.sleep(0.2)
        return last, False

    def menu(self, title: str, command: str) -> None:
        """Choose a command from the menu bar, as a reader does."""
        label = self.page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{title}$"))
        self.page.locator(".lm-MenuBar-item", has=label).first.click()
        self.page.locator(f'.lm-Menu-item[data-command="{command}"]').first.click(timeout=10_000)

    def pictures(self, stem: Path, most: int) -> list[str]:
        """Photograph the notebook from top to bottom."""
        scroller, names, top = self.page.evaluate_handle("window.__walk.scroller()"), [], 0
        for i in range(most):
            scroller.evaluate("(node, top) => { node.scrollTop = top; }", top)
            time.sleep(0.3)
            names.append(f"{stem.name}_{i:02d}.png")
            self.page.screenshot(path=str(stem.with_name(names[-1])))
            shown, whole = scroller.evaluate("node => [node.clientHeight, node.scrollHeight]")
            top += max(200, shown - 60)
            if top + 60 >= whole:
                break
        return names

    def picture_of_cell(self, cell: int, file: Path) -> None:
        """Photograph one cell's outputs."""
        found = self.page.locator(".jp-NotebookPanel:visible .jp-Notebook .jp-Cell").nth(cell)
        found.locator(".jp-Cell-outputWrapper").first.screenshot(path=str(file), timeout=8000)

    def close(self) -> None:
        """Leave the page."""
        self.page.close()
