"""The SQLite transport keeps stagecast's contract."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from stagecast_sqlite import open_sqlite_bus

from stagecast.domain.bus import BusLimits, MessageBus
from stagecast.entrypoints.testing.actors import CODEC
from stagecast.entrypoints.testing.contract import BusContract, ProcessContract, RewindContract


class FileBackend:
    """A file; it loses everything when its rows are deleted, and goes back when its rows are put back."""

    def __init__(self, folder: Path) -> None:
        self._file, self._kept = folder / "bus.db", folder / "kept.db"
        self.url = f"sqlite:///{self._file}"

    async def open(self, limits: BusLimits) -> MessageBus:
        return open_sqlite_bus(self.url, CODEC, limits)

    async def close(self, bus: MessageBus) -> None:
        await bus.aclose()

    async def lose_everything(self) -> None:
        with closing(sqlite3.connect(self._file)) as db, db:
            db.executescript("DELETE FROM project; DELETE FROM log; DELETE FROM text;")

    async def connections(self) -> int:
        return 0

    async def save(self) -> None:
        with closing(sqlite3.connect(self._file)) as db, closing(sqlite3.connect(self._kept)) as kept:
            db.backup(kept)

    async def rewind(self) -> None:
        with closing(sqlite3.connect(self._file)) as db, closing(sqlite3.connect(self._kept)) as kept:
            kept.backup(db)


class TestSqliteBus(BusContract, ProcessContract, RewindContract):
    """Every guarantee, by a file."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> FileBackend:
        return FileBackend(tmp_path)
