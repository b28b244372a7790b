"""What bears which label, what may be used, and which image runs."""

import copy

import pytest

from srcip_nb.cluster import Cluster
from srcip_nb.errors import UsageError
from srcip_nb.manifest_files import lesson_objects
from srcip_nb.ownership import GRANTED, marked, require_usable, with_image
from tests.cluster_fakes import FakeLab, serving

NAMESPACE, PAGE, DEPLOYMENT, SERVICE = lesson_objects()
OURS = {"app.kubernetes.io/managed-by": "srcip-nb"}


def test_everything_tells_its_run_and_pods_too():
    for body in (NAMESPACE, PAGE, DEPLOYMENT, SERVICE):
        labels = marked(body, "0a1b2c3d")["metadata"]["labels"]
        assert labels.items() >= {**OURS, "srcip-nb/run": "0a1b2c3d"}.items()
    made = marked(DEPLOYMENT, "0a1b2c3d")
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert labels == {"app": "webserver", **OURS, "srcip-nb/run": "0a1b2c3d"}
    assert made["spec"]["selector"] == {"matchLabels": {"app": "webserver"}}
    assert "srcip-nb/run" not in str(DEPLOYMENT), "the manifest itself is left as it is"


def test_a_later_run_leaves_the_label_and_so_the_pods():
    live = marked(DEPLOYMENT, "00000001")
    assert marked(DEPLOYMENT, "00000002", live) == live


def test_what_kubectl_has_made_is_not_restarted_by_our_labels():
    made = marked(DEPLOYMENT, "00000002", copy.deepcopy(DEPLOYMENT))
    assert made["metadata"]["labels"]["srcip-nb/run"] == "00000002"
    assert made["spec"]["template"] == DEPLOYMENT["spec"]["template"]


def test_another_image_wherever_the_course_says_nginx():
    image = "registry.example/nginx:1.27"
    container = with_image(DEPLOYMENT, image)["spec"]["template"]["spec"]["containers"][0]
    # Always was made of "latest" at creation, and would stay: seen on Kubernetes 1.36.2
    assert (container["image"], container["imagePullPolicy"]) == (image, "IfNotPresent")
    pod = {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "httpd:2"}]}}
    assert with_image(pod, image) == pod
    assert with_image(DEPLOYMENT, "") is DEPLOYMENT
    assert with_image(SERVICE, image) == SERVICE


@pytest.mark.parametrize(
    ("labels", "options", "is_refused"),
    [
        ({}, {}, True),
        ({}, {"adopt": True}, False),
        (OURS, {}, False),
        ({GRANTED: "true"}, {}, False),
        ({"app.kubernetes.io/managed-by": "Helm"}, {}, True),
        ({}, {"lab": FakeLab()}, False),
    ],
)
def test_a_namespace_of_somebody_else_is_not_used(labels, options, is_refused):
    found = {"metadata": {"name": "team-a", "labels": labels}}
    with serving({}, **options) as (_, cluster):
        if is_refused:
            with pytest.raises(UsageError, match=r"namespace/team-a exists .* nothing is put into it.*adopt=True"):
                require_usable(cluster, found)
        else:
            require_usable(cluster, found)


def test_one_id_for_a_whole_run(monkeypatch):
    with serving({}) as (_, cluster):
        assert cluster.beside("other").run_id == cluster.run_id
        assert Cluster(cluster.rest).run_id != cluster.run_id
        monkeypatch.setenv("SRCIP_RUN", "deadbeef")
        assert Cluster(cluster.rest).run_id == "deadbeef"
        monkeypatch.setenv("SRCIP_RUN", "tomorrow")
        with pytest.raises(UsageError, match="SRCIP_RUN is 'tomorrow'"):
            Cluster(cluster.rest)
