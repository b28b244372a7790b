import pandas as pd

from srcip_nb.observe import endpoint_rows, endpoints, events, frame_of, nodes, pods, service
from tests.cluster_fakes import items, recorded, serving

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
IN_NAMESPACE = "/api/v1/namespaces/seminar"


def test_nodes_are_kubectls_table():
    with serving({("GET", "/api/v1/nodes"): recorded("table-nodes")}) as (_, cluster):
        frame = nodes(cluster)
    assert frame.index.name == "NAME"
    assert list(frame.columns) == [
        *["STATUS", "ROLES", "AGE", "VERSION", "INTERNAL-IP", "EXTERNAL-IP"],
        *["OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"],
    ]
    assert frame.loc["worker01", "INTERNAL-IP"] == "192.168.1.45"


def test_pods_and_service():
    answers = {
        ("GET", f"{IN_NAMESPACE}/pods"): recorded("table-pods"),
        ("GET", f"{IN_NAMESPACE}/services"): recorded("table-services"),
    }
    with serving(answers) as (api, cluster):
        assert dict(pods(cluster, "app=webserver")["NODE"])["webserver-59c5d794d9-rt8fr"] == "worker02"
        assert service(cluster).loc["webserver", "PORT(S)"] == "80:30249/TCP"
        assert [query for _, _, query, _ in api.asked[2:]] == [
            {"labelSelector": "app=webserver"},
            {"fieldSelector": "metadata.name=webserver"},
        ]


def test_an_empty_table_keeps_its_columns():
    frame = frame_of({**recorded("table-pods")[1], "rows": []})
    assert len(frame) == 0
    assert frame.columns[0] == "READY"
    assert frame.dtypes.map(str).unique().tolist() == ["string"]


def test_events_are_in_the_order_of_time():
    table = recorded("table-events")[1]
    shuffled = {**table, "rows": table["rows"][::-1]}
    with serving({("GET", f"{IN_NAMESPACE}/events"): (200, shuffled)}) as (_, cluster):
        frame = events(cluster)
    times = {row["cells"][-1]: row["object"]["metadata"]["creationTimestamp"] for row in table["rows"]}
    seen = [times[name] for name in frame.index]
    assert seen == sorted(seen)
    assert len(set(seen)) > 1


def test_endpoints_one_row_for_each_pod():
    path = "/apis/discovery.k8s.io/v1/namespaces/seminar/endpointslices"
    with serving({("GET", path): recorded("list-endpointslices")}) as (api, cluster):
        frame = endpoints(cluster)
        assert api.asked[-1][2] == {"labelSelector": "kubernetes.io/service-name=webserver"}
    assert dict(zip(frame["ADDRESS"], frame["NODE"], strict=True)) == {"10.0.5.2": "worker01", "10.0.30.66": "worker02"}
    assert frame["READY"].all()
    assert frame["PORTS"].unique().tolist() == ["80"]


def test_conditions_that_are_not_set():
    rows = endpoint_rows([{"endpoints": [{"addresses": ["10.0.5.2"], "conditions": {}}], "ports": []}])
    assert rows == [("10.0.5.2", "10.0.5.2", "", True, True, False, "")]
    terminating = {"addresses": ["10.0.5.2"], "conditions": {"ready": False, "serving": True, "terminating": True}}
    assert endpoint_rows([{"endpoints": [terminating]}])[0][3:6] == (False, True, True)


def test_no_endpoints():
    path = "/apis/discovery.k8s.io/v1/namespaces/seminar/endpointslices"
    with serving({("GET", path): (200, {"items": []})}) as (_, cluster):
        frame = endpoints(cluster)
    assert len(frame) == 0
    assert isinstance(frame["READY"].dtype, pd.BooleanDtype)
    assert items("endpointslices")
