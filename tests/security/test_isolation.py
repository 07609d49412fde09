"""From a viewer's URL to a key of Redis: a URL is refused or reaches exactly what it names, and ids share nothing."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import quote, unquote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stagecast import RedisStreamPublisher
from stagecast.adapters.memory import MemoryBus
from stagecast.adapters.redis.settings import SeedChannels
from stagecast.adapters.redis.state import Keys
from stagecast.domain.access import Access, AccessRequest
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import AccessDenied, InvalidTopic
from stagecast.domain.topics import identifier
from stagecast.entrypoints.sse import create_app
from stagecast.entrypoints.wiring import CODEC
from tests.security.asgi import get
from tests.security.sockets import ask_raw
from tests.security.texts import bounded, hostile_ids
from tests.servers import RedisServer
from tests.sse.browser import request, stage_path
from tests.sse.serving import Served, served

Named = tuple[str, str | None]


def is_id(text: str) -> bool:
    try:
        identifier(text)
    except InvalidTopic:
        return False
    return True


# Keys and channels.

safe_ids = st.one_of(hostile_ids, st.text(st.sampled_from("abB.-_%~+@!#1é／"), min_size=1, max_size=6)).filter(is_id)
LIKENESSES: list[Callable[[str], str]] = [
    lambda text: text,
    str.upper,
    str.casefold,
    unquote,
    lambda text: quote(text, safe=""),
    *(lambda text, form=form: unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")),
    lambda text: text + "-" + text,
    lambda text: text[:-1],
    lambda text: text + ".",
]
"""What a careless part could make of an id."""
pairs = st.one_of(
    st.tuples(safe_ids, safe_ids),
    st.tuples(safe_ids, st.sampled_from(LIKENESSES)).map(lambda pair: (pair[0], pair[1](pair[0]))),
).filter(lambda pair: is_id(pair[1]))


def names_of(project: str, stage: str, channel: str, database: int) -> list[str]:
    """All names that Redis is given for a stage."""
    keys = Keys(project, database)
    return [*keys.of_stage(stage), keys.feed, channel.format(project_id=project, stage_name=stage)]


@bounded
@given(projects=pairs, stages=pairs, database=st.sampled_from([0, 3]))
@example(projects=("a", "a"), stages=("log", "meta"), database=0)
@example(projects=("a", "a"), stages=("leases", "producers"), database=3)
@example(projects=("a", "A"), stages=("feed", "text"), database=0)
def test_two_ids_share_no_key_channel_feed_and_hash_tag(
    projects: tuple[str, str], stages: tuple[str, str], database: int
) -> None:
    """Whatever is different is different everywhere, and what is the same is the same: no id is changed on its way."""
    channel = SeedChannels().channel
    (project, other), (stage, another) = projects, stages
    here, there = names_of(project, stage, channel, database), names_of(other, another, channel, database)
    assert len(set(here)) == len(here)
    if project != other:
        assert not set(here) & set(there)
    elif stage != another:
        assert set(here) & set(there) == set(here[:4]) | {here[5]}  # the project's own, and neither text nor channel
    else:
        assert here == there
    for name in here[:-1]:
        found = re.fullmatch(r"[^{]*\{([^}]*)\}.*", name, re.DOTALL)  # what Redis takes for the hash tag
        assert found
        assert found[1] == project
    assert not set("*?[]\\") & set("".join(here)), "PSUBSCRIBE, KEYS and SCAN would take it for a pattern"


patterns = st.lists(
    st.sampled_from(
        ["{project_id}", "{stage_name}", ":", "-", "/", "{{", "}}", "x", "{project_id:.1}", "{project_id!r:>9}"]
    ),
    max_size=6,
).map("".join)


@bounded
@given(pattern=patterns, projects=pairs, stages=pairs)
def test_a_channels_pattern_is_refused_or_keeps_ids_apart(
    pattern: str, projects: tuple[str, str], stages: tuple[str, str]
) -> None:
    """Also an operator's own pattern: two stages never share a channel by what their ids consist of."""
    try:
        channel = SeedChannels(channel=pattern).channel
    except ValueError:
        return
    topics = [(project, stage) for project in projects for stage in stages]
    assert len({channel.format(project_id=p, stage_name=s) for p, s in topics}) == len(set(topics))


