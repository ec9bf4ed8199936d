"""A real browser shows the site: no errors, nothing wider than its window, search that finds."""

import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from tools import chromium

pytestmark = pytest.mark.xdist_group("site")
PAGES = ("index.html", "commands.html", "operators.html", "api.html", "heads.html")
WIDTHS = (1280, 400)

# Beside the site: it loads pages in frames of a width, and says what it saw.
PROBE = """<!doctype html><meta charset="utf-8"><body><script>
const found = {pages: [], errors: [], search: []};
const wait = time => new Promise(go => setTimeout(go, time));
function shown(page, width) {
  return new Promise(go => {
    const frame = document.createElement("iframe");
    frame.style.cssText = `width:${width}px;height:900px;border:0`;
    frame.onload = () => go(frame);
    frame.src = page;
    document.body.append(frame);
    frame.contentWindow.onerror = text => found.errors.push(`${page}: ${text}`);
  });
}
(async () => {
  for (const width of WIDTHS) for (const page of PAGES) {
    const frame = await shown(page, width);
    await wait(100);
    const root = frame.contentDocument.documentElement;
    const text = frame.contentDocument.body.innerText;
    const view = frame.contentDocument.querySelector("article").getBoundingClientRect();
    found.pages.push({page, width, over: root.scrollWidth - root.clientWidth, words: text.length,
                      article: view.width});
    frame.remove();
  }
  for (const term of TERMS) {
    const frame = await shown(`search.html?q=${term}`, 1280);
    let links = [];
    for (let n = 0; n < 100 && !links.length; n++) {
      await wait(100);
      links = [...frame.contentDocument.querySelectorAll("ul.search li a")];
    }
    found.search.push({term, links: links.map(link => link.getAttribute("href"))});
    frame.remove();
  }
  await fetch("/seen", {method: "POST", body: JSON.stringify(found)});
})().catch(error => fetch("/seen", {method: "POST", body: JSON.stringify({failed: `${error}`})}));
</script></body>"""


@dataclass
class Seen:
    """What the probe told, what the browser wrote on its console, what was asked for in vain."""

    told: dict[str, Any]
    console: list[str]
    missing: list[str]


@contextmanager
def served(folder: Path, probe: str) -> Iterator[tuple[str, Queue[dict[str, Any]], list[str]]]:
    """A folder and the probe over HTTP: its address, what is sent back, and what is missing."""
    told: Queue[dict[str, Any]] = Queue()
    missing: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_POST(self) -> None:  # http.server's name
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def do_GET(self) -> None:  # http.server's name
            if self.path != "/probe.html":
                super().do_GET()
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(probe.encode())

        def send_error(self, code: int, *words: Any, **more: Any) -> None:
            if self.path != "/favicon.ico":
                missing.append(f"{code} {self.path}")
            super().send_error(code, *words, **more)

        def log_message(self, *words: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *words: Any) -> None:
            """A browser that closes a page takes no more of it."""

    with Server(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/probe.html", told, missing
        finally:
            server.shutdown()


def looked_at(folder: Path, pages: Sequence[str], terms: Sequence[str], scratch: Path) -> Seen:
    """Pages of a site in every width, and searches in it."""
    probe = PROBE
    for name, value in (("WIDTHS", WIDTHS), ("PAGES", pages), ("TERMS", terms)):
        probe = probe.replace(name, json.dumps(value))
    command = [
        chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-quic", "--enable-logging=stderr", f"--user-data-dir={scratch / 'profile'}",
        "--remote-debugging-port=0", "--window-size=1400,1000",
    ]  # fmt: skip
    log = scratch / "browser.log"
    with served(folder, probe) as (address, told, missing), log.open("w") as err:
        process = subprocess.Popen([*command, address], stdout=err, stderr=err)
        try:
            found = told.get(timeout=240)
        finally:
            process.terminate()
            process.wait(30)
    lines = log.read_text(errors="replace").splitlines()
    assert "failed" not in found, found
    return Seen(found, [line for line in lines if "CONSOLE" in line], missing)


def test_pages_fit_their_window_and_search_finds(site: Path, tmp_path: Path) -> None:
    wanted = {"predictor": "glossary", "multipliers": "commands", "HeadSpec": "heads",
              "QLinearConv": "operators", "skid": "glossary"}  # fmt: skip
    seen = looked_at(site, PAGES, tuple(wanted), tmp_path)
    assert (seen.told["errors"], seen.console, seen.missing) == ([], [], [])
    assert len(seen.told["pages"]) == len(PAGES) * len(WIDTHS)
    for page in seen.told["pages"]:
        assert page["over"] <= 0, page
        assert page["words"] > 1000, page
        assert 250 < page["article"] <= page["width"], page
    for each in seen.told["search"]:
        page = wanted[each["term"]]
        assert any(link.startswith(f"{page}.html") for link in each["links"]), each


def test_what_is_wrong_with_a_page_is_seen(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text(
        '<article style="width:300px"><div style="width:1000px">wide</div></article>'
        '<img src="gone.png"><script>console.error("told"); nothing.here</script>',
        encoding="utf-8",
    )
    seen = looked_at(tmp_path / "site", ["index.html"], [], tmp_path)
    assert [page["over"] > 0 for page in seen.told["pages"]] == [False, True]
    assert any("told" in line for line in seen.console)
    assert any("nothing" in line for line in seen.console)
    assert "404 /gone.png" in seen.missing
