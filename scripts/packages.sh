# shellcheck shell=sh
# System packages by apt-get, quietly, as root or by sudo: for setup.sh and kernel.sh, which read this file.
export DEBIAN_FRONTEND=noninteractive

say() { printf '%s\n' "$*" >&2; }

# Runs a command as root, directly or by sudo; fails where neither is possible.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
    else return 1
    fi
}

can_install() {
    command -v apt-get >/dev/null && as_root true
}

# Debian starts a web server when its package is installed. The lab needs the program, not the service:
# policy-rc.d says so to the package for as long as it is being installed.
install_quietly() {
    policy=/usr/sbin/policy-rc.d
    made=
    if [ ! -e $policy ]; then
        as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy" && made=yes
    fi
    status=0
    { as_root apt-get -qq update && as_root apt-get -qq install -y --no-install-recommends "$@" >/dev/null; } ||
        status=$?
    [ -z "$made" ] || as_root rm -f $policy
    return $status
}
