from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from srcip_nb.lab import images


@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("docker.io/library/nginx:1.27", "docker.io/library/nginx:1.27"),
        ("nginx:latest@sha256:" + "a" * 64, "docker.io/library/nginx:latest@sha256:" + "a" * 64),
        ("nginx@sha256:" + "a" * 64, "docker.io/library/nginx@sha256:" + "a" * 64),
        ("localhost:5000/nginx", "localhost:5000/nginx:latest"),
        ("public.ecr.aws/docker/library/nginx:stable", "public.ecr.aws/docker/library/nginx:stable"),
    ],
)
def test_nginx_by_any_tag_and_registry(reference: str, shown: str) -> None:
    image = images.find_image(reference)
    assert image is not None
    assert image.name == shown


@pytest.mark.parametrize(
    "reference", ["httpd:2.4", "bitnami/nginx", "nginxinc/nginx-unprivileged", "mynginx", "nginx/other"]
)
def test_any_other_image_is_not_there(reference: str) -> None:
    assert images.find_image(reference) is None
    assert reference in images.why_no_image(reference)
    assert "nginx (any tag" in images.why_no_image(reference)


@pytest.mark.parametrize("reference", ["NGINX", "nginx:", "a b", "nginx:la/test", ""])
def test_what_is_no_image_name(reference: str) -> None:
    assert images.split_reference(reference) is None


def test_command_and_args_as_kubernetes_puts_them_together() -> None:
    image = images.find_image("nginx")
    assert image is not None
    entrypoint = ["/bin/sh", "/docker-entrypoint.sh"]
    assert images.container_argv(image, [], [], {}) == [*entrypoint, "nginx", "-g", "daemon off;"]
    assert images.container_argv(image, [], ["nginx", "-t"], {}) == [*entrypoint, "nginx", "-t"]
    assert images.container_argv(image, ["sleep"], ["9"], {}) == ["sleep", "9"]
    assert images.container_argv(image, ["sleep", "9"], [], {}) == ["sleep", "9"]
    assert images.container_argv(image, ["pwd"], [], {}, "/srv")[-2:] == ["/srv", "pwd"]


def test_variables_in_a_command() -> None:
    assert images.expand("$(A) $$(A) $(B) $A", {"A": "1"}) == "1 $(A) $(B) $A"


def test_the_log_format_is_main_with_nine_fields() -> None:
    assert '$remote_addr - $remote_user [$time_local] "$request" ' in images.NGINX_CONF
    assert '"$http_user_agent" "$http_x_forwarded_for"' in images.NGINX_CONF
    assert "access_log  /var/log/nginx/access.log  main;" in images.NGINX_CONF


def test_the_welcome_page_has_the_length_that_logs_show() -> None:
    assert len(images.INDEX_HTML.encode()) == 615


@pytest.mark.parametrize(
    ("conf", "line"),
    [
        (images.DEFAULT_CONF, "info: Enabled listen on IPv6 in CONF"),
        ("server { listen 8080; }\n", "info: CONF differs from the packaged version"),
        ("server { listen  [::]:80; }\n", "info: IPv6 listen already enabled"),
        (None, "info: /etc/nginx/conf.d/default.conf is not a file or does not exist"),
    ],
)
def test_entrypoint_says_what_it_does_and_becomes_the_command(tmp_path: Path, conf: str | None, line: str) -> None:
    packaged, own, log = tmp_path / "packaged", tmp_path / "default.conf", tmp_path / "log"
    packaged.write_text(images.DEFAULT_CONF)
    if conf is not None:
        own.write_text(conf)
    script = (
        images.ENTRYPOINT.replace("/usr/share/nginx/default.conf", str(packaged))
        .replace("conf=/etc/nginx/conf.d/default.conf", f"conf={own}")
        .replace("/var/log/nginx", str(log))
        .replace("/proc/net/if_inet6", "/proc/self/status")
    )
    (tmp_path / "nginx").symlink_to(str(shutil.which("true")))
    done = subprocess.run(
        ["/bin/sh", "-c", script, "entrypoint", "nginx"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert f"10-listen-on-ipv6-by-default.sh: {line.replace('CONF', str(own))}" in said
    assert said[0].startswith("/docker-entrypoint.sh: /docker-entrypoint.d/ is not empty")
    assert said[-1] == "/docker-entrypoint.sh: Configuration complete; ready for start up"
    assert (log / "access.log").readlink() == Path("/dev/stdout")
    if conf == images.DEFAULT_CONF:
        assert "listen       80;\n    listen  [::]:80;\n" in own.read_text()


def test_entrypoint_is_quiet_for_other_commands_and_when_told() -> None:
    script = images.ENTRYPOINT.replace("/var/log/nginx", "/tmp").replace("ln -sf", ":")
    for words, env in ((["echo", "only"], {}), (["true"], {"NGINX_ENTRYPOINT_QUIET_LOGS": "1"})):
        done = subprocess.run(["/bin/sh", "-c", script, "entrypoint", *words], env=env, capture_output=True, text=True)
        assert done.stdout == ("only\n" if words[0] == "echo" else "")
