#!/usr/bin/env bash
# Serves the streams under an ASGI server:
#
#   ./run_asgi.sh                                  stagecast's own command, on http://127.0.0.1:8000
#   SERVER=daphne HOST=0.0.0.0 PORT=9000 ./run_asgi.sh
#
# SERVER is stagecast (uvicorn with the right settings), uvicorn, daphne, hypercorn, granian or gunicorn. The bus is
# what the environment names (STAGECAST_BUS, or REDIS_URL), and so are all other settings. Further arguments go to the
# server. docs/asgi-servers.md says what holds under which.
set -euo pipefail

SERVER=${SERVER:-stagecast}
HOST=${HOST:-127.0.0.1} # another address needs STAGECAST_JWT_SECRET, or STAGECAST_ALLOW_PUBLIC=1
PORT=${PORT:-8000}

# The programs of the virtual environment beside this script come first, as if it were activated.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH="$here/.venv/bin:$PATH"

app=stagecast.entrypoints.sse:app
case $HOST in
  *:*) address="[$HOST]:$PORT" ;; # IPv6
  *) address="$HOST:$PORT" ;;
esac

case $SERVER in
  stagecast) set -- stagecast serve --host "$HOST" --port "$PORT" "$@" ;;
  uvicorn) set -- uvicorn "$app" --host "$HOST" --port "$PORT" --timeout-graceful-shutdown 3 "$@" ;;
  daphne) set -- daphne -b "$HOST" -p "$PORT" "$@" "$app" ;;
  # No worker processes (-w 0): hypercorn's master tells those by no signal that it stops, so they would only wait.
  # A call, because hypercorn finds no name that a module makes at its first use.
  hypercorn) set -- hypercorn -w 0 -b "$address" "$@" 'stagecast.entrypoints.sse.asgi:create_app()' ;;
  granian) set -- granian --interface asgi --host "$HOST" --port "$PORT" "$@" "$app" ;;
  gunicorn) set -- gunicorn -k uvicorn_worker.UvicornWorker -b "$address" --graceful-timeout 5 "$@" "$app" ;;
  *)
    echo "run_asgi.sh: SERVER=$SERVER is none of stagecast, uvicorn, daphne, hypercorn, granian, gunicorn" >&2
    exit 2
    ;;
esac

if ! command -v "$1" >/dev/null; then
  case $SERVER in
    stagecast) package="'stagecast[redis,sse]'" ;;
    gunicorn) package="gunicorn uvicorn-worker" ;;
    *) package=$SERVER ;;
  esac
  echo "run_asgi.sh: there is no program $1: pip install $package" >&2
  exit 2
fi

exec "$@" # so that signals reach the server itself
