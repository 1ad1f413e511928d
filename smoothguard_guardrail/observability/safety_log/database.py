"""Safety logs as a DuckDB table (extra `log`): a million lines in bounded memory.

DuckDB reads the JSON lines itself. The table lies in a temporary folder and is gone when the log is closed.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from smoothguard_guardrail.errors import MissingDependencyError
from smoothguard_guardrail.observability.safety_log.filters import CLIENT_KEY, SQL, LineFilter
from smoothguard_guardrail.observability.safety_log.lines import SCHEMA_VERSION, FailureLine, VerdictLine
from smoothguard_guardrail.observability.safety_log.reader import SkippedLines

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY: Final = "400MB"
"""What DuckDB may hold in memory; beyond it, it writes to the temporary folder."""
_OFFLINE: Final = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
_FIELDS: Final = {
    "schema_version": "BIGINT",
    "event": "VARCHAR",
    "id": "VARCHAR",
    "time": "VARCHAR",
    "run_id": "VARCHAR",
    "tags": ["VARCHAR"],
    "metadata": {CLIENT_KEY: "VARCHAR", "model": "VARCHAR", "ls_model_name": "VARCHAR"},
    "num_calls": "BIGINT",
    "failures": ["VARCHAR"],
    "timings": dict.fromkeys(("scan", "perturb", "model", "vote", "total"), "DOUBLE"),
    "verdict": "VARCHAR",
    "action": "VARCHAR",
    "agreement": "DOUBLE",
    "suspicion": "DOUBLE",
    "suspicious": "BOOLEAN",
    "clean_overruled": "BOOLEAN",
    "media": [{"sha256": "VARCHAR", "kind": "VARCHAR"}],
    "usage": {"total_tokens": "BIGINT"},
    "error": "VARCHAR",
    "reason": "VARCHAR",
    "version": "VARCHAR",
    "settings_hash": "VARCHAR",
    "settings": "JSON",
}
"""What is read of a line, with DuckDB's types."""
_READ: Final = f"""
create table lines as
with parsed as (
    select json, from_json(json, '{json.dumps(_FIELDS)}') as line, json_keys(json) as keys
    from read_ndjson_objects($files, ignore_errors = true)
), typed as (
    select json, line, keys,
        try_cast(line.time as timestamptz) as time,
        case line.event when 'failure' then 'failed' else line.verdict end as verdict,
        line.event = 'verdict' and line.verdict != 'skipped' as voted
    from parsed
), judged as (
    select *,
        line.schema_version = {SCHEMA_VERSION} and line.id is not null and line.run_id is not null
            and line.version is not null and year(time) between 1970 and 2199 and case line.event
            when 'failure' then line.error is not null and list_has_all($failure_fields, keys)
            when 'verdict' then line.verdict in ('passed', 'abstained', 'skipped')
                and line.action in ('answered', 'refused', 'skipped')
                and line.agreement between 0 and 1 and coalesce(line.suspicion between 0 and 1, true)
                and list_has_all($verdict_fields, keys)
            else false end as readable,
        coalesce(voted and line.clean_overruled, false) as clean_overruled,
        coalesce(voted and line.agreement < $low_agreement, false) as low_agreement,
        coalesce(voted and line.suspicious, false) as above_threshold,
        coalesce(verdict = 'abstained', false) or clean_overruled or low_agreement or above_threshold as suspicious
    from typed
)
select * from (
    select
        coalesce(readable, false) as readable,
        coalesce(line.schema_version, {SCHEMA_VERSION}) != {SCHEMA_VERSION} as other_version,
        line.id, time, verdict, coalesce(line.action, 'failed') as action,
        suspicious, clean_overruled, low_agreement, above_threshold,
        case when voted then line.agreement end as agreement, line.suspicion,
        line.num_calls, line.usage.total_tokens as tokens, line.timings, line.failures, line.error,
        line.tags, line.metadata.{CLIENT_KEY} as client,
        coalesce(line.metadata.model, line.metadata.ls_model_name) as model,
        list_filter(list_distinct(list_transform(line.media, lambda each: each.sha256)), lambda each: each is not null)
            as hashes,
        line.reason, line.version, line.settings_hash, line.settings::varchar as settings,
        case when suspicious or verdict = 'failed' or line.id = $id then json::varchar end as text
    from judged
) where not readable or """  # noqa: S608 - our own names; values are parameters


@contextmanager
def open_log(
    paths: Sequence[Path], chosen: LineFilter | None = None, *, low_agreement: float = 0.6
) -> Iterator[tuple[DuckDBPyConnection, SkippedLines]]:
    """Read safety logs into a database with the view `calls`, one row per line that counts.

    Args:
        paths: Files, read as gzip if they end in `.gz`; `-` is standard input.
        chosen: Which lines count.
        low_agreement: Agreement below which a call is suspicious.

    Yields:
        The connection, and the counts of the lines that could not be read.

    Raises:
        MissingDependencyError: DuckDB is not installed.
        OSError: A file cannot be read.
    """
    try:
        import duckdb
    except ImportError as error:
        raise MissingDependencyError("duckdb", "log") from error
    chosen = chosen or LineFilter()
    with TemporaryDirectory(prefix="smoothguard-log-") as name:
        folder = Path(name)
        conditions = " and ".join(["true", *(SQL[name] for name in chosen.chosen())])
        files = {str(_readable(path, folder / str(place))): path for place, path in enumerate(paths)}
        values: dict[str, Any] = {
            **chosen.chosen(),
            "files": list(files),
            "failure_fields": list(FailureLine.model_fields),
            "verdict_fields": list(VerdictLine.model_fields),
            "low_agreement": low_agreement,
            "id": chosen.id,
        }
        settings: dict[str, Any] = {
            "memory_limit": MEMORY,
            "preserve_insertion_order": False,
            "temp_directory": name,
            **_OFFLINE,
        }
        with duckdb.connect(folder / "log.duckdb", config=settings) as connection:
            connection.execute("set timezone = 'UTC'")
            try:
                connection.execute(f"{_READ}({conditions})", values)
            except duckdb.Error as error:
                message = str(error)
                for link, path in files.items():
                    message = message.replace(link, str(path))
                raise OSError(message) from error
            connection.execute("create view calls as select * from lines where readable")
            damaged, other = connection.sql(
                "select count(*) filter (not other_version), count(*) filter (other_version)"
                " from lines where not readable"
            ).fetchall()[0]
            yield connection, SkippedLines(damaged=damaged, other_version=other)


def _readable(path: Path, link: Path) -> Path:
    """Return a path that DuckDB reads as it is: it takes `*`, `?` and `[` for patterns, and has no standard input."""
    if str(path) == "-":
        with link.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        return link
    with path.open("rb"):
        pass  # raises the OSError that names the file
    link = link.with_suffix(".gz" if path.suffix == ".gz" else ".jsonl")
    link.symlink_to(path.absolute())
    return link
