"""The dashboard as a reader has it: in JupyterLab in both languages, by mouse and by keys; and alone, through Voila."""

import json
import shutil
from pathlib import Path

import pytest

from tests.browser.conftest import ROOT, serving

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

CLIENT, TOKEN = "192.168.1.122", "browser"
WORDS = {
    "en": {"send": "Send", "stop": "Stop", "sending": "sending 5/s", "stopped": "Stopped", "as": "as expected"},
    "ja": {"send": "送信", "stop": "停止", "sending": "送信中", "stopped": "停止しました", "as": "予想どおり"},
}


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory):
    home = tmp_path_factory.mktemp("jupyterlab")
    for lang in WORDS:
        shutil.copytree(ROOT / "notebooks" / lang, home / "notebooks" / lang)
    quiet = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    command = ["jupyter", "lab", "--allow-root", "--no-browser", "--ServerApp.ip=127.0.0.1", "--ServerApp.port={port}"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={home / 'notebooks'}"]
    with serving(command, home, {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings")}) as url:
        yield url


def open_notebook(browser, url: str, lang: str):
    page = browser.new_page()
    page.goto(f"{url}/lab/tree/{lang}/dashboard.ipynb?token={TOKEN}&reset")
    page.wait_for_selector(".jp-NotebookPanel .jp-Notebook")
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    page.locator(".jp-Notebook").first.click(position={"x": 5, "y": 5})
    if page.locator("#jp-left-stack").is_visible():
        page.keyboard.press("Control+b")
    for _ in range(10):  # JupyterLab drops without a word what is run before it is connected to the kernel
        asks = page.locator("dialog.jp-Dialog .jp-mod-accept")
        if asks.count():  # on a busy machine: which kernel, or whether to go on waiting
            asks.first.click()
        page.get_by_role("menuitem", name="Run", exact=True).first.click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_timeout(1000)
        if page.locator(".jp-InputPrompt").filter(has_text="[ ]:").count() == 0:
            break
    page.wait_for_selector(".srcip-dashboard svg")
    return page


def choice(board, value: str):
    """The button of that value; its accessible name has the dot before it, filled or not."""
    return board.locator(f"button:text-is('{value}')")


def row_of(board, address: str):
    return board.locator(".srcip-counts tr", has=board.page.get_by_role("rowheader", name=address, exact=True))


@pytest.mark.parametrize("lang", WORDS)
def test_local_send_and_the_clients_address_appears(jupyterlab, browser, screenshots: Path, lang: str):
    words = WORDS[lang]
    page = open_notebook(browser, jupyterlab, lang)
    board = page.locator(".srcip-dashboard")
    assert row_of(board, CLIENT).count() == 0
    send = board.get_by_role("button", name=words["send"])
    send.click()
    page.wait_for_selector(".srcip-counts tr:has-text('192.168.1.45')")  # under Cluster: the node's address
    assert words["sending"] in board.inner_text()

    local = choice(board, "Local").first
    if lang == "en":
        local.click()
    else:  # the same by keys: to the button before it, on to it, and press
        choice(board, "Cluster").first.focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
    page.wait_for_selector(f".srcip-counts tr:has-text('{CLIENT}')")
    page.wait_for_selector(f".srcip-verdict:has-text('✓ {words['as']}')")
    assert "mod-active" in local.get_attribute("class")
    assert "Cluster → Local" in board.inner_text()
    page.wait_for_function("document.querySelectorAll('.srcip-dashboard pre b').length >= 9")
    assert board.locator("pre b").last.inner_text() == CLIENT
    assert board.locator("svg").get_attribute("aria-label").count(CLIENT) >= 2

    width, room, height = board.evaluate("e => [e.scrollWidth, e.clientWidth, e.getBoundingClientRect().height]")
    assert width <= room and height < 700, "it fits a window of 1280 x 800"
    board.evaluate("e => e.scrollIntoView()")
    page.screenshot(path=screenshots / f"dashboard.{lang}.png")

    board.get_by_role("button", name=words["stop"]).focus()
    page.keyboard.press("Space")
    page.wait_for_selector(f".srcip-dashboard [role=status]:has-text('{words['stopped']}')")
    choice(board, "Cluster").first.click()  # as the next one finds it
    page.wait_for_selector(".srcip-dashboard [role=status]:has-text('Local → Cluster')")
    page.close()


def test_every_control_has_a_label_and_is_reached_by_tab(jupyterlab, browser):
    page = open_notebook(browser, jupyterlab, "en")
    board = page.locator(".srcip-dashboard")
    controls = board.locator("button, input")
    for at in range(controls.count()):
        label = controls.nth(at).evaluate(
            "e => (e.labels && e.labels.length ? e.labels[0].innerText : '') || e.innerText || e.title"
        )
        assert label.strip(), controls.nth(at).evaluate("e => e.outerHTML")
    controls.first.focus()
    reached = set()
    for _ in range(controls.count()):
        reached.add(page.evaluate("[...document.querySelectorAll('.srcip-dashboard button, .srcip-dashboard input')]"
                                  ".indexOf(document.activeElement)"))  # fmt: skip
        page.keyboard.press("Tab")
    assert reached == set(range(controls.count()))
    # what cannot be asked from there is an error in the panel, with its remedy
    choice(board, "ClusterIP").click()
    board.get_by_role("button", name="Send").click()
    alert = page.wait_for_selector(".srcip-dashboard [role=alert]")
    assert "ClusterIP cannot be asked from there" in alert.inner_text()
    assert "choose requests from a node or a pod" in alert.inner_text()
    page.close()


def test_voila_shows_the_page_alone_in_the_language_of_its_folder(browser, tmp_path, screenshots: Path):
    book = ROOT / "notebooks" / "ja" / "dashboard.ipynb"
    command = ["voila", "--no-browser", "--Voila.ip=127.0.0.1", "--port={port}", str(book)]
    with serving(command, tmp_path, {}) as url:
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector(".srcip-dashboard svg")
        page.get_by_role("button", name="送信").click()
        page.wait_for_selector(".srcip-counts tr:has-text('192.168.1.45')")
        assert "dashboard()" not in page.inner_text("body")
        page.screenshot(path=screenshots / "dashboard.voila.ja.png")
        page.close()
