"""The SQLite transport keeps stagecast's contract."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from stagecast.domain.bus import Capabilities
from stagecast.entrypoints.testing.contract import TransportContract, UrlBackend


class FileBackend(UrlBackend):
    """A file; it loses everything when its rows are deleted, and goes back when its rows are put back."""

    def __init__(self, folder: Path) -> None:
        self._file, self._kept = folder / "bus.db", folder / "kept.db"
        super().__init__(f"sqlite:///{self._file}")

    async def lose_everything(self) -> None:
        with closing(sqlite3.connect(self._file)) as db, db:
            db.executescript("DELETE FROM project; DELETE FROM log; DELETE FROM text;")

    async def save(self) -> None:
        with closing(sqlite3.connect(self._file)) as db, closing(sqlite3.connect(self._kept)) as kept:
            db.backup(kept)

    async def rewind(self) -> None:
        with closing(sqlite3.connect(self._file)) as db, closing(sqlite3.connect(self._kept)) as kept:
            kept.backup(db)


class TestSqliteBus(TransportContract):
    """Every guarantee, by a file."""

    name = "sqlite"
    capabilities = Capabilities(resume=True, processes=True, persistent=True)
    faults = ("rewind",)

    @pytest.fixture
    def backend(self, tmp_path: Path) -> FileBackend:
        return FileBackend(tmp_path)
