"""All that is ours goes, nothing else does, and a listing proves it."""

import copy
from urllib.parse import unquote

from srcip_nb.clean import clean, kinds_of, proof
from tests.cluster_fakes import serving

MANAGED = {"app.kubernetes.io/managed-by": "srcip-nb"}
ROUTES = "/apis/routes.example/v1"
DISCOVERY = {
    "/apis": {"groups": [{"name": "routes.example", "preferredVersion": {"groupVersion": "routes.example/v1"}}]},
    "/api/v1": {
        "resources": [
            {"name": "namespaces", "namespaced": False, "verbs": ["list", "delete"]},
            {"name": "nodes", "namespaced": False, "verbs": ["list", "delete"]},
            {"name": "services", "namespaced": True, "verbs": ["list", "delete"]},
            {"name": "services/status", "namespaced": True, "verbs": ["list", "delete"]},
            {"name": "configmaps", "namespaced": True, "verbs": ["list", "delete"]},
            {"name": "bindings", "namespaced": True, "verbs": ["create"]},
        ]
    },
    ROUTES: {"resources": [{"name": "routes", "namespaced": True, "verbs": ["list", "delete"]}]},
}


class Api:
    """Objects by path; a namespace's end takes what is in it along."""

    def __init__(self) -> None:
        self.objects: dict[str, dict] = {}
        self.forbidden: set[str] = set()
        self.stuck: set[str] = set()

    def add(self, base: str, name: str, labels: dict | None = None, **metadata) -> str:
        parts = base.split("/namespaces/")
        namespace = {"namespace": parts[1].split("/")[0]} if len(parts) > 1 else {}
        path = f"{base}/{name}"
        body = {"metadata": {"name": name, "labels": labels or {}, "uid": path, **namespace, **metadata}}
        self.objects[path] = body
        return path

    def list(self, path: str, query: dict):
        if path.rsplit("/", 1)[1] in self.forbidden:
            return 403, {"message": "forbidden", "reason": "Forbidden"}
        wanted = dict(term.split("=") for term in unquote(query.get("labelSelector", "")).split(",") if term)
        base, _, kind = path.rpartition("/")
        found = []
        for key, body in self.objects.items():
            root, _, rest = key.partition("/namespaces/")
            is_namespace = "/" not in rest and key.startswith("/api/v1/namespaces/")
            home = "/api/v1" if is_namespace else key.rsplit("/", 2)[0]
            is_of_kind = (kind == "namespaces") == is_namespace and (is_namespace or key.rsplit("/", 2)[1] == kind)
            in_place = home == base or (not is_namespace and root == base)
            if is_of_kind and in_place and wanted.items() <= body["metadata"]["labels"].items():
                found.append(copy.deepcopy(body))
        return 200, {"items": found}

    def delete(self, path: str, sent):
        assert sent["preconditions"] == {"uid": path}
        if path in self.stuck:
            self.objects[path]["metadata"]["finalizers"] = ["example/hold"]
        else:
            owned = {
                key
                for key, body in self.objects.items()
                if any(owner["uid"] == path for owner in body["metadata"].get("ownerReferences", []))
            }
            for key in [key for key in self.objects if key == path or key.startswith(f"{path}/") or key in owned]:
                del self.objects[key]
        return 200, {"status": "Success"}


class Answers(dict):
    """Every path of an Api, without knowing them beforehand."""

    def __init__(self, api: Api) -> None:
        super().__init__()
        self.api = api

    def keys(self):
        return []

    def get(self, key, default=None):
        method, path = key
        if path in DISCOVERY and method == "GET":
            return 200, DISCOVERY[path]
        if method == "DELETE":
            return lambda query, sent: self.api.delete(path, sent)
        if path in self.api.objects:
            return 200, self.api.objects[path]
        is_list = method == "GET" and path.rsplit("/", 1)[1] in {
            "namespaces",
            "nodes",
            "services",
            "configmaps",
            "routes",
        }
        return (lambda query, sent: self.api.list(path, query)) if is_list else default


def seminar(api: Api, name: str = "seminar", run: str = "0000000a") -> dict:
    labels = {**MANAGED, "srcip-nb/run": run}
    home = f"/api/v1/namespaces/{name}"
    api.add("/api/v1/namespaces", name, labels)
    api.add(f"{home}/configmaps", "kube-root-ca.crt")
    api.add(f"{home}/services", "webserver", labels)
    api.add(f"{ROUTES}/namespaces/{name}/routes", "way", labels)
    return labels


