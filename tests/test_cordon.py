"""Nodes that take no pods for a while, and a lab beside the course's."""

import os

import pytest

from srcip_nb.cordon import cordon
from srcip_nb.errors import UsageError
from srcip_nb.lab.state import running_labs
from srcip_nb.second_lab import end_second_labs, second_lab


class Real:
    """As much of a real cluster as is asked before anything is touched."""

    lab = None

    class world:  # noqa: N801
        name = "prod"


def test_a_real_clusters_nodes_are_left_alone():
    with pytest.raises(UsageError, match="not for srcip-nb to cordon") as caught:
        cordon(Real(), "worker01")
    assert caught.value.remedy == "If it is yours: kubectl --context prod cordon worker01"


def test_beside_a_real_cluster_there_is_no_second_lab(capsys, monkeypatch):
    monkeypatch.setenv("SRCIP_LANG", "en")
    assert second_lab(Real()) is None
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.lab
def test_cordon_and_uncordon(cluster):
    assert "SchedulingDisabled" in cluster.cordon("worker02").loc["worker02", "STATUS"]
    assert cluster.uncordon("worker02").loc["worker02", "STATUS"] == "Ready"
    with pytest.raises(UsageError, match="no node 'worker99'"):
        cluster.cordon("worker99")


@pytest.mark.lab
def test_a_second_lab_is_one_however_often_it_is_asked_for(cluster):
    known = {lab.name for lab in running_labs()}
    try:
        second = second_lab(cluster, workers=1, announce="bgp")
        again = second_lab(cluster, workers=1, announce="bgp")
        assert second.lab.name == again.lab.name != cluster.lab.name == os.environ["SRCIP_LAB"]
        assert {lab.name for lab in running_labs()} - known == {second.lab.name}
    finally:
        end_second_labs()
    assert {lab.name for lab in running_labs()} <= known
