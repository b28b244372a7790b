"""Seats as they are planned, furnished, shown: nothing is started here."""

import stat
from pathlib import Path

import pytest

from srcip_nb.errors import UsageError
from srcip_nb.run import notebooks_dir
from srcip_nb.seats import Seat, Seminar, environment, furnish, jupyter_command, plan, read_seminar
from srcip_nb.seminar import who_can_reach
from srcip_nb.seminar_page import links_page, page
from srcip_nb.seminar_rows import SeatRow, checks_in, count_checks, rows, rows_text

DATA = Path(__file__).parent / "data" / "seminar"
SEATS = tuple(Seat(f"seat-{number:02d}", f"token{number}", 8900 + number) for number in (1, 2, 3))
ROWS = [
    SeatRow(SEATS[0], True, True, "02", 2, 1, 1, 5, ("<b>lost</b>",), ("01",), "2026-04-01T09:00:00+00:00"),
    SeatRow(SEATS[1], True, False),
    SeatRow(SEATS[2], False, True, "03", 4, 0, 0, 4, (), ("01", "02", "03"), "2026-04-01T09:01:00+00:00"),
]


def room(lang: str = "en", **settings) -> Seminar:
    return Seminar(Path("/srv/room"), lang, "127.0.0.1", 8900, "secret", seats=SEATS, **settings)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_page(lang):
    assert page(room(lang), ROWS, "192.0.2.7", "09:02:00 UTC") == (DATA / f"page.{lang}.html").read_text()


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_list_to_hand_out(lang):
    assert links_page(room(lang), "192.0.2.7") == (DATA / f"links.{lang}.html").read_text()


def test_the_table_of_the_shell():
    assert rows_text(ROWS) == (
        "SEAT     LAB      JUPYTERLAB  NOTEBOOK  HELD  FAILED  OPEN  FINISHED  LAST ACTIVITY\n"
        "seat-01  running  running     02        2/5   1       1     01        2026-04-01T09:00:00+00:00\n"
        "seat-02  running  not opened  -         -     -       -     -         -\n"
        "seat-03  ended    running     03        4/4   0       0     01,02,03  2026-04-01T09:01:00+00:00"
    )


def test_on_a_real_cluster_the_page_shows_namespaces():
    shown = page(room(context="kind"), [SeatRow(SEATS[0], None, False)], "localhost", "09:02:00 UTC")
    assert '<th scope="col">Namespace</th>' in shown and "<td>seat-01</td>" in shown


def test_how_many_checks_a_notebook_has():
    cells = [
        'begin("07")',
        "checks.kept(x)\ncheck = ok and chain_checks.same(a, b)",
        'exercise("07.1", answer)',
        "f(x)",
    ]
    body = ", ".join(f'{{"cell_type": "code", "source": [{_json(cell)}]}}' for cell in cells)
    assert checks_in(f'{{"cells": [{body}, {{"cell_type": "markdown", "source": ["checks.no(x)"]}}]}}') == ("07", 3)
    assert count_checks("en") == count_checks("ja")
    assert count_checks("en")["01"] == 5


def _json(text: str) -> str:
    import json

    return json.dumps(text)


def test_a_seat_has_its_own_copy_and_keeps_it(tmp_path):
    seminar = plan(tmp_path / "room", 2, lang="ja")
    furnish(seminar)
    first, second = seminar.seats
    name = sorted(path.name for path in (notebooks_dir() / "ja").glob("*.ipynb"))[0]
    mine = seminar.work(first) / "notebooks" / "ja" / name
    mine.write_text("my work")
    again = plan(tmp_path / "room", 3, lang="ja")
    furnish(again)
    assert mine.read_text() == "my work"
    assert (again.work(second) / "notebooks" / "ja" / name).read_text() != "my work"
    assert [seat.token for seat in again.seats[:2]] == [first.token, second.token]
    assert (again.token, len({seat.token for seat in again.seats})) == (seminar.token, 3)
    assert read_seminar(tmp_path / "room") == again
    assert stat.S_IMODE((tmp_path / "room" / "seats.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "room").stat().st_mode) == 0o700
    assert (again.work(first) / "docs" / "glossary.ja.md").exists(), "where the notebooks' links lead"


def test_a_seats_world_is_its_own(monkeypatch):
    monkeypatch.setenv("SRCIP_LAB", "somebody-elses")
    found = environment(room(), SEATS[0])
    assert found["SRCIP_STATE_DIR"] == "/srv/room/.seats/seat-01/labs"
    assert found["KUBECONFIG"] == "/srv/room/.seats/seat-01/labs/lab/kubeconfig"
    assert "SRCIP_LAB" not in found and "SRCIP_CONTEXT" not in found
    command = jupyter_command(room(), SEATS[0])
    assert "--ServerApp.ip=127.0.0.1" in command and "--ServerApp.allow_remote_access=False" in command
    assert not any("token1" in word for word in command), "every user of the machine can read arguments"


def test_a_seat_on_a_real_cluster_is_a_namespace(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/etc/kube")
    monkeypatch.setenv("SRCIP_IMAGE", "registry/nginx:1")
    seminar = plan(tmp_path / "room", 1, context="kind", prefix="class")
    (seat,) = seminar.seats
    found = environment(seminar, seat)
    wanted = {"SRCIP_CONTEXT": "kind", "SRCIP_NAMESPACE": "class-01", "SRCIP_IMAGE": "registry/nginx:1"}
    assert {name: found[name] for name in wanted} == wanted
    assert found["KUBECONFIG"] == "/etc/kube"
    furnish(seminar)
    (seminar.own(seat) / "kubeconfig").write_text("the seat's own")
    assert environment(seminar, seat)["KUBECONFIG"] == str(seminar.own(seat) / "kubeconfig")
    assert [row.lab_runs for row in rows(seminar, {})] == [None]


@pytest.mark.parametrize(
    "count, settings, said",
    [
        (0, {}, "0 seats"),
        (100, {}, "100 seats"),
        (2, {"lang": "de"}, "no language 'de'"),
        (2, {"port": 65535}, "leaves no room"),
        (2, {"prefix": "My_Room"}, "cannot be a namespace"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, count, settings, said):
    with pytest.raises(UsageError, match=said):
        plan(tmp_path / "room", count, **settings)
    assert not (tmp_path / "room").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="something else"):
        plan(tmp_path, 2)


def test_who_lets_the_room_in_is_told_what_that_means():
    assert "Only this machine" in who_can_reach(room())
    open_to_all = Seminar(Path("/srv/room"), "en", "0.0.0.0", 8900, "secret")
    assert "unencrypted" in who_can_reach(open_to_all) and "runs programs on this machine" in who_can_reach(open_to_all)
