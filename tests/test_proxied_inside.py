"""Requests by way of a proxy and from inside: what is read and counted, and the same on a lab's kernel."""

import pandas as pd
import pytest

from srcip_nb import checks, inside, proxied
from srcip_nb.errors import UsageError
from srcip_nb.in_force import patch_service
from srcip_nb.manifest_files import STEPS, lesson_objects, manifest_text
from srcip_nb.rest import ApiAnswerError
from tests.lesson_frames import KEPT, W1, W2, frame

NODES = pd.Series({"a": "worker01", "b": "worker02"})


def two_visitors(first, second) -> pd.DataFrame:
    frames = [frame("Cluster", list(first)).assign(client="a"), frame("Cluster", list(second)).assign(client="b")]
    return pd.concat(frames, ignore_index=True)


def test_answers_are_read_by_nginxs_names():
    read = proxied.read_answer("remote_addr 10.0.5.2\nproxy_protocol_addr \nhttp_x_forwarded_for a, b\n")
    assert read == {"remote_addr": "10.0.5.2", "proxy_protocol_addr": "", "http_x_forwarded_for": "a, b"}
    assert proxied.read_answer("") == {}


@pytest.mark.parametrize("name", STEPS)
def test_manifests_of_later_steps_go_where_the_caller_says(name):
    assert "managed-by" not in manifest_text(name)
    first, *rest = lesson_objects("other", name)
    assert (first["kind"], first["metadata"]["name"]) == ("Namespace", "other")
    assert {body["metadata"]["namespace"] for body in rest} == {"other"}


def test_visitors_are_counted_one_by_one():
    table = inside.by_visitor(two_visitors([W1, W1, W2], ["timeout", W2]), NODES)
    assert table.loc["a"].tolist() == ["worker01", 3, 0, "worker01, worker02", 2, "10.0.5.0, 192.168.1.45"]
    assert table.loc["b"].tolist() == ["worker02", 1, 1, "worker02", 1, "10.0.5.0"]


def test_near_means_there_and_nowhere_else():
    places = {"worker01": "zone-a", "worker02": "zone-b"}
    assert checks.stayed_near(inside.by_visitor(two_visitors([W1], [W2]), NODES), places)
    assert not checks.stayed_near(inside.by_visitor(two_visitors([W1, W2], [W2]), NODES), places)
    far_but_alone = inside.by_visitor(two_visitors([W1], [W1]), NODES)  # worker02 has no pod of the Service
    assert checks.stayed_near(far_but_alone, places)
    assert checks.stayed_near(far_but_alone, {"worker01": pd.NA, "worker02": pd.NA})


def test_one_pod_for_each_address():
    df = two_visitors([W1, W1], [W2, W2])
    assert checks.one_pod_each(df, {"a": "10.0.5.3", "b": "10.0.30.67"})
    assert not checks.one_pod_each(df, {"a": "192.168.1.45", "b": "192.168.1.45"})
    assert not checks.one_pod_each(two_visitors(["timeout"], ["timeout"]), {"a": "1", "b": "2"})


def test_whose_address_was_logged():
    assert checks.logged_as(frame("Local", [KEPT, KEPT]), "192.168.1.122")
    assert not checks.logged_as(frame("Local", [KEPT, W1]), "192.168.1.122")
    assert not checks.logged_as(frame("Local", ["timeout"]), "192.168.1.122")
    assert checks.logged_as_node(frame("Cluster", [W1, W2]), "worker01")
    assert not checks.logged_as_node(frame("Cluster", [W1, KEPT]), "worker01")
    assert not checks.logged_as_node(frame("Cluster", ["timeout"]), "worker01")


def test_by_way_of_the_proxy_or_past_it():
    seen = pd.DataFrame({"connection_from": pd.array(["10.0.5.2", "10.0.5.2"], dtype="string")})
    mixed = pd.DataFrame({"connection_from": pd.array(["10.0.5.2", "10.0.5.0"], dtype="string")})
    assert checks.by_way_of(seen, "10.0.5.2", True) and not checks.by_way_of(seen, "10.0.5.2", False)
    assert not checks.by_way_of(mixed, "10.0.5.2", True) and not checks.by_way_of(mixed, "10.0.5.2", False)
    assert not checks.by_way_of(seen.iloc[:0], "10.0.5.2", True)


@pytest.fixture(scope="module")
def behind_proxy(lab):
    from srcip_nb import connect

    cluster = connect(lab=lab, namespace="test-proxy", quiet=True)
    cluster.apply("proxy.yaml")
    proxied.wait_proxy(cluster)
    yield cluster
    cluster.delete()


