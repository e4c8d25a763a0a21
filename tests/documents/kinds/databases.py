"""Databases for tests: a SQLite file, and a PostgreSQL server of their own where its programs are."""

import getpass
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

PASSWORD = "pass/wörd:@"


class Database:
    """One to fill. `url` is what an entry says of it, `password` what the environment does."""

    def __init__(self, url: str, password: str | None = None) -> None:
        self.url = url
        self.password = password

    def run(self, *statements: str) -> None:
        url = sa.make_url(self.url).set(password=self.password)
        engine = sa.create_engine(url, poolclass=NullPool)
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)


def sqlite(path: Path) -> Database:
    return Database(f"sqlite:///{path}")


@contextmanager
def postgres() -> Iterator[Database | None]:
    """A server that listens on a socket in a folder of its own; None where it or a driver is not."""
    programs = _programs()
    if programs is None or importlib.util.find_spec("psycopg") is None:
        yield None
        return
    # Not pytest's folder: the server refuses to run as root, and another user may not look into it.
    folder = Path(tempfile.mkdtemp(prefix="headwater-pg-"))
    user = "nobody" if os.getuid() == 0 else getpass.getuser()
    try:
        (folder / "password").write_text(PASSWORD)
        if os.getuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        with _server(programs, folder, user):
            database = Database(f"postgresql+psycopg://reader@/postgres?host={folder}", PASSWORD)
            _wait(database)
            yield database
    finally:
        shutil.rmtree(folder)


@contextmanager
def _server(programs: Path, folder: Path, user: str) -> Iterator[None]:
    data = folder / "data"
    subprocess.run(
        [
            *(programs / "initdb", "-D", data, "-U", "reader", "-E", "UTF8", "--no-sync"),
            *("--auth=scram-sha-256", f"--pwfile={folder / 'password'}"),
        ],
        user=user,
        cwd=folder,
        check=True,
        capture_output=True,
    )
    settings = ["listen_addresses=", f"unix_socket_directories={folder}", "fsync=off"]
    process = subprocess.Popen(
        [programs / "postgres", "-D", data, *(word for each in settings for word in ("-c", each))],
        user=user,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def _programs() -> Path | None:
    """The folder of the newest server's programs."""
    found = shutil.which("initdb")
    if found and shutil.which("postgres"):
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((each for each in reversed(folders) if (each / "initdb").exists()), None)


def _wait(database: Database) -> None:
    for _ in range(300):
        try:
            return database.run("SELECT 1")
        except sa.exc.OperationalError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")
