"""Every road into a Service: expected beside observed in the same words, and a row that does not hold is seen."""

from collections import Counter

import pytest

from srcip_nb import checks, notebook
from srcip_nb.client_pods import HOST_VISITOR, VISITOR, ask_on, client_pods, pod_object
from srcip_nb.expect import ANSWERED, DROPPED, Expectation, Source, World
from srcip_nb.judge import Answer, Observation
from srcip_nb.roads import expected_words, observed_words


@pytest.fixture(autouse=True)
def _english(monkeypatch):
    monkeypatch.setenv("SRCIP_LANG", "en")
    notebook.begin("00")


def addresses(source: Source) -> list[str]:
    return {"node": ["192.168.1.45"], "tunnel": ["10.0.5.0"]}[source.kind]


def test_expected_and_observed_have_the_same_words():
    masked = Expectation(ANSWERED, {"a": Source("worker01", "node"), "b": Source("worker01", "tunnel")})
    seen = Observation(2, Counter([Answer("a", "192.168.1.45", "1.2.3.4"), Answer("b", "10.0.5.0", "1.2.3.4")]))
    assert expected_words(masked, addresses) == observed_words(seen) == "2 pods answer, source 10.0.5.0, 192.168.1.45"
    kept = Expectation(ANSWERED, {"a": Source("client")})
    seen = Observation(1, Counter([Answer("a", "1.2.3.4", "1.2.3.4")]))
    assert expected_words(kept, addresses, {"1.2.3.4"}) == observed_words(seen) == "1 pod answers, source 1.2.3.4"
    assert expected_words(kept, addresses) == "1 pod answers, source kept"
    dropped = Observation(2, errors=Counter(["timeout", "timeout"]))
    assert expected_words(Expectation(DROPPED), addresses) == observed_words(dropped) == "timeout"


def test_client_pods_differ_in_their_network_alone():
    plain, host = pod_object(VISITOR, "worker01", False), pod_object(HOST_VISITOR, "worker01", True)
    assert "hostNetwork" not in plain["spec"] and host["spec"].pop("hostNetwork") is True
    assert plain["spec"] == host["spec"]


@pytest.fixture(scope="module")
def own(lab):
    """Two web servers, a Service of each type, and the client pods."""
    from srcip_nb import connect

    cluster = connect(lab=lab, namespace="roads", quiet=True)
    cluster.apply("ns.yaml", "configmap_html.yaml", "deployment.yaml")
    cluster.expose("inner")
    cluster.expose("outer", "LoadBalancer")
    client_pods(cluster, "worker01")
    yield cluster
    cluster.delete()


CLIENTS = ["client", "worker01", VISITOR, HOST_VISITOR]


@pytest.mark.lab
def test_expose_returns_when_it_answers(own):
    assert own.expose("inner").loc["inner", "TYPE"] == "ClusterIP"
    seen = own.visit(4, VISITOR, target="clusterip", service="inner", progress=False)
    assert (seen["status"] == 200).all() and seen["preserved"].all()
    assert set(own.endpoints().index) == set()  # there is no Service of the lesson's name here
    assert len(own.pods()) == 4


@pytest.mark.lab
def test_a_node_is_asked_what_it_tells_itself_alone(own):
    assert ask_on(own, "worker01", "http://127.0.0.1:10249/proxyMode") == own.lab.info()["proxy_mode"]
    assert ask_on(own, "worker01", "http://127.0.0.1:9/") == "refused"


@pytest.mark.lab
def test_a_step_apart_has_a_namespace_of_its_own_in_a_lab(lab):
    from srcip_nb import connect

    assert connect(lab=lab, namespace="seminar-07", apart="proxy", quiet=True).namespace == "seminar-07-proxy"


@pytest.mark.lab
@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_every_road_is_as_the_oracle_says(own, policy):
    own.policy(policy, service="outer")
    table = own.roads("outer", CLIENTS)
    assert table["holds"].all(), table[~table["holds"]].to_string()
    assert table["client"].nunique() == len(CLIENTS)
    rows = table.set_index(["client", "asks"])
    assert ("client", "ClusterIP") not in rows.index
    assert rows.loc[("client", "LoadBalancer"), "kept"] == (policy == "Local")
    assert rows.loc[(VISITOR, "LoadBalancer"), "kept"] == (policy == "Local")
    assert rows.loc[(VISITOR, "ClusterIP"), "kept"] == True  # noqa: E712 - NA must fail too
    assert (rows["observed"] == "timeout").sum() == (len(CLIENTS) if policy == "Local" else 0)
    assert checks.as_expected(table)


@pytest.mark.lab
def test_a_row_that_differs_is_told(own, monkeypatch):
    """Believing another pod network, the oracle expects other addresses than the kernel gives."""
    own.policy("Cluster", service="outer")
    monkeypatch.setattr("srcip_nb.roads._world", lambda cluster: World("iptables", "flannel"))
    table = own.roads("outer", ["client"])
    assert not table["holds"].all()
    assert "✗" in repr(checks.as_expected(table))
