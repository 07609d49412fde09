"""The command line: arguments to use cases. Each command adds its own arguments and returns the exit code."""

import argparse
import ipaddress
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import stagecast
from stagecast.domain.errors import NotConfigured
from stagecast.entrypoints import configuration

REFUSED = 2
"""The exit code for a wrong command line or configuration."""
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
"""Of the server's log, on standard error."""

Command: TypeAlias = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name; its exit code."""
    options = _parser().parse_args(arguments)
    if os.environ.get(configuration.DJANGO_VARIABLE):
        _import_from_here()  # where Django's settings are, as for manage.py
    command: Command = options.command
    try:
        return command(options)
    except NotConfigured as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stagecast", description="Live, lossless progress of long jobs.")
    parser.add_argument("--version", action="version", version=f"stagecast {stagecast.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="serve the streams of a bus to browsers (SSE)"))
    _add_demo(commands.add_parser("demo", help="a page on which one click runs a pipeline that streams"))
    _add_tail(commands.add_parser("tail", help="follow a project or one of its stages in the terminal"))
    _add_publish(commands.add_parser("publish", help="send one event and wait for its acknowledgement"))
    _add_doctor(commands.add_parser("doctor", help="examine the bus, and the way through a server and its proxies"))
    return parser


def _add_bus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bus", metavar="URL", help=f"the bus, for example redis://localhost:6379/0 (default: {_variables()})"
    )


def _add_serve(parser: argparse.ArgumentParser) -> None:
    _add_bus(parser)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--allow-public",
        action="store_true",
        help="listen on other addresses than loopback although no access policy protects the streams",
    )
    parser.add_argument(
        "--open-routes",
        action="store_true",
        help="leave the routes without stream/ open to everybody although there is an access policy",
    )
    parser.add_argument(
        "--forwarded-allow-ips",
        type=_proxies,
        metavar="IPS",
        help="the proxies whose X-Forwarded-For names the client, addresses and networks with commas between; "
        "* for all who connect (default: FORWARDED_ALLOW_IPS, else loopback)",
    )
    parser.set_defaults(command=_serve)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--input", type=Path, metavar="FILE", help="a text in UTF-8 for the page to begin with")
    parser.add_argument(
        "--redis", action="store_true", help="with Redis (REDIS_URL, else one of its own) and a Celery worker"
    )
    parser.add_argument("--llm", action="store_true", help="with a small language model on this CPU")
    parser.set_defaults(command=_demo)


def _add_tail(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit codes: 0 done, 1 error, 2 no bus or a wrong command line, 3 timeout."
    parser.add_argument("project", metavar="PROJECT")
    parser.add_argument("stage", metavar="STAGE", nargs="?", help="one stage (default: all, until the pipeline ends)")
    _add_bus(parser)
    parser.add_argument("--json", action="store_true", help="one message a line, for log collection")
    parser.add_argument(
        "--timeout", type=_seconds, metavar="S", help="give up after S seconds without a message (default: never)"
    )
    parser.set_defaults(command=_tail)


def _add_publish(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit codes: 0 acknowledged, 1 refused or not acknowledged, 2 no bus or a wrong command line."
    parser.add_argument("project", metavar="PROJECT")
    parser.add_argument("stage", metavar="STAGE")
    parser.add_argument("type", metavar="TYPE", help="token, stage_update, progress, done, error, or a type of yours")
    parser.add_argument(
        "values", metavar="key=value", nargs="*", help="a field; read as JSON where it parses, else as text"
    )
    _add_bus(parser)
    parser.add_argument(
        "--timeout", type=_seconds, default=5.0, metavar="S", help="seconds to wait (default: %(default)g)"
    )
    parser.set_defaults(command=_publish)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit codes: 0 no problem, 1 a problem. STAGECAST_TOKEN is sent as bearer token to --url."
    _add_bus(parser)
    parser.add_argument("--json", action="store_true", help="one finding a line")
    parser.add_argument("--url", metavar="URL", help="go through this server too, for example http://localhost:8000/")
    parser.set_defaults(command=_doctor)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def _proxies(text: str) -> str:
    """What uvicorn would take for a name, and never find."""
    try:
        for one in text.split(",") if text != "*" else ():
            ipaddress.ip_network(one.strip())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _variables() -> str:
    return ", ".join([configuration.variable_of("bus"), *configuration.SEED_VARIABLES])


def _serve(options: argparse.Namespace) -> int:
    from stagecast.entrypoints import sse, wiring

    url = options.bus or configuration.bus_url()
    bus = wiring.open_bus(url)
    if configuration.current().access.policy:
        _import_from_here()
    policy = sse.configured_policy()
    if not (options.allow_public or policy or sse.is_loopback(options.host)):
        secret, own = configuration.variable_of("jwt.secret"), configuration.variable_of("access.policy")
        return _refuse(
            f"{options.host} can be reached from other machines, and no access policy protects the streams: "
            f"set {secret}, another key or {own}, or allow it with --allow-public"
        )
    app = sse.create_app(
        url, policy, open_routes=options.open_routes or None, allow_public=options.allow_public or None
    )
    if not bus.capabilities.processes:
        print(f"stagecast: {url} reaches this process only: no other one can publish to it", file=sys.stderr)
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    trusted = options.forwarded_allow_ips
    sse.Server(app, options.host, options.port, started=_say_where, forwarded_allow_ips=trusted).run()
    return 0


def _demo(options: argparse.Namespace) -> int:
    from stagecast.entrypoints.demo import command

    return command.main(options)


def _tail(options: argparse.Namespace) -> int:
    from stagecast.entrypoints.commands import tail

    return tail.main(options)


def _publish(options: argparse.Namespace) -> int:
    from stagecast.entrypoints.commands import publish

    return publish.main(options)


def _doctor(options: argparse.Namespace) -> int:
    from stagecast.entrypoints.commands import doctor

    return doctor.main(options)


def _import_from_here() -> None:
    """As a program that is started by `python` does; a console script looks beside itself."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)


def _say_where(url: str) -> None:
    print(f"stagecast: serving on {url}", flush=True)


def _refuse(reason: str) -> int:
    print(f"stagecast: error: {reason}", file=sys.stderr)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
