"""Logs of pods that a real kernel serves and real nginx writes."""

from __future__ import annotations

import pytest

from srcip_nb.logs import logs
from srcip_nb.logs_follow import follow
from srcip_nb.rest import path_of

pytestmark = pytest.mark.lab


def test_each_request_is_logged_once_while_pods_come_and_go(cluster):
    cluster.apply()
    cluster.wait_ready()
    with follow(cluster) as lines:
        first = cluster.visit(20)["run"].iloc[0]
        assert sorted(lines.wait_for(20, run=first)["request"]) == list(range(20))
        gone = cluster.list("pods")[0]["metadata"]["name"]
        cluster.request("DELETE", path_of("pods", cluster.namespace, gone))
        cluster.wait_ready()
        second = cluster.visit(20)["run"].iloc[0]
        frame = lines.wait_for(20, run=second)
        assert sorted(frame["request"]) == list(range(20))
        assert gone not in set(frame["pod"])
        assert len(lines.rows(first)) == 20
        assert lines.errors == []
    assert set(lines.rows()["kind"]) <= {"access_main", "error_process", "entrypoint"}


def test_read_and_followed_are_the_same_table(cluster):
    cluster.apply()
    cluster.wait_ready()
    run = cluster.visit(10)["run"].iloc[0]
    with follow(cluster) as lines:
        followed = lines.wait_for(10, run=run)
        followed = lines.rows()
    read = logs(cluster)
    assert read["kind"].value_counts()["access_main"] == 10
    assert followed.equals(read)
