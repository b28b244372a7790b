import copy

import pytest
import yaml

from srcip_nb.apply import apply, delete
from srcip_nb.errors import ManifestError, NotFinishedError, UsageError
from srcip_nb.manifest_files import LESSON, lesson_objects, manifest_text, parse_yaml, read_manifests
from srcip_nb.rest import ApiAnswerError
from srcip_nb.rollout import rollout_state, service_address, trouble, wait_ready
from tests.cluster_fakes import FakeLab, items, recorded, serving

OURS = {"app.kubernetes.io/managed-by": "srcip-nb"}
NAMESPACE = "/api/v1/namespaces/seminar"
PATHS = [
    NAMESPACE,
    f"{NAMESPACE}/configmaps/indexhtml",
    "/apis/apps/v1/namespaces/seminar/deployments/webserver",
    f"{NAMESPACE}/services/webserver",
]


# -- manifests --------------------------------------------------------------------------------------------------------


def test_the_lesson_is_the_posts():
    namespace, page, deployment, service = lesson_objects()
    assert [body["kind"] for body in (namespace, page, deployment, service)] == [
        *["Namespace", "ConfigMap", "Deployment", "Service"]
    ]
    html = page["data"]["index.html"]
    assert "<title>20231008 k8sセミナー</title>" in html
    assert "Thnak you for joining today's seminer!" in html
    assert len(html.encode()) == 292  # "GET / HTTP/1.1" 200 292 in the post's log
    assert service["spec"] == {
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "selector": {"app": "webserver"},
        "externalTrafficPolicy": "Cluster",
        "type": "LoadBalancer",
    }
    assert "managed-by" not in "".join(manifest_text(name) for name in LESSON)


def test_the_lesson_in_another_namespace():
    bodies = lesson_objects("seat-1")
    assert bodies[0]["metadata"]["name"] == "seat-1"
    assert {body["metadata"]["namespace"] for body in bodies[1:]} == {"seat-1"}


def test_sources_of_manifests(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = yaml.safe_load(manifest_text("configmap_html.yaml"))
    (tmp_path / "b.yaml").write_text(manifest_text("ns.yaml"))
    (tmp_path / "a.json").write_text('{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}')
    (tmp_path / "notes.txt").write_text("not a manifest")
    kinds = [b["kind"] for b in read_manifests(tmp_path, page, [page], "service.yaml", manifest_text("ns.yaml"))]
    assert kinds == ["Service", "Namespace", "ConfigMap", "ConfigMap", "Service", "Namespace"]


def test_documents_and_lists_are_taken_apart():
    text = (
        "---\n\n---\napiVersion: v1\nkind: List\nitems:\n" + "- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n" * 2
    )
    assert len(parse_yaml(text, "x")) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("apiVersion: v1\nkind: Service\n  name: x\n", r"line 3, column \d+: mapping values are not allowed here"),
        ("apiVersion: v1\nkind: Pod\nkind: Service\n", 'line 3, column 1: key "kind" already set'),
        ("apiVersion: v1\nmetadata: {name: x}\n", "kind not set"),
        ("kind: Service\nmetadata: {name: x}\n", "apiVersion not set"),
        ("apiVersion: v1\nkind: Service\n", "Service without metadata.name"),
        ("just words\nand more\n", "is no Kubernetes object"),
        ("a: !!python/object:os.system x\n", "could not determine a constructor"),
    ],
)
def test_what_is_no_manifest(text, words):
    with pytest.raises(ManifestError, match=words):
        read_manifests(text)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ManifestError, match=r"none.yaml cannot be read"):
        read_manifests(tmp_path / "none.yaml")
    with pytest.raises(ManifestError, match="holds no manifests"):
        read_manifests(tmp_path)
    with pytest.raises(ManifestError, match="7 is no manifest"):
        read_manifests(7)


# -- apply ------------------------------------------------------------------------------------------------------------