@pytest.mark.lab
def test_only_a_trusted_proxys_word_counts(behind_proxy):
    forged = {"X-Forwarded-For": "203.0.113.7"}
    proxy = proxied.proxy_address(behind_proxy)
    logged = {}
    for trusted in (proxied.NOBODY, proxied.EVERYBODY, proxy):
        proxied.trust(behind_proxy, trusted)
        for port in (proxied.HTTP, proxied.STREAM):
            seen = proxied.visit_proxy(behind_proxy, 4, port, headers=forged)
            assert set(seen["connection_from"]) == {proxy}
            (logged[trusted, port],) = set(seen["source_ip"])
    client = "192.168.1.122"
    assert logged == {
        (proxied.NOBODY, 80): proxy,
        (proxied.NOBODY, 8080): proxy,
        (proxied.EVERYBODY, 80): "203.0.113.7",
        (proxied.EVERYBODY, 8080): client,
        (proxy, 80): client,
        (proxy, 8080): client,
    }


@pytest.mark.lab
def test_ip_mode_decides_whether_pods_pass_the_proxy(behind_proxy):
    visitor = behind_proxy.list("pods", labels="app=visitor")[0]["metadata"]["name"]
    proxy = proxied.proxy_address(behind_proxy)
    for mode, passes in (("VIP", False), ("Proxy", True), ("VIP", False)):
        assert f"ipMode: {mode}" in proxied.set_ip_mode(behind_proxy, "fronted", mode)
        seen = proxied.visit_proxy(behind_proxy, 4, target=f"{proxy}:80", client=visitor)
        assert set(seen["connection_from"] == proxy) == {passes}
    with pytest.raises(UsageError, match="ipMode cannot be 'Direct'"):
        proxied.set_ip_mode(behind_proxy, "fronted", "Direct")


@pytest.mark.lab
def test_what_the_proxy_has_not_is_said(behind_proxy):
    with pytest.raises(UsageError, match="no port 81"):
        proxied.visit_proxy(behind_proxy, 1, 81)
    with pytest.raises(UsageError, match="has no 'nginx'"):
        proxied.nginx_conf(behind_proxy, "proxy-conf", "nginx")
    assert proxied.visit_proxy(behind_proxy, 2, target="nodeport")["status"].tolist() == [200, 200]


@pytest.mark.lab
def test_fields_of_a_service_are_in_force_when_the_call_returns(behind_proxy):
    change = patch_service(behind_proxy, "backend", marker="proxy", trafficDistribution="PreferSameNode")
    assert str(change) == "trafficDistribution: PreferSameNode\n"
    assert inside.hints(behind_proxy, "backend")["FOR NODES"].notna().all()
    visitor = inside.visitors(behind_proxy)
    seen = inside.visit_from(behind_proxy, visitor.index, 6, service="backend")
    assert set(seen["node"].astype(str)) == set(visitor["NODE"])
    taken_away = patch_service(behind_proxy, "backend", marker="proxy", trafficDistribution=None)
    assert str(taken_away) == "trafficDistribution: null\n"
    assert inside.hints(behind_proxy, "backend")["FOR NODES"].isna().all()
    with pytest.raises(ApiAnswerError, match="trafficDistribution"):
        patch_service(behind_proxy, "backend", marker="proxy", trafficDistribution="Near")


@pytest.mark.lab
def test_without_an_external_address_the_way_in_is_a_node_port_and_that_is_said(behind_proxy, capsys):
    objects = lesson_objects(behind_proxy.namespace, "proxy.yaml")
    (body,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == ("Service", "proxy")]
    body["spec"]["loadBalancerClass"] = "nobody.example/serves"
    services = f"/api/v1/namespaces/{behind_proxy.namespace}/services"
    behind_proxy.request("DELETE", f"{services}/proxy")
    behind_proxy.request("POST", services, body)
    proxied.trust(behind_proxy, proxied.NOBODY)  # in force once every node has the new Service too
    seen = [proxied.visit_proxy(behind_proxy, 2, port) for port in (proxied.HTTP, proxied.STREAM)]
    seen.append(inside.visit_from(behind_proxy, ["client"], 2, service="proxy", target=None))
    assert [list(one["status"]) for one in seen] == [[200, 200]] * 3
    assert capsys.readouterr().out.count("no load balancer gave an address; the node port of") == 3
