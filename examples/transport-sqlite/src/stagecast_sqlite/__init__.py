"""`sqlite:///path/to/file.db`: a stagecast transport for processes of one machine, without a server."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from stagecast.adapters.transport import Change, Entry, Head, StoredBus
from stagecast.domain.bus import BusLimits, Capabilities, EventCodec
from stagecast.domain.errors import BusUnavailable, NotConfigured
from stagecast.domain.positions import Position

POLL = 0.02
"""Seconds between two looks whether somebody has changed the file: SQLite has no notifications."""
WAIT = 5.0
"""Seconds that a change waits for another process's."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS project (id TEXT PRIMARY KEY, version INTEGER, head BLOB, expires_at REAL);
CREATE TABLE IF NOT EXISTS log (project TEXT, epoch INTEGER, n INTEGER, stage TEXT, event BLOB,
                                PRIMARY KEY (project, epoch, n)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS text (project TEXT, stage TEXT, n INTEGER, piece TEXT, PRIMARY KEY (project, stage, n));
"""
APPEND = """
INSERT INTO text VALUES (?1, ?2, (SELECT ifnull(max(n), 0) + 1 FROM text WHERE project = ?1 AND stage = ?2), ?3)
"""
PAGE = "SELECT epoch, n, stage, event FROM log WHERE project = ? AND (epoch, n) > (?, ?) ORDER BY epoch, n LIMIT ?"

T = TypeVar("T")


class SqliteStore:
    """`stagecast.adapters.transport.LedgerStore` in one file. One thread of its own runs all of its SQL."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "stagecast-sqlite")
        self._connection: sqlite3.Connection | None = None

    async def head(self, project: str) -> Head | None:
        return await self._run(lambda db: _head(db, project))

    async def commit(self, change: Change) -> bool:
        return await self._run(lambda db: _commit(db, change))

    async def log(self, project: str, after: Position | None, count: int) -> list[Entry]:
        epoch, n = after or (-1, -1)
        rows = await self._run(lambda db: db.execute(PAGE, (project, epoch, n, count)).fetchall())
        return [(Position(epoch, n), stage, event) for epoch, n, stage, event in rows]

    async def texts(self, project: str) -> tuple[Head | None, Mapping[str, str]]:
        def read(db: sqlite3.Connection) -> tuple[Head | None, Mapping[str, str]]:
            db.execute("BEGIN")  # one moment for both
            found: dict[str, list[str]] = {}
            for stage, piece in db.execute("SELECT stage, piece FROM text WHERE project = ? ORDER BY n", (project,)):
                found.setdefault(stage, []).append(piece)
            return _head(db, project), {stage: "".join(pieces) for stage, pieces in found.items()}

        return await self._run(read)

    @asynccontextmanager
    async def watch(self, project: str, changed: Callable[[], None]) -> AsyncIterator[None]:
        async def poll(seen: int) -> None:
            while True:
                await asyncio.sleep(POLL)
                try:
                    version = await self._version(project)
                except BusUnavailable:
                    continue  # the next look at the head finds what was missed
                if version != seen:
                    seen = version
                    changed()

        task = asyncio.create_task(poll(await self._version(project)))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def aclose(self) -> None:
        self._thread.submit(lambda: self._connection and self._connection.close())
        await asyncio.to_thread(self._thread.shutdown)

    async def _version(self, project: str) -> int:
        head = await self.head(project)
        return head.version if head else 0

    async def _run(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """What `act` returns, in a transaction of its own. Raises BusUnavailable."""

        def run() -> T:
            if self._connection is None:
                self._connection = _connected(self._path)
            with self._connection:  # commits, or rolls back
                return act(self._connection)

        try:
            return await asyncio.wrap_future(self._thread.submit(run))
        except (sqlite3.Error, RuntimeError) as error:  # RuntimeError: the thread was shut down
            raise BusUnavailable(f"SQLite: {error}") from error


def _connected(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.executescript(SCHEMA)
    return db


def _head(db: sqlite3.Connection, project: str) -> Head | None:
    row = db.execute(
        "SELECT head, version FROM project WHERE id = ? AND expires_at > ?", (project, time.time())
    ).fetchone()
    return Head(*row) if row else None


def _commit(db: sqlite3.Connection, change: Change) -> bool:
    db.execute("BEGIN IMMEDIATE")
    project = change.project
    head = _head(db, project)
    if (head.version if head else 0) != change.version:
        return False
    if change.anew:
        _drop(db, project)
    for stage, (begins, text) in change.texts.items():
        if begins:
            db.execute("DELETE FROM text WHERE project = ? AND stage = ?", (project, stage))
        if text:
            db.execute(APPEND, (project, stage, text))
    db.executemany(
        "INSERT INTO log VALUES (?, ?, ?, ?, ?)",
        [(project, *position, stage, event) for position, stage, event in change.entries],
    )
    if change.entries:
        epoch, n = change.entries[-1][0]
        db.execute("DELETE FROM log WHERE project = ? AND (epoch, n) <= (?, ?)", (project, epoch, n - change.keep))
    version = time.time_ns()  # never one that was there before, also after an old file was put back
    row = (project, version, change.head, change.expires_at)
    db.execute("INSERT OR REPLACE INTO project VALUES (?, ?, ?, ?)", row)
    for (expired,) in db.execute("SELECT id FROM project WHERE expires_at <= ? LIMIT 10", (time.time(),)).fetchall():
        _drop(db, expired)
    return True


def _drop(db: sqlite3.Connection, project: str) -> None:
    db.execute("DELETE FROM log WHERE project = ?", (project,))
    db.execute("DELETE FROM text WHERE project = ?", (project,))
    db.execute("DELETE FROM project WHERE id = ?", (project,))


def open_sqlite_bus(url: str, codec: EventCodec, limits: BusLimits) -> StoredBus:
    """A bus for `sqlite:///relative.db` or `sqlite:////absolute.db`. Raises NotConfigured."""
    parts = urlsplit(url)
    path = unquote(parts.path[1:])
    if parts.netloc or not path:
        raise NotConfigured("the URL of an SQLite file is sqlite:///relative.db or sqlite:////absolute.db")
    return StoredBus(lambda: SqliteStore(path), codec, limits, Capabilities(persistent=True))
