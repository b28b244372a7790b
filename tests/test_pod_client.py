"""Requests from pods of a real cluster: the script in a real shell, with a curl made for the test."""

import subprocess

from srcip_nb.pod_client import read_results, script_of

CURL = """\
#!/bin/sh
for word; do [ "$before" = -o ] && file=$word; before=$word; done
case $word in
*dead*) printf '10.0.5.2 000 0.001'; exit 7 ;;
*slow*) printf ' 000 1.000'; exit 28 ;;
*) printf 'remote_addr 10.0.5.3\\n%s' "$*" >"$file"; printf '10.0.5.2 200 0.004' ;;
esac
"""


def results(tmp_path, requests, concurrency=2):
    curl = tmp_path / "curl"
    curl.write_text(CURL)
    curl.chmod(0o755)
    argv = ["sh", "-c", script_of(requests, concurrency, 0.5)]
    done = subprocess.run(argv, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True)
    return {result["id"]: result for result in read_results(done.stdout)}


def request(number, url, **headers):
    return {"id": number, "url": url, "headers": headers}


def test_answers_and_errors_as_a_lab_has_them(tmp_path):
    asked = [request(3, "http://a/?x=1&y=2", Via="it's"), request(4, "http://dead/"), request(5, "http://slow/")]
    found = results(tmp_path, asked)
    assert sorted(found) == [3, 4, 5]
    assert (found[3]["status"], found[3]["error"], found[3]["client_ip"]) == (200, "", "10.0.5.2")
    assert found[3]["body"].startswith("remote_addr 10.0.5.3\n")
    assert "-H Via: it's http://a/?x=1&y=2" in found[3]["body"]
    assert found[3]["latency_ms"] == 4.0 and found[3]["sent_at"] > 10**18
    assert (found[4]["status"], found[4]["error"], found[4]["client_ip"]) == (None, "refused", "10.0.5.2")
    assert (found[5]["status"], found[5]["error"], found[5]["client_ip"]) == (None, "timeout", "")


def test_other_lines_are_passed_over():
    assert list(read_results("warning: something\nsrcip-nb 1\n\n")) == []


def test_a_shell_without_curl_says_so(tmp_path):
    done = subprocess.run(
        ["sh", "-c", script_of([request(1, "http://a/")], 8, 1).replace("curl -s", "no-such-curl -s")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [result["error"] for result in read_results(done.stdout)] == ["curl 127"]
