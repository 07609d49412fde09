#!/usr/bin/env bash
# The browser tests drive /usr/bin/chromium, with fonts for Chinese text and emoji. Where it is missing, root on Debian gets it from apt-get.
set -euo pipefail

browser=/usr/bin/chromium
packages=(chromium fonts-noto-cjk fonts-noto-color-emoji)

[[ -x $browser ]] && exit 0

if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    echo "installing ${packages[*]}"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

if [[ ! -x $browser ]]; then
    echo "The browser tests need $browser. On Debian, install it as root: apt-get install ${packages[*]}" >&2
    exit 1
fi