class Store:
    """A cluster that keeps what is applied, as far as apply and delete look at it."""

    def __init__(self, *paths: str, labels=None) -> None:
        self.objects = {path: self.body(path, labels) for path in paths}
        self.refused: dict[str, tuple[int, dict]] = {}
        self.version = 0

    @staticmethod
    def body(path: str, labels=None) -> dict:
        return {"metadata": {"name": path.rsplit("/", 1)[1], "labels": labels or {}, "resourceVersion": "0"}}

    def answers(self) -> dict:
        answers = {
            ("GET", "/api/v1"): recorded("discovery-core_v1"),
            ("GET", "/apis/apps/v1"): recorded("discovery-apps_v1"),
        }
        for path in PATHS:
            answers["GET", path] = lambda query, sent, path=path: self.get(path)
            answers["PATCH", path] = lambda query, sent, path=path: self.patch(path, query, sent)
            answers["DELETE", path] = lambda query, sent, path=path: self.delete(path)
            collection = path.rsplit("/", 1)[0]
            answers["GET", collection] = lambda query, sent, collection=collection: self.list(collection, query)
        answers["GET", f"{NAMESPACE}/pods"] = (200, {"items": []})
        answers["GET", "/apis/discovery.k8s.io/v1/namespaces/seminar/endpointslices"] = (200, {"items": []})
        return answers

    def get(self, path):
        return (200, copy.deepcopy(self.objects[path])) if path in self.objects else None

    def patch(self, path, query, sent):
        assert query["fieldManager"] == "srcip-nb"
        assert (query["force"], query["fieldValidation"]) == ("true", "Strict")
        if path in self.refused:
            return self.refused[path]
        if path != NAMESPACE and NAMESPACE not in self.objects:
            return 404, {"message": 'namespaces "seminar" not found', "reason": "NotFound"}
        if query.get("dryRun"):
            return 200, sent
        before = self.objects.get(path)
        changed = before is None or before.get("sent") != sent
        self.version += changed
        version = str(self.version) if changed else before["metadata"]["resourceVersion"]
        self.objects[path] = {**sent, "metadata": {**sent["metadata"], "resourceVersion": version}, "sent": sent}
        return (201 if before is None else 200), self.objects[path]

    def delete(self, path):
        if path == NAMESPACE:
            self.objects.clear()
        return (200, {"status": "Success"}) if path == NAMESPACE or self.objects.pop(path, None) else None

    def list(self, collection, query):
        wanted = query.get("labelSelector")
        found = [b for p, b in self.objects.items() if p.rsplit("/", 1)[0] == collection]
        ours = [b for b in found if (b["metadata"].get("labels") or {}).items() >= OURS.items()]
        return 200, {"items": ours if wanted else found}


def test_created_then_unchanged_then_configured():
    store = Store()
    with serving(store.answers()) as (_, cluster):
        assert apply(cluster).to_dict("records") == [
            {"kind": "Namespace", "name": "seminar", "namespace": "", "result": "created"},
            {"kind": "ConfigMap", "name": "indexhtml", "namespace": "seminar", "result": "created"},
            {"kind": "Deployment", "name": "webserver", "namespace": "seminar", "result": "created"},
            {"kind": "Service", "name": "webserver", "namespace": "seminar", "result": "created"},
        ]
        assert set(apply(cluster)["result"]) == {"unchanged"}
        changed = manifest_text("service.yaml").replace("Policy: Cluster", "Policy: Local")
        assert apply(cluster, changed)["result"].tolist() == ["configured"]
    assert all(body["metadata"]["labels"].items() >= OURS.items() for body in store.objects.values())


def test_namespaces_go_first():
    store = Store()
    with serving(store.answers()) as (_, cluster):
        assert apply(cluster, *reversed(LESSON))["kind"].tolist() == ["Namespace", "Service", "Deployment", "ConfigMap"]