@pytest.mark.parametrize(
    "pattern",
    [
        "{project_id}-{stage_name}",
        "{project_id}{stage_name}",
        "{project_id:.1}:{stage_name}",
        "{project_id}:{stage_name!a}",
    ],
)
def test_a_pattern_that_mixes_ids_is_refused(pattern: str) -> None:
    """`a-b` and `c` would be `a` and `b-c`."""
    with pytest.raises(ValueError, match=r"seed's channel|no id has"):
        SeedChannels(channel=pattern)


# URLs, through the application.


class Recorder:
    """A policy that notes what it is asked for, and denies everything."""

    def __init__(self) -> None:
        self.asked: list[Named] = []

    async def authorize(self, request: AccessRequest) -> Access:
        self.asked.append((request.project, request.stage))
        raise AccessDenied("not yours")

    def taken(self) -> list[Named]:
        taken, self.asked = self.asked, []
        return taken


RECORDER = Recorder()
APP = create_app(MemoryBus(CODEC, BusLimits()), RECORDER)


async def reached(path: str) -> tuple[int, list[Named]]:
    """The status of a GET for the raw path, and what the policy was asked for."""
    return (await get(APP, path, [(b"authorization", b"Bearer x")])).status, RECORDER.taken()


def named_by(path: str) -> Named | None:
    """What the path names by RFC 3986: split first, then decoded, each part for itself. None: no topic at all."""
    parts = path.split("/")
    if parts[:5] != ["", "api", "v1", "sse", "projects"] or parts[-2:] != ["stream", ""]:
        return None
    try:
        match parts[5:-2]:
            case [project]:
                return unquote_to_bytes(project).decode(), None
            case [project, "stages", stage]:
                return unquote_to_bytes(project).decode(), unquote_to_bytes(stage).decode()
    except UnicodeDecodeError:
        pass
    return None


def encoded(text: str, mode: str) -> str:
    """`text` in a path: percent-encoded once, twice, in lower case, or only where a request line needs it."""
    raw = text.encode("utf-8", "surrogatepass")
    match mode:
        case "once":
            return quote(raw, safe="")
        case "twice":
            return quote(quote(raw, safe=""), safe="")
        case "lower":
            return re.sub("%..", lambda found: found[0].lower(), quote(raw, safe=""))
        case "all":
            return "".join(f"%{byte:02X}" for byte in raw)
    return quote(raw, safe="/:*[]{}\\%+&=;@~|^'\"<>!$(),.")


segments = st.builds(encoded, hostile_ids, st.sampled_from(["once", "twice", "lower", "all", "least"]))


@bounded
@given(project=segments, stage=st.one_of(st.none(), segments))
async def test_a_url_is_refused_or_reaches_what_it_names(project: str, stage: str | None) -> None:
    """Separators, dots, NUL, bytes that are no UTF-8, encoded once or twice: no URL reaches another's project."""
    path = f"/api/v1/sse/projects/{project}/" + ("" if stage is None else f"stages/{stage}/") + "stream/"
    named = named_by(path)
    is_valid = named is not None and all(is_id(one) for one in named if one is not None)
    status, asked = await reached(path)
    assert asked == ([named] if is_valid else [])
    assert status in ({403} if is_valid else {400, 404}), path


@bounded
@given(project=safe_ids, stage=safe_ids)
async def test_every_id_can_be_reached(project: str, stage: str) -> None:
    """What a publisher may call a stage, a viewer can name in a URL."""
    path = f"/api/v1/sse/projects/{quote(project, safe='')}/stages/{quote(stage, safe='')}/stream/"
    assert await reached(path) == (403, [(project, stage)])


# URLs, through a real server and down to Redis.

