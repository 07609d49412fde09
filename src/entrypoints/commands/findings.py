"""Findings of the doctor: what each fact about a Redis server means, and what to do about it."""

from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import frozen

from stagecast.domain.bus import BusLimits

if TYPE_CHECKING:
    from stagecast.adapters.redis.inspection import Contents, Server

Verdict: TypeAlias = Literal["ok", "warning", "problem", "skipped"]

CONNECTIONS = 3
"""What each event loop of a process opens."""
_SLOW = 0.05
_SKEW = 1.0
_FULL = 0.9
_ROOM = 10
_NAMED = 3


@frozen
class Finding:
    """One check: what was found, and, unless all is well, what to do."""

    check: str
    verdict: Verdict
    found: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f" -> {self.advice}" if self.advice else ""
        return f"{self.verdict:8} {self.check}: {self.found}{advice}"


def of_server(server: "Server", limits: BusLimits) -> list[Finding]:
    """What the server tells about itself."""
    return [_ping(server), _version(server), _memory(server), _buffer(server, limits), _clients(server), _clock(server)]


def of_contents(contents: "Contents") -> list[Finding]:
    """What stagecast keeps on it."""
    return [_ttl(contents), _projects(contents), _followers(contents)]


def _ping(server: "Server") -> Finding:
    found = f"{server.ping * 1000:.1f} ms"
    if server.ping > _SLOW:
        return Finding("ping", "warning", found, "put workers, servers and the bus near each other")
    return Finding("ping", "ok", found)


def _version(server: "Server") -> Finding:
    if not server.is_supported:
        return Finding("version", "problem", server.version, "use Redis 7.0 or newer, or Valkey")
    return Finding("version", "ok", server.version)


def _memory(server: "Server") -> Finding:
    check, policy, limit, used = "memory", server.policy, server.maxmemory, server.used_memory
    if policy is None or limit is None:
        return Finding(check, "warning", "the server does not tell its policy", "see that it is noeviction")
    if limit == 0:
        return Finding(check, "ok", f"maxmemory-policy {policy}, without effect: maxmemory is 0")
    found = f"maxmemory-policy {policy}, maxmemory {limit}"
    if policy.startswith("allkeys"):
        return Finding(check, "problem", found, "it evicts runs in progress: CONFIG SET maxmemory-policy noeviction")
    if policy.startswith("volatile"):
        advice = "all keys of stagecast have a TTL, so runs in progress can be evicted: prefer noeviction"
        return Finding(check, "warning", found, advice)
    if used is not None and used > _FULL * limit:
        advice = (
            "writes are soon refused: raise maxmemory, or lower STAGECAST_LIMITS_TIME_TO_LIVE "
            "or STAGECAST_LIMITS_LOG_LENGTH"
        )
        return Finding(check, "warning", f"{found}, {used} used", advice)
    return Finding(check, "ok", found)


def _buffer(server: "Server", limits: BusLimits) -> Finding:
    check = "output buffer"
    if server.pubsub_limit is None:
        advice = "see that client-output-buffer-limit pubsub is 32mb 8mb 60 or more"
        return Finding(check, "warning", "the server does not tell its limit", advice)
    hard, soft, seconds = server.pubsub_limit
    found = f"client-output-buffer-limit pubsub {hard} {soft} {seconds}"
    if 0 < hard < 2 * limits.event_bytes or 0 < soft < limits.event_bytes:
        advice = f"one event can have {limits.event_bytes} bytes and would cut subscribers off: set 32mb 8mb 60"
        return Finding(check, "problem", found, advice)
    if hard == 0:
        return Finding(check, "warning", found, "a stalled subscriber could fill the memory: set 32mb 8mb 60")
    return Finding(check, "ok", found)


def _clients(server: "Server") -> Finding:
    check = "connections"
    if server.maxclients is None or server.clients is None:
        return Finding(check, "warning", "the server does not tell maxclients", f"allow {CONNECTIONS} a process")
    room = max(server.maxclients - server.clients, 0) // CONNECTIONS
    found = f"{server.clients} of {server.maxclients}, room for {room} event loops of {CONNECTIONS} connections"
    if room < _ROOM:
        return Finding(check, "problem" if room == 0 else "warning", found, "raise maxclients, or run fewer processes")
    return Finding(check, "ok", found)


def _clock(server: "Server") -> Finding:
    found = f"the server's is {abs(server.skew):.3f} s {'ahead' if server.skew > 0 else 'behind'}"
    if abs(server.skew) > _SKEW:
        return Finding("clock", "warning", found, "synchronize both (NTP): timestamps of messages do not compare")
    return Finding("clock", "ok", found)


def _ttl(contents: "Contents") -> Finding:
    found = f"{'' if contents.is_complete else 'at least '}{contents.keys} of stagecast"
    if lasting := contents.without_ttl:
        named = ", ".join(lasting[:_NAMED]) + (", ..." if len(lasting) > _NAMED else "")
        advice = "they are never freed, and stagecast sets a TTL with each write: find who writes them, or delete them"
        return Finding("keys", "problem", f"{found}, {len(lasting)} without a TTL: {named}", advice)
    return Finding("keys", "ok", f"{found}, each with a TTL")


def _projects(contents: "Contents") -> Finding:
    live = f"{len(contents.live)} with a run in progress"
    if contents.live:
        live += f" ({', '.join(contents.live[:_NAMED])}{', ...' if len(contents.live) > _NAMED else ''})"
    return Finding("projects", "ok", f"{len(contents.projects)} kept, {live}")


def _followers(contents: "Contents") -> Finding:
    connections = sum(contents.followers.values())
    found = f"{connections} subscriptions to {len(contents.followers)} channels"
    return Finding("subscribers", "ok", f"{found} (processes and foreign readers; viewers share their server's)")
