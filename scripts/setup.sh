#!/bin/sh
# Sets up what the make targets share: system packages, and .venv with this package and the extras asked for.
# usage: setup.sh run|handout|test|dev
# Does nothing, quickly, when all of it is there.
set -eu
cd "$(dirname "$0")/.."
wanted=${1:-run}
python=${PYTHON:-python3}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

# Debian's nginx has the module stream in a package of its own; others have it built in.
has_stream() {
    trial=$(mktemp) && printf 'pid /dev/null;\nevents {}\nstream {}\n' >"$trial"
    module=/usr/lib/nginx/modules/ngx_stream_module.so
    nginx -t -q -c "$trial" >/dev/null 2>&1 || nginx -t -q -c "$trial" -g "load_module $module;" >/dev/null 2>&1
    status=$?
    rm -f "$trial"
    return $status
}

# User Mode Linux is for x86_64 alone.
has_package() {
    [ "$(uname -m)" = x86_64 ] && [ -n "$(apt-cache search --names-only "^$1\$" 2>/dev/null)" ]
}

system_packages() {
    PATH=$PATH:/usr/sbin:/sbin
    missing=
    for pair in ip:iproute2 iptables-legacy-restore:iptables nft:nftables conntrack:conntrack nginx:nginx-light \
        unshare:util-linux sysctl:procps curl:curl envsubst:gettext-base; do
        command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
    done
    # Tests try every kernel; a lab itself takes this one only where no other does.
    [ "$wanted" = run ] || command -v linux.uml >/dev/null || ! can_install || ! has_package user-mode-linux ||
        missing="$missing user-mode-linux"
    has_stream || missing="$missing libnginx-mod-stream"
    [ -n "$missing" ] || return 0
    if can_install; then
        say "Installing system packages:$missing"
        # shellcheck disable=SC2086
        install_quietly $missing
    else
        say "These system packages are missing:$missing"
        say "Install them and try again: sudo apt-get install$missing"
        exit 1
    fi
}

# What lays out pages, the handout's fonts, and what its tests look into a PDF with. Tests without them skip and say so.
handout_packages() {
    missing=
    "$python" -c 'import ctypes; ctypes.CDLL("libpango-1.0.so.0"); ctypes.CDLL("libpangoft2-1.0.so.0")' 2>/dev/null ||
        missing="$missing libpango-1.0-0 libpangoft2-1.0-0"
    "$python" -c 'import ctypes; ctypes.CDLL("libharfbuzz-subset.so.0")' 2>/dev/null || missing="$missing libharfbuzz-subset0"
    command -v pdffonts >/dev/null || missing="$missing poppler-utils"
    command -v fc-list >/dev/null || missing="$missing fontconfig"
    fc-list 2>/dev/null | grep -q 'BIZ UDPGothic' || missing="$missing fonts-morisawa-bizud-gothic"
    fc-list 2>/dev/null | grep -q 'DejaVu Sans Mono' || missing="$missing fonts-dejavu-core"
    [ -n "$missing" ] || return 0
    if can_install; then
        say "Installing system packages:$missing"
        # shellcheck disable=SC2086
        install_quietly $missing
    else
        say "For the handout these system packages are missing:$missing"
        [ "$wanted" != handout ] || { say "Install them and try again: sudo apt-get install$missing"; exit 1; }
    fi
}

# What only the tests in a browser need: without it they are skipped, so where it cannot be had the rest goes on.
browser() {
    missing=chromium
    for program in chromium chromium-browser google-chrome; do
        ! command -v "$program" >/dev/null || missing=
    done
    # What Playwright's own program is linked with.
    "$python" -c 'import ctypes; ctypes.CDLL("libatomic.so.1")' 2>/dev/null || missing="$missing libatomic1"
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086
    if can_install && say "Installing system packages: $missing" && install_quietly $missing; then return 0; fi
    say "The tests in a browser will be skipped. Try: sudo apt-get install $missing"
}

# Mode ipvs, on a kernel that has ip_vs: few machines' own has. Without, its tests are skipped, and the rest goes on.
mode_ipvs() {
    missing=
    for pair in ipvsadm:ipvsadm ipset:ipset linux.uml:user-mode-linux; do
        command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
    done
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086
    if can_install && say "Installing system packages:$missing" && install_quietly $missing; then return 0; fi
    say "The tests of kube-proxy's mode ipvs will be skipped. Try: sudo apt-get install$missing"
}

# A clock that tests may have jump: the machine's own is everybody's. Without, they are skipped, and the rest goes on.
movable_clock() {
    for library in /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib*/faketime/libfaketimeMT.so.1; do
        [ ! -e "$library" ] || return 0
    done
    if can_install && say "Installing system packages: libfaketime" && install_quietly libfaketime; then return 0; fi
    say "The tests of a clock that jumps will be skipped. Try: sudo apt-get install libfaketime"
}

# A virtual environment, also where Debian's python3 comes without its venv module.
virtual_environment() {
    [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1 || return 0
    rm -rf .venv
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        say "$python is older than 3.10. Name another: make PYTHON=python3.11 …"
        exit 1
    }
    "$python" -m venv .venv >/dev/null 2>&1 && return 0
    rm -rf .venv
    "$python" -m virtualenv -q .venv >/dev/null 2>&1 && return 0
    if can_install; then
        say "Installing system package: python3-venv"
        install_quietly python3-venv
        "$python" -m venv .venv && return 0
    fi
    say "$python has no venv module. Install it and try again: sudo apt-get install python3-venv"
    exit 1
}

# One stamp for each set of extras, a copy of pyproject.toml as it was when they were installed.
# dev holds all that test holds, test all that handout holds, and handout all that run holds.
is_installed() {
    case $wanted in
        run) sets="run handout test dev" ;;
        handout) sets="handout test dev" ;;
        test) sets="test dev" ;;
        *) sets=$wanted ;;
    esac
    for set in $sets; do
        cmp -s pyproject.toml ".venv/.installed-$set" && return 0
    done
    return 1
}

python_packages() {
    case $wanted in
        run) target=. ;;
        handout | test | dev) target=".[$wanted]" ;;
        *) say "usage: setup.sh run|handout|test|dev"; exit 2 ;;
    esac
    say "Installing Python packages into .venv (some minutes the first time)"
    .venv/bin/python -m pip install -q -e "$target"
    cp pyproject.toml ".venv/.installed-$wanted"
}

system_packages
[ "$wanted" = run ] || handout_packages
if [ "$wanted" = test ] || [ "$wanted" = dev ]; then
    browser
    mode_ipvs
    movable_clock
fi
if ! is_installed; then
    virtual_environment
    python_packages
fi