def cleaned(api: Api, *namespaces: str, **options):
    with serving({}) as (fake, cluster):
        known = dict(fake.answers)
        fake.answers = Answers(api)
        assert known
        fake.asked.clear()
        frame = clean(cluster, namespaces, **options)
        return frame, [path for path in fake.paths("DELETE")]


def test_all_that_is_ours_goes_of_every_kind_and_nothing_else():
    api = Api()
    seminar(api)
    theirs = api.add("/api/v1/namespaces/default/services", "kubernetes")
    similar = api.add("/api/v1/namespaces/default/services", "web", {"app.kubernetes.io/managed-by": "Helm"})
    frame, deleted = cleaned(api)
    assert set(api.objects) == {theirs, similar}
    assert set(frame["result"]) == {"removed"}
    assert sorted(frame["kind"]) == ["namespaces", "routes.routes.example", "services"]
    assert set(frame["run"]) == {"0000000a"}
    assert deleted[-1] == "/api/v1/namespaces/seminar", "the namespace goes last"
    assert "5 kinds of objects listed in the whole cluster: nothing." in proof(frame, ())


def test_our_namespace_with_their_things_in_it_stays():
    api = Api()
    seminar(api)
    theirs = api.add(f"{ROUTES}/namespaces/seminar/routes", "somebodys")
    frame, _ = cleaned(api)
    assert set(api.objects) == {
        "/api/v1/namespaces/seminar",
        theirs,
        "/api/v1/namespaces/seminar/configmaps/kube-root-ca.crt",
    }
    (left,) = frame.loc[frame["kind"] == "namespaces", "result"]
    assert left == "left: it holds what srcip-nb did not create (routes.routes.example somebodys)"
    assert "namespaces seminar" in proof(frame, ())


def test_one_participants_and_one_runs():
    api = Api()
    seminar(api)
    seminar(api, "seminar-07", "0000000b")
    before = set(api.objects)
    frame, deleted = cleaned(api, dry_run=True)
    assert (len(frame), deleted, set(api.objects)) == (6, [], before)
    cleaned(api, run="0000000c")
    assert set(api.objects) == before
    frame, _ = cleaned(api, "seminar-07", "seminar-07-matrix")
    assert set(frame["run"]) == {"0000000b"}
    assert not any("seminar-07" in path for path in api.objects)
    assert any(path == "/api/v1/namespaces/seminar/services/webserver" for path in api.objects)
    cleaned(api, run="0000000a")
    assert api.objects == {}


def test_what_cannot_be_seen_or_does_not_go_is_said():
    api = Api()
    seminar(api)
    api.forbidden = {"routes"}
    api.stuck = {"/api/v1/namespaces/seminar/services/webserver", "/api/v1/namespaces/seminar"}
    frame, _ = cleaned(api, timeout=0)
    assert frame.attrs["not_looked_at"] == ["routes.routes.example"]
    assert "still there: it waits for example/hold" in set(frame["result"])
    words = proof(frame, ())
    assert "services seminar/webserver" in words
    assert "Not listed, since these credentials may not: routes.routes.example." in words


def test_what_has_an_owner_goes_with_it_and_needs_no_right_to_be_deleted():
    api = Api()
    labels = seminar(api)
    owner = {"uid": "/api/v1/namespaces/seminar/services/webserver"}
    owned = api.add(f"{ROUTES}/namespaces/seminar/routes", "owned", labels, ownerReferences=[owner])
    _, deleted = cleaned(api)
    assert owned not in deleted
    assert api.objects == {}


def test_kinds():
    with serving({}) as (fake, cluster):
        fake.answers = Answers(Api())
        assert [str(kind) for kind in kinds_of(cluster)] == [
            *["namespaces", "nodes", "services", "configmaps", "routes.routes.example"]
        ]


def test_where_no_lab_runs_there_is_nothing_to_remove(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("SRCIP_STATE_DIR", str(tmp_path))
    done = cli("clean")
    assert (done.returncode, done.stdout) == (0, "no lab runs: there is nothing to remove\n")
    assert list(tmp_path.iterdir()) == [], "and none was started"
