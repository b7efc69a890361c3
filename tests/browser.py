"""Looks at a page in headless Chromium, for tests; they are skipped where no such browser is installed."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FRAME = """<!doctype html><meta charset="utf-8"><body><script>
const frame = document.createElement("iframe");
frame.style = "width:{width}px;height:800px;border:0";
frame.onload = async () => {{
  const page = frame.contentDocument, window = frame.contentWindow;
  for (const image of page.images) image.loading = "eager";
  while (![...page.images].every(image => image.complete)) await new Promise(next => setTimeout(next, 20));
  const result = ({script})(page, window);
  document.body.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = "RESULT" + JSON.stringify(result) + "END";
}};
frame.srcdoc = {page};
document.body.append(frame);
</script>"""

# Errors and requests are counted from the first line of the page on.
COUNTED = """<head><script>
window.faults = [];
addEventListener("error", event => faults.push(String(event.message || event.target.outerHTML)), true);
for (const name of ["error", "warn"]) console[name] = text => faults.push(String(text));
window.alert = text => faults.push("alert " + text);
</script>"""


def look(page: str, script: str, folder: Path, width: int = 1200, dark: bool = False) -> Any:
    """Show the page in a frame of this width and return what `script`, a JavaScript function, returns.

    The function is called with the page's document and window and returns what JSON can hold.
    """
    browser = next((path for name in NAMES if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium is installed, so nothing can look at the page")
    file = folder / "frame.html"
    text = json.dumps(page).replace("</", "<\\/").replace("<!--", "<\\!--")
    file.write_text(FRAME.format(width=width, script=script, page=text), encoding="utf-8")
    switches = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    switches += ["--virtual-time-budget=20000", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    command = [browser, *switches, "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r"<pre>RESULT(.*)END</pre>", done.stdout, re.DOTALL)
    assert found, done.stdout[-500:] + done.stderr[-2000:]
    return json.loads(unescape(found[1]))