def test_an_unknown_field_leaves_nothing_behind():
    store = Store()
    store.refused[PATHS[3]] = recorded("error-400-unknown-field-strict")
    with (
        serving(store.answers()) as (api, cluster),
        pytest.raises(ManifestError, match=r'service/webserver: .*strict decoding error: unknown field "dta"'),
    ):
        apply(cluster)
    assert store.objects == {}
    assert all(query.get("dryRun") == "All" for method, _, query, _ in api.asked if method == "PATCH")


def test_a_value_refused_only_once_the_namespace_is_there_leaves_nothing_behind():
    store = Store()
    answers = store.answers()

    def service(query, sent):
        return recorded("error-422-policy") if NAMESPACE in store.objects else store.patch(PATHS[3], query, sent)

    answers["PATCH", PATHS[3]] = service
    with serving(answers) as (_, cluster), pytest.raises(ManifestError, match="Unsupported value"):
        apply(cluster)
    assert store.objects == {}


def test_a_namespace_that_is_missing_and_not_applied():
    with (
        serving(Store().answers()) as (_, cluster),
        pytest.raises(ApiAnswerError, match='namespaces "seminar" not found'),
    ):
        apply(cluster, "service.yaml")


def test_an_unknown_kind():
    with (
        serving(Store().answers()) as (_, cluster),
        pytest.raises(ManifestError, match='no matches for kind "Pond" in version "v1"'),
    ):
        apply(cluster, {"apiVersion": "v1", "kind": "Pond", "metadata": {"name": "x"}})
    with (
        serving(Store().answers()) as (_, cluster),
        pytest.raises(ManifestError, match=r'kind "Route" in version "none.example/v1"'),
    ):
        apply(cluster, {"apiVersion": "none.example/v1", "kind": "Route", "metadata": {"name": "x"}})


def test_what_others_created_is_left_alone_on_a_real_cluster_only():
    store = Store(*PATHS)
    with (
        serving(store.answers()) as (_, cluster),
        pytest.raises(UsageError, match="namespace/seminar exists and was not created by srcip-nb"),
    ):
        apply(cluster)
    assert store.version == 0
    with serving(store.answers(), lab=FakeLab()) as (_, cluster):
        assert set(apply(cluster)["result"]) == {"configured"}


# -- delete -----------------------------------------------------------------------------------------------------------


def test_delete_takes_all_that_is_ours():
    store = Store(*PATHS, labels=OURS)
    with serving(store.answers()) as (_, cluster):
        frame = delete(cluster)
    assert store.objects == {}
    assert frame["kind"].tolist() == ["services", "deployments", "configmaps", "namespaces"]
    assert set(frame["result"]) == {"deleted"}


def test_delete_twice_is_no_error():
    with serving(Store().answers()) as (_, cluster):
        assert delete(cluster).empty


def test_delete_leaves_what_is_not_ours():
    store = Store(*PATHS, labels=OURS)
    store.objects[PATHS[1]] = Store.body(PATHS[1])
    with serving(store.answers()) as (api, cluster):
        frame = delete(cluster)
        assert api.paths("DELETE") == [PATHS[3], PATHS[2]]
    assert set(store.objects) == {NAMESPACE, PATHS[1]}
    assert frame["result"].iloc[-1] == "left: it holds what srcip-nb did not create (configmaps/indexhtml)"


# -- wait_ready -------------------------------------------------------------------------------------------------------


def deployment(generation=1, **status) -> dict:
    body = copy.deepcopy(recorded("get-deployment")[1])
    body["metadata"]["generation"] = generation
    body["status"] = status
    return body


@pytest.mark.parametrize(
    ("body", "state"),
    [
        (deployment(2, observedGeneration=1), "waiting for deployment spec update to be observed"),
        (deployment(observedGeneration=1, updatedReplicas=1), "1 out of 2 new replicas of webserver have been updated"),
        (
            deployment(observedGeneration=1, replicas=3, updatedReplicas=2),
            "1 old replicas of webserver are pending termination",
        ),
        (
            deployment(observedGeneration=1, replicas=2, updatedReplicas=2, availableReplicas=1),
            "1 of 2 updated replicas of webserver are available",
        ),
        (deployment(observedGeneration=1, replicas=2, updatedReplicas=2, availableReplicas=2), ""),
        (recorded("get-deployment")[1], ""),
    ],
)
def test_rollout_state(body, state):
    assert rollout_state(body) == state


