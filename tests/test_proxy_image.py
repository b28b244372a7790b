"""An image that cannot be made a proxy: found by nginx's own word, and said in one sentence instead of checks."""

from types import SimpleNamespace

import pytest

from srcip_nb import checks, notebook, proxied, proxy_image
from srcip_nb.errors import ClusterError
from srcip_nb.exercises import exercise
from srcip_nb.notebook import NOT_HERE, begin, done
from srcip_nb.run import PASSED, judge

REAL = SimpleNamespace(lab=None, namespace="seminar")
STOCK = ["# configuration file /etc/nginx/nginx.conf:", "http {", "    include /etc/nginx/conf.d/*.conf;", "}"]
IN_FORCE = {"proxy": ["stream {", "        proxy_protocol  on;"], "backend": ["set_real_ip_from   255.255.255.255;"]}


def pod(app: str) -> dict:
    return {"metadata": {"name": f"{app}-1", "labels": {"app": app}}}


def says(monkeypatch, *answers, error: ClusterError | None = None) -> None:
    """Nginx prints these configurations in turn, the last one again and again."""
    left = list(answers)

    def exec_lines(*_, **__):
        if error:
            raise error
        return iter(left.pop(0) if len(left) > 1 else left[0])

    monkeypatch.setattr(proxy_image, "exec_lines", exec_lines)
    monkeypatch.setattr(proxy_image, "FILLED_IN_WITHIN", 1.0 if len(answers) > 1 else 0.0)


@pytest.mark.parametrize("app", ["proxy", "backend"])
def test_a_configuration_in_force_is_looked_for_in_what_nginx_prints(monkeypatch, app):
    says(monkeypatch, [*STOCK, *IN_FORCE[app]])
    assert proxy_image.why_not(REAL, pod(app)) == ""
    says(monkeypatch, STOCK)
    assert f"{app}-1" in proxy_image.why_not(REAL, pod(app))


def test_a_pod_may_be_ready_before_its_entrypoint_has_filled_in_the_templates(monkeypatch):
    says(monkeypatch, STOCK, STOCK, [*STOCK, *IN_FORCE["backend"]])
    assert proxy_image.why_not(REAL, pod("backend")) == ""


def test_a_comment_is_not_in_force(monkeypatch):
    says(monkeypatch, [*STOCK, "# proxy_protocol on;"])
    assert proxy_image.why_not(REAL, pod("proxy"))


def test_only_a_missing_module_is_the_images_fault(monkeypatch):
    emerg = 'pod seminar/proxy-1: exit code 1 (nginx: [emerg] unknown directive "stream" in /etc/nginx/nginx.conf:24)'
    says(monkeypatch, error=ClusterError(emerg))
    assert 'unknown directive "stream"' in proxy_image.why_not(REAL, pod("proxy"))
    says(monkeypatch, error=ClusterError("pods/exec is forbidden"))
    monkeypatch.setattr(proxy_image, "crashed_by", lambda cluster, pod: "")
    assert proxy_image.why_not(REAL, pod("proxy")) == ""
    monkeypatch.setattr(proxy_image, "crashed_by", lambda cluster, pod: "its log says so")
    assert proxy_image.why_not(REAL, pod("proxy")) == "its log says so"


def test_requests_and_checks_are_left_out_and_the_sum_says_why(monkeypatch, tmp_path):
    class Real:
        lab = None

    cluster = Real()
    monkeypatch.setitem(proxied._cannot, cluster, "no templates")
    monkeypatch.setenv("SRCIP_MARKER_DIR", str(tmp_path))
    begin("07")
    notebook.predict("whose", "pod", ["client", "pod"])
    df = proxied.visit_proxy(cluster, 4)
    assert df.empty and df["connection_from"].dtype == "string" and df.attrs == {NOT_HERE: "no templates"}
    said = [
        checks.source_ip_kept(df, question="whose"),
        checks.source_ip_lost(df),
        checks.logged_as(df, "203.0.113.7"),
        checks.by_way_of(df, "10.0.5.2", True),
        exercise("07.1", ..., df),
        proxied.trust(cluster, proxied.NOBODY),
        proxied.set_ip_mode(cluster, "fronted", "VIP"),
    ]
    assert said == ["no templates"] * len(said)
    summed = done("07")
    assert (summed.held, summed.failed, summed.predicted, summed.left_out) == (0, (), 0, ("no templates",))
    assert "no templates" in repr(summed)
    assert judge("", {"failed": [], "left_out": list(summed.left_out)}) == (PASSED, "no templates")
