"""A tracking URI in; whether MLflow answers there, within seconds, out. Imports no mlflow,
whose own client tries for minutes; writes nothing.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http
import http.client
import os
import queue
import sqlite3
import ssl
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from sweeper.errors import EnvironmentFault
from sweeper.redaction import conceal, without_secrets
from sweeper.track.mlflow import database

SECONDS = 5.0
ASKED = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=0"  # what anybody may ask


class Away(EnvironmentFault):
    """Nobody answers there now; later somebody may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`version` is the server's, `revision` that of a database's tables; `clock` the
    server's, in seconds since the epoch. `new`: there is no database yet."""

    version: str | None = None
    revision: str | None = None
    clock: float | None = None
    new: bool = False


def reach(uri: str, seconds: float = SECONDS) -> Answer:
    """Raises EnvironmentFault with the reason where nothing answers, or something else."""
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        return server(uri, seconds)
    if (file := database(uri)) is not None:
        return sqlite(file, seconds)
    if scheme in ("", "file"):
        raise EnvironmentFault(
            f"{without_secrets(uri)} is no address for MLflow's runs: it is to look like "
            "http://127.0.0.1:5000 or sqlite:////path/mlflow.db"
        )
    return elsewhere(uri, seconds)


def server(uri: str, seconds: float) -> Answer:
    """Of the same name and password as MLflow's client sends."""
    said, clock = fetched(uri, "/health", seconds)
    if said.strip() != "OK":
        raise EnvironmentFault(f"{without_secrets(uri)} answers, and not as MLflow does")
    version = None
    with contextlib.suppress(EnvironmentFault):
        version = fetched(uri, "/version", seconds)[0].strip()
    return Answer(version=version, clock=clock)


def refuse_away(uri: str) -> None:
    """Raises Away where nobody answers at an address of the web, within the time that MLflow's
    client would wait. Whoever answers, however, that client knows better what to make of."""
    through = urllib.request.getproxies().values()
    if urlsplit(uri).scheme not in ("http", "https") or any("socks" in it for it in through):
        return
    try:
        fetched(uri, "/health", float(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT") or SECONDS))
    except Away:
        raise
    except EnvironmentFault:
        return


def admitted(uri: str, seconds: float = SECONDS) -> None:
    """Raises EnvironmentFault where MLflow does not let us in: that it lives it tells anybody."""
    if urlsplit(uri).scheme not in ("http", "https"):
        return
    try:
        fetched(uri, ASKED, seconds)
    except Refused as fault:
        if fault.status != http.HTTPStatus.NOT_FOUND:  # of the experiment
            raise


class Refused(EnvironmentFault):
    """The answer has a status that is an error."""

    def __init__(self, where: str, status: int):
        self.status = status
        what = f"MLflow at {where} answers {status}"
        if status == http.HTTPStatus.UNAUTHORIZED:
            what += ": it wants another name or password (MLFLOW_TRACKING_USERNAME and _PASSWORD)"
        elif status == http.HTTPStatus.FORBIDDEN:
            what += ": this name may not (MLFLOW_TRACKING_USERNAME), or not this way"
        super().__init__(what)


def fetched(uri: str, page: str, seconds: float) -> tuple[str, float | None]:
    """What is there, and the time by the server's clock."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    address = urlunsplit((parts.scheme, host, parts.path.rstrip("/") + page, "", ""))
    asked = urllib.request.Request(address)
    for name, value in authorization(parts.username, parts.password).items():
        asked.add_unredirected_header(name, value)  # It may be another's, to whom we are sent.
    try:
        with urllib.request.urlopen(asked, timeout=seconds, context=trusted()) as answer:
            date = answer.headers.get("Date")
            said = answer.read(10_000).decode(errors="replace")
    except urllib.error.HTTPError as fault:
        fault.close()
        if fault.code >= 500 or fault.code == http.HTTPStatus.TOO_MANY_REQUESTS:
            said = f"MLflow at {without_secrets(uri)} answers {fault.code}"
            raise Away(said) from fault  # A gateway, before a server that is not there.
        raise Refused(without_secrets(uri), fault.code) from fault
    except (OSError, ValueError, http.client.HTTPException) as fault:
        reason = getattr(fault, "reason", None) or fault
        said = f"MLflow at {without_secrets(uri)} does not answer: {reason}"
        lasting = isinstance(reason, ssl.SSLCertVerificationError) or not isinstance(fault, OSError)
        raise (EnvironmentFault if lasting else Away)(said) from fault
    with contextlib.suppress(TypeError, ValueError):
        return said, email.utils.parsedate_to_datetime(date).timestamp()
    return said, None


def trusted() -> ssl.SSLContext:
    """What MLflow's client trusts, by its variables."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        return anybody
    own = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    own = own or os.environ.get("REQUESTS_CA_BUNDLE") or None
    with contextlib.suppress(OSError):
        return ssl.create_default_context(cafile=own)
    return ssl.create_default_context()


def authorization(name: str | None, password: str | None) -> dict[str, str]:
    """What MLflow's client sends: from the URI, else from its variables."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    name = unquote(name) if name else os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = unquote(password) if password else os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    if not name:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def sqlite(file: Path, seconds: float) -> Answer:
    if not file.exists():
        return Answer(new=True)
    # Read-only, so that looking at a database makes none and changes none.
    address = f"{file.absolute().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=seconds)) as there:
            rows = there.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error as fault:
        raise EnvironmentFault(f"{file} cannot be read as MLflow's database: {fault}") from fault
    return Answer(revision=rows[0][0] if rows else None)


def elsewhere(uri: str, seconds: float) -> Answer:
    """Another database, through what MLflow itself reaches it by; in a thread, for drivers
    differ in how they are told to give up."""
    came: queue.SimpleQueue[Answer | EnvironmentFault] = queue.SimpleQueue()
    threading.Thread(target=lambda: came.put(connected(uri)), daemon=True).start()
    try:
        answer = came.get(timeout=seconds)
    except queue.Empty:
        raise Away(
            f"MLflow at {without_secrets(uri)} does not answer within {seconds:g} s"
        ) from None
    if isinstance(answer, EnvironmentFault):
        raise answer
    return answer


def connected(uri: str) -> Answer | EnvironmentFault:
    try:
        import sqlalchemy

        engine = sqlalchemy.create_engine(uri)
        try:
            with engine.connect() as there:
                asked = sqlalchemy.text("SELECT version_num FROM alembic_version")
                rows = there.execute(asked).all()
        finally:
            engine.dispose()
    except Exception as fault:  # Whatever a database's driver raises.
        said = conceal(str(fault).replace(uri, without_secrets(uri))).partition("\n")[0]
        return EnvironmentFault(f"MLflow at {without_secrets(uri)}: {said[:300]}")
    return Answer(revision=rows[0][0] if rows else None)