REPLICASETS = "/apis/apps/v1/namespaces/seminar/replicasets"


def replicaset(revision: str) -> dict:
    annotations = {"deployment.kubernetes.io/revision": revision}
    return {"metadata": {"annotations": annotations, "labels": {"pod-template-hash": f"hash{revision}"}}}


def waiting_pod(reason: str, message: str) -> dict:
    pod = copy.deepcopy(items("pods")[0])
    pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": reason, "message": message}}
    return pod


def test_trouble_names_what_a_pod_waits_for():
    pod = waiting_pod("ErrImagePull", 'the lab has no image "nginxx"')
    name = pod["metadata"]["name"]
    assert trouble([pod, items("pods")[1]]) == {name: 'ErrImagePull: the lab has no image "nginxx"'}
    assert trouble([pod], only={"ImagePullBackOff"}) == {}
    pod["status"] = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}
    assert trouble([pod]) == {name: "Unschedulable"}


def test_an_image_that_does_not_exist_ends_the_wait_at_once():
    pod = waiting_pod("ImagePullBackOff", "Back-off pulling image")
    stuck = deployment(observedGeneration=1, replicas=2, updatedReplicas=2)
    event = {"reason": "Failed", "message": "the lab has no image nginxx; it has nginx"}
    answers = {
        ("GET", PATHS[2]): (200, stuck),
        ("GET", REPLICASETS): (200, {"items": [replicaset("1"), replicaset("0")]}),
        ("GET", f"{NAMESPACE}/pods"): (200, {"items": [pod]}),
        ("GET", f"{NAMESPACE}/events"): (200, {"items": [event]}),
    }
    words = (
        r"^deployment 'webserver' is not ready \(0 of 2 [^(;]*\); "
        "[^;]*ImagePullBackOff: Back-off[^;]*; event Failed: the lab has no image nginxx; it has nginx. Look closer"
    )
    with serving(answers) as (api, cluster), pytest.raises(NotFinishedError, match=words):
        wait_ready(cluster, timeout=60)
    selectors = {query["labelSelector"] for _, path, query, _ in api.asked if path == f"{NAMESPACE}/pods"}
    assert selectors == {"app=webserver,pod-template-hash=hash1"}, "pods of earlier templates do not count"


def test_time_runs_out_with_the_state_seen():
    answers = {
        ("GET", PATHS[2]): (200, deployment(observedGeneration=1, updatedReplicas=1)),
        ("GET", REPLICASETS): (200, {"items": []}),
    }
    with (
        serving(answers) as (_, cluster),
        pytest.raises(NotFinishedError, match=r"1 out of 2 new replicas .*kubectl describe pods -n seminar"),
    ):
        wait_ready(cluster, timeout=0)


def test_a_pending_address_is_told_and_no_error():
    answers = {("GET", PATHS[2]): recorded("get-deployment"), ("GET", PATHS[3]): recorded("get-service")}
    with serving(answers) as (_, cluster):
        frame = wait_ready(cluster, vip_within=0)
    assert frame["state"].tolist()[0] == "2 of 2 replicas ready"
    assert "EXTERNAL-IP <pending>" in frame["state"].tolist()[1]
    assert "visit() goes by node port 3" in frame["state"].tolist()[1]


def test_the_address_that_came():
    service = copy.deepcopy(recorded("get-service")[1])
    service["status"] = {"loadBalancer": {"ingress": [{"ip": "192.168.1.56"}]}}
    answers = {("GET", PATHS[2]): recorded("get-deployment"), ("GET", PATHS[3]): (200, service)}
    with serving(answers) as (_, cluster):
        assert wait_ready(cluster)["state"].tolist()[1] == "192.168.1.56"
    assert service_address({"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}}) == "lb.example"
    assert service_address({}) == ""
