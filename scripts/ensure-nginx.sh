#!/usr/bin/env bash
# The deployment tests run deploy/nginx.conf with /usr/sbin/nginx. Where it is missing, root on Debian gets it from apt-get.
set -euo pipefail

server=/usr/sbin/nginx
package=nginx-light

[[ -x $server ]] && exit 0

if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # The package starts the server on port 80 unless a policy forbids it; the tests start their own.
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    echo "installing $package"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$package" >/dev/null
fi

if [[ ! -x $server ]]; then
    echo "The deployment tests need $server. On Debian, install it as root: apt-get install $package" >&2
    exit 1
fi
