"""A tape answers what was asked then, in that order, and nothing else; nothing secret or of the machine is on it."""

import json
import lzma

import pytest

from srcip_nb.errors import UsageError
from srcip_nb.tape import (
    NotRecordedError,
    RecordingTape,
    ReplayTape,
    is_change,
    question,
    read,
    scrub,
    told,
    visit_question,
    write,
)

SET = 'PATCH /api/v1/services/s {"policy":"Local"}'
SCALE = "PATCH /apis/apps/v1/deployments/d/scale {}"


def nobody():
    raise AssertionError("a replay asks nobody")


def tape(*events: tuple[str, object]) -> ReplayTape:
    return ReplayTape({}, [{"ask": ask, "answer": answer} for ask, answer in events])


def test_answers_come_in_the_order_of_then_and_the_last_one_stays():
    replay = tape(("GET /pods", 1), ("GET /nodes", "n"), ("GET /pods", 2))
    assert [replay.exchange("GET /pods", nobody) for _ in range(3)] == [1, 2, 2]
    assert replay.exchange("GET /nodes", nobody) == "n"


def test_what_was_seen_before_a_change_is_not_told_after_it():
    replay = tape(("GET /pods", "before"), (SET, "set"), ("GET /services", "after"))
    assert replay.exchange("GET /pods", nobody) == "before"
    assert replay.exchange(SET, nobody) == "set"
    with pytest.raises(NotRecordedError, match="GET /pods"):
        replay.exchange("GET /pods", nobody)


def test_a_change_cannot_be_skipped():
    replay = tape((SET, 1), (SCALE, 2), ("GET /pods", 3))
    with pytest.raises(NotRecordedError):
        replay.exchange(SCALE, nobody)


def test_a_cell_that_runs_again_finds_its_own_answers_again():
    replay = tape((SET, 1), ("GET /a", "first"), ("GET /a", "second"), (SCALE, 2), ("GET /a", "third"))
    walk = [SET, "GET /a", "GET /a", SCALE, "GET /a"]
    assert [replay.exchange(ask, nobody) for ask in [*walk, *walk]] == [1, "first", "second", 2, "third"] * 2


def test_something_new_is_refused_with_what_to_do():
    with pytest.raises(NotRecordedError) as raised:
        tape(("GET /pods", 1)).exchange("GET /secrets", nobody)
    assert "only what was recorded" in raised.value.cause and "connect()" in raised.value.remedy


def test_questions_leave_out_what_is_of_the_moment():
    url = "https://127.0.0.1:1/api/v1/pods/p/log?sinceSeconds={}&container=nginx"
    assert question("GET", url.format(6)) == question("GET", url.format(7)) == "GET /api/v1/pods/p/log?container=nginx"
    assert question("PATCH", "https://h/x", body=b'{"b": 1, "a": 2}') == 'PATCH /x {"a":2,"b":1}'
    one, other = ([{"id": 0, "url": f"http://10.0.0.1/?run={run}&request=0"}] for run in ("00000001", "00000002"))
    assert visit_question("client", one, 2.0, None) == visit_question("client", other, 2.0, None)
    assert visit_question("client", one, 2.0, None) != visit_question("router", one, 2.0, None)


def test_what_changes_the_cluster():
    assert is_change("DELETE /api/v1/namespaces/seminar")
    assert is_change('POST /lab/v1/proxy-mode {"mode":"nftables"}')
    assert not is_change("PATCH /api/v1/namespaces/seminar?dryRun=All {}")
    assert not is_change("POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews {}")
    assert not is_change('POST /lab/v1/exec {"host":"client"}')
    assert not is_change("GET /version") and not is_change("visit client {}")


def test_secrets_and_the_machine_are_scrubbed():
    pem = "-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----\\n"
    token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl"
    line = f'{pem} Bearer abc.def {token} "machineID":"0123" \\"bootID\\":\\"4567\\" on myhost in /home/me/work'
    said = scrub(line, ["myhost", "/home/me", ""])
    for secret in ("MIIB", "abc.def", "eyJ", "0123", "4567", "myhost", "/home/me"):
        assert secret not in said


def test_a_file_is_the_same_for_the_same_lines(tmp_path):
    live = RecordingTape(tmp_path / "raw", {"format": 1})
    assert live.exchange("GET /x", lambda: {"a": "送信元"}) == {"a": "送信元"}
    lines = (tmp_path / "raw").read_text(encoding="utf-8").splitlines()
    sizes = {write(tmp_path / name, lines) for name in ("one", "two")}
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sizes == {(tmp_path / "one").stat().st_size}
    assert read(tmp_path / "one").exchange("GET /x", nobody) == {"a": "送信元"}


@pytest.mark.parametrize("data", [b"", b"no xz", lzma.compress(b"no JSON"), lzma.compress(b'{"format": 99}')])
def test_a_file_that_is_none_is_told_apart(tmp_path, data):
    (tmp_path / "01.jsonl.xz").write_bytes(data)
    with pytest.raises(UsageError, match="srcip-nb record"):
        read(tmp_path / "01.jsonl.xz")


def test_the_format_is_looked_at(tmp_path):
    write(tmp_path / "x", [json.dumps({"format": 99})])
    with pytest.raises(UsageError, match="format 99"):
        read(tmp_path / "x")


def test_what_stands_beside_has_an_order_of_its_own(tmp_path):
    live = RecordingTape(tmp_path / "raw", {"format": 1})
    other = live.beside("workers=3")
    for one, ask, answer in ((live, SET, 1), (other, "GET /a", 2), (other, SET, 3), (live, "GET /a", 4)):
        one.exchange(ask, lambda answer=answer: answer)
    write(tmp_path / "x", (tmp_path / "raw").read_text(encoding="utf-8").splitlines())
    replay = read(tmp_path / "x")
    assert [replay.exchange(SET, nobody), replay.exchange("GET /a", nobody)] == [1, 4]
    for _ in range(2):  # each time from its beginning, wherever the notebook stands
        beside = replay.beside("workers=3")
        assert [beside.exchange("GET /a", nobody), beside.exchange(SET, nobody)] == [2, 3]
    with pytest.raises(NotRecordedError):
        replay.beside("workers=4").exchange("GET /a", nobody)


def test_a_drawn_number_is_told_again():
    assert told(None, "draw a port", lambda: 7) == 7
    assert told(tape(("draw a port", 8)), "draw a port", nobody) == 8


def test_a_moment_in_a_question_does_not_count():
    asked = {question("PATCH", "/x", body=f'{{"restartedAt": "{now}"}}') for now in (
        "2026-11-22T23:05:01.123456+00:00", "2026-11-23T00:00:00Z")}  # fmt: skip
    assert asked == {'PATCH /x {"restartedAt":"now"}'}
