"""A browser for the tests: the distribution's Chromium, found and started by trial, and a place for screenshots.

Screenshots are kept in the directory that ``SRCIP_SCREENSHOTS`` names, ``out/browser`` if it names none.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
WITHIN = 120  # seconds; some, and a minute where many share the machine


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def screenshots() -> Path:
    place = Path(os.environ.get("SRCIP_SCREENSHOTS") or ROOT / "out" / "browser")
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[object]:
    """A window of 1280 x 800 with a profile of its own; Japanese glyphs come from the font that the figures use."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install playwright")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("there is no Chromium: sudo apt-get install chromium")
    driver = subprocess.run(
        [sys.executable, "-m", "playwright", "--version"], capture_output=True, text=True, timeout=WITHIN, check=False
    )
    if driver.returncode:
        pytest.skip(f"Playwright does not start: {driver.stderr.strip() or driver.stdout.strip()}")
    home = tmp_path_factory.mktemp("browser")
    japanese = importlib.util.find_spec("matplotlib_fontja").submodule_search_locations[0]
    fonts = home / "fonts.conf"
    fonts.write_text(
        '<?xml version="1.0"?><fontconfig><include ignore_missing="yes">/etc/fonts/fonts.conf</include>'
        f"<dir>{japanese}/fonts</dir><cachedir>{home}/fonts</cachedir></fontconfig>"
    )
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "FONTCONFIG_FILE": str(fonts)}
    with playwright.sync_playwright() as run:
        try:
            window = run.chromium.launch_persistent_context(
                str(home / "profile"),
                executable_path=program,
                headless=True,
                args=FLAGS,
                viewport={"width": 1280, "height": 800},
                env=environment,
            )
        except playwright.Error as error:
            pytest.skip(f"{program} does not start: {str(error).splitlines()[0]}")
        window.set_default_timeout(WITHIN * 1000)
        yield window
        window.close()


@contextmanager
def serving(command: list[str], directory: Path, environment: dict[str, str]) -> Iterator[str]:
    """A Jupyter server as a process of its own; gives its address, and ends it with all its kernels and labs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {f"JUPYTER_{what}_DIR": str(directory / what.lower()) for what in ("CONFIG", "RUNTIME", "DATA")}
    own |= {"IPYTHONDIR": str(directory / "ipython"), "SRCIP_LAB": "", "SRCIP_LANG": "", "JPY_PARENT_PID": ""}
    words = [sys.executable, "-m", *(word.format(port=port) for word in command)]
    with (directory / "server.log").open("w") as log:
        process = subprocess.Popen(
            words, env={**os.environ, **own, **environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + WITHIN
            while not answers(port):
                assert process.poll() is None and time.monotonic() < deadline, (directory / "server.log").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True
