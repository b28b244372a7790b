import pytest

from srcip_nb.progress import Progress


class Terminal:
    """A stream that remembers, and says whether it is a terminal."""

    def __init__(self, tty: bool) -> None:
        self.text, self.tty = "", tty

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return self.tty


def run(monkeypatch, tty: bool, **options) -> str:
    stream = Terminal(tty)
    monkeypatch.setattr("sys.stdout", stream)
    with Progress("20 requests", **options) as step:
        step._drawn = 0.0
        step.update("7/20")
        step.update("8/20")  # too soon after the last to be drawn
        step.result = "20 answered"
    monkeypatch.undo()
    return stream.text


def test_a_terminal_shows_the_line_changing(monkeypatch):
    assert run(monkeypatch, tty=True) == (
        "\r\x1b[K • 20 requests …"
        "\r\x1b[K • 20 requests … 7/20"
        "\r\x1b[K ✓ 20 requests: 20 answered (0.0 s)\n"
    )  # fmt: skip


def test_a_file_holds_the_last_line_alone(monkeypatch):
    assert run(monkeypatch, tty=False) == " ✓ 20 requests: 20 answered (0.0 s)\n"


def test_silence(monkeypatch):
    assert run(monkeypatch, tty=True, show=False) == ""


def test_an_error_ends_the_line_and_goes_on(capsys):
    with pytest.raises(ValueError, match="broken"), Progress("20 requests"):
        raise ValueError("broken")
    assert capsys.readouterr().out == " ✗ 20 requests (0.0 s)\n"


def test_another_stream_and_a_failure_without_an_error(capsys):
    stream = Terminal(tty=False)
    with Progress("en/02-cluster.ipynb", stream=stream) as step:
        step.result, step.failed = "not finished", True
    assert stream.text == " ✗ en/02-cluster.ipynb: not finished (0.0 s)\n"
    assert capsys.readouterr().out == ""