NASTY: list[tuple[bytes, Named | None]] = [
    (b"a/stages/b", ("a", "b")),
    (b"a%2Fstages%2Fb", None),
    (b"a%2fstages%2fb", None),
    (b"a%252Fstages%252Fb", ("a%2Fstages%2Fb", None)),
    (b"x%2Fstages%2Fb/stages/c", None),
    (b"a/../b", None),
    (b"..", None),
    (b"%2e%2e", None),
    (b"%2E", None),
    (b"...", ("...", None)),
    (b"a//stages/b", None),
    (b"/a", None),
    (b"a%00", None),
    (b"a%0d%0aX-Injected:%201", None),
    (b"a%20b", None),
    (b"a+b", ("a+b", None)),
    (b"a;b=c", ("a;b=c", None)),
    (b"a%3Ab", None),
    (b"*", None),
    (b"%2A", None),
    (b"a%3F", None),
    (b"%7Ba%7D", None),
    (b"{a}", None),
    (b"%5B", None),
    (b"a%5Cb", None),
    (b"a\\b", None),
    (b"%ff", None),
    (b"%c0%af", None),
    (b"%ed%a0%80", None),
    (b"%EF%BF%BD", None),
    (b"%EF%BC%8F", ("／", None)),
    (b"%C3%A9", ("é", None)),
    (b"e%CC%81", ("e\u0301", None)),
    (b"%E2%80%AE", None),
    (b"%61", ("a", None)),
    (b"%2561", ("%61", None)),
    (b"%zz", ("%zz", None)),
    (b"%", ("%", None)),
    (b"a" * 128, ("a" * 128, None)),
    (b"a" * 129, None),
    (b"%C3%A9" * 129, None),
    (b"\xc3\xa9", None),
    (b"\xff\xfe", None),
    (b"a\tb", None),
    (b"a\x00b", None),
    (b"a b", None),
]
"""What stands between `projects/` and `/stream/`, and the topic that it names; None: refused."""


@pytest.fixture(scope="module", params=["h11", "httptools"])
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A real server, with each of uvicorn's parsers."""
    with served(create_app(MemoryBus(CODEC, BusLimits()), RECORDER), http=request.param) as running:
        yield running


@pytest.mark.parametrize(("middle", "named"), NASTY, ids=lambda one: ascii(one)[:40])
async def test_nasty_bytes_on_a_socket(server: Served, middle: bytes, named: Named | None) -> None:
    """As no client would send them: the topic that is named, or a refusal, and the server goes on."""
    head = b"Host: test\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n"
    answer = await ask_raw(server.port, b"GET /api/v1/sse/projects/" + middle + b"/stream/ HTTP/1.1\r\n" + head)
    assert RECORDER.taken() == ([] if named is None else [named])
    assert answer.status in ({400, 404} if named is None else {403})
    assert b"x-injected" not in answer.head.lower()
    again = await ask_raw(server.port, b"GET /api/v1/sse/projects/a/stream/ HTTP/1.1\r\n" + head)
    assert (again.status, RECORDER.taken()) == (403, [("a", None)])


LIKE_EACH_OTHER = [
    "a",
    "A",
    "ａ",
    "%61",
    "%2561",
    "a.",
    "a-b",
    "a+b",
    "a%20b",
    "é",
    "e\u0301",
    "a／b",
    "a%2Fb",
    "ﬁ",
    "fi",
]


async def test_projects_that_look_alike_share_nothing_down_to_redis(any_redis: RedisServer) -> None:
    """One text each, all published on one Redis: each viewer gets its own, by URL; each project has its own keys."""
    publishers = [RedisStreamPublisher(project, "rewrite", bus=any_redis.url) for project in LIKE_EACH_OTHER]
    for publisher in publishers:
        assert publisher.publish_done(f"the text of {publisher.project_id}")
        assert publisher.close()
    with served(create_app(any_redis.url)) as server:
        for project in LIKE_EACH_OTHER:
            async with request(server.port, stage_path(quote(project, safe=""), query="replay=latest")) as response:
                messages = await response.until_type("done")
            assert {message.get("project_id", project) for message in messages} == {project}
            assert messages[-1]["full_text"] == f"the text of {project}"
    with any_redis.client() as client:
        tags = [re.findall(r"\{(.*?)\}", key.decode())[0] for key in client.scan_iter("stagecast:*")]
    assert set(tags) == set(LIKE_EACH_OTHER)
    assert {tags.count(project) for project in LIKE_EACH_OTHER} == {tags.count("a")}
