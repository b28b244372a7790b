from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from srcip_nb.lab import images
from srcip_nb.lab.entrypoint import entrypoint_files


@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("docker.io/library/nginx:1.27", "docker.io/library/nginx:1.27"),
        ("nginx:latest@sha256:" + "a" * 64, "docker.io/library/nginx:latest@sha256:" + "a" * 64),
        ("nginx@sha256:" + "a" * 64, "docker.io/library/nginx@sha256:" + "a" * 64),
        ("localhost:5000/nginx", "localhost:5000/nginx:latest"),
        ("registry.example/nginx:1.27", "registry.example/nginx:1.27"),
        ("harbor.example:8443/hub/library/nginx:1.27", "harbor.example:8443/hub/library/nginx:1.27"),
        ("public.ecr.aws/docker/library/nginx:stable", "public.ecr.aws/docker/library/nginx:stable"),
    ],
)
def test_nginx_by_any_tag_and_registry(reference: str, shown: str) -> None:
    image = images.find_image(reference)
    assert image is not None
    assert image.name == shown


@pytest.mark.parametrize(
    "reference",
    [
        "httpd:2.4",
        "bitnami/nginx",
        "public.ecr.aws/bitnami/nginx",
        "quay.example/my/nginx-proxy",
        "nginxinc/nginx-unprivileged",
        "mynginx",
        "nginx/other",
    ],
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


def entrypoint(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the image's entrypoint with the image's files in a folder in place of the root."""
    for path, text in entrypoint_files(images.DEFAULT_CONF).items():
        script = folder / path[1:]
        script.parent.mkdir(parents=True, exist_ok=True)
        for root in ("/docker-entrypoint.d/*", "/docker-entrypoint.d 2", "/etc/nginx"):
            text = text.replace(root, f"{folder}{root}")
        script.write_text(text.replace("/proc/net/if_inet6", "/proc/self/status"))
        script.chmod(0o755)
    (folder / "bin").mkdir()
    (folder / "bin/nginx").symlink_to(str(shutil.which("true")))
    environment = {"PATH": f"{folder}/bin:/usr/bin:/bin", **env}
    argv = [str(folder / "docker-entrypoint.sh"), *words]
    return subprocess.run(argv, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("conf", "line"),
    [
        (images.DEFAULT_CONF, "info: Enabled listen on IPv6 in CONF"),
        ("server { listen 8080; }\n", "info: CONF differs from the packaged version"),
        ("server { listen  [::]:80; }\n", "info: IPv6 listen already enabled"),
        (None, "info: CONF is not a file or does not exist"),
    ],
)
def test_entrypoint_says_what_it_does_and_becomes_the_command(tmp_path: Path, conf: str | None, line: str) -> None:
    own = tmp_path / "etc/nginx/conf.d/default.conf"
    if conf is not None:
        own.parent.mkdir(parents=True)
        own.write_text(conf)
    done = entrypoint(tmp_path, "nginx")
    assert done.returncode == 0, done.stderr
    said = done.stdout.replace(str(tmp_path), "").splitlines()
    line = f"10-listen-on-ipv6-by-default.sh: {line.replace('CONF', '/etc/nginx/conf.d/default.conf')}"
    assert [*said[:4], *said[-5:]] == [
        "/docker-entrypoint.sh: /docker-entrypoint.d/ is not empty, will attempt to perform configuration",
        "/docker-entrypoint.sh: Looking for shell scripts in /docker-entrypoint.d/",
        "/docker-entrypoint.sh: Launching /docker-entrypoint.d/10-listen-on-ipv6-by-default.sh",
        said[3],
        line,
        "/docker-entrypoint.sh: Sourcing /docker-entrypoint.d/15-local-resolvers.envsh",
        "/docker-entrypoint.sh: Launching /docker-entrypoint.d/20-envsubst-on-templates.sh",
        "/docker-entrypoint.sh: Launching /docker-entrypoint.d/30-tune-worker-processes.sh",
        "/docker-entrypoint.sh: Configuration complete; ready for start up",
    ]
    if conf == images.DEFAULT_CONF:
        assert "listen       80;\n    listen  [::]:80;\n" in own.read_text()


def test_entrypoint_runs_what_is_there_and_says_what_it_cannot(tmp_path: Path) -> None:
    folder = tmp_path / "docker-entrypoint.d"
    folder.mkdir()
    (folder / "40-own.sh").write_text("#!/bin/sh\necho mine\n")
    (folder / "50-own.sh").write_text("#!/bin/sh\necho never\n")
    (folder / "notes.txt").touch()
    (folder / "40-own.sh").chmod(0o755)
    said = entrypoint(tmp_path, "nginx").stdout.replace(str(tmp_path), "")
    assert "Launching /docker-entrypoint.d/40-own.sh\nmine\n" in said
    assert "Ignoring /docker-entrypoint.d/50-own.sh, not executable\n" in said and "never" not in said
    assert "Ignoring /docker-entrypoint.d/notes.txt\n" in said


@pytest.mark.parametrize("has_envsubst", [True, False])
def test_templates_are_filled_in_or_the_container_does_not_start(tmp_path: Path, has_envsubst: bool) -> None:
    templates = tmp_path / "etc/nginx/templates"
    templates.mkdir(parents=True)
    (templates / "site.conf.template").write_text("$PORT")
    (tmp_path / "etc/nginx/conf.d").mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("env", "find", "grep", "ls", "md5sum", "mkdir", "sed", "touch"):
        (tools / name).symlink_to(str(shutil.which(name)))
    if has_envsubst:
        (tools / "envsubst").write_text('#!/bin/sh\nsed "s/.PORT/$PORT/"\n')
        (tools / "envsubst").chmod(0o755)
    done = entrypoint(tmp_path, "nginx", PORT="8080", PATH=f"{tmp_path}/bin:{tools}")
    if has_envsubst:
        assert (tmp_path / "etc/nginx/conf.d/site.conf").read_text() == "8080"
        assert "20-envsubst-on-templates.sh: Running envsubst on " in done.stdout
    else:
        assert done.returncode == 1
        assert "apt-get install gettext-base" in done.stderr


def test_entrypoint_is_quiet_for_other_commands_and_when_told(tmp_path: Path) -> None:
    assert entrypoint(tmp_path, "echo", "only").stdout == "only\n"
    assert entrypoint(tmp_path / "quiet", "nginx", NGINX_ENTRYPOINT_QUIET_LOGS="1").stdout == ""


def test_the_logs_lead_to_the_containers_output() -> None:
    image = images.find_image("nginx")
    assert image is not None
    assert image.files["/var/log/nginx/access.log"] == {"link": "/dev/stdout"}
    assert image.files["/var/log/nginx/error.log"] == {"link": "/dev/stderr"}


@pytest.mark.parametrize(
    ("given", "run"),
    [
        (["-t"], ["-g", "LOAD", "-t"]),
        (["-g", "daemon off;"], ["-g", "LOAD daemon off;"]),
        (["-c", "/a b.conf", "-g", "daemon off;"], ["-c", "/a b.conf", "-g", "LOAD daemon off;"]),
    ],
)
@pytest.mark.parametrize("version", ["--with-stream=dynamic", "--with-stream --with-threads"])
def test_nginx_gets_the_module_that_the_image_has(
    tmp_path: Path, given: list[str], run: list[str], version: str
) -> None:
    module = tmp_path / "stream.so"
    module.touch()
    nginx = tmp_path / "nginx"
    nginx.write_text(f'#!/bin/sh\n[ "$1" = -V ] && echo "{version}" >&2 || printf "%s|" "$@"\n')
    nginx.chmod(0o755)
    wrapper = entrypoint_files(images.DEFAULT_CONF)["/usr/local/sbin/nginx"]
    wrapper = wrapper.replace("/usr/sbin/nginx", str(nginx)).replace(
        "/usr/lib/nginx/modules/ngx_stream_module.so", str(module)
    )
    done = subprocess.run(["sh", "-c", wrapper, "nginx", *given], capture_output=True, text=True, check=True)
    expected = [word.replace("LOAD", f"load_module {module};") for word in run] if "=" in version else given
    assert done.stdout == "|".join([*expected, ""])
