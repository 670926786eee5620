"""A connector that keeps a CRM up to date with Leadlog. Copy it and call your CRM in `Crm`.

    python deploy/examples/crm_connector.py --group crm --redis redis://localhost:6379/0

It prints the changes that it would make to the CRM: text on a terminal, JSON lines behind a pipe.

Which events it applies:
- With --tenant or --mode: those of these tenants (default: all) in this mode (default: live).
- Otherwise with --key: those of the tenants and modes of the keys. Without --key, LEADLOG_KEY
  counts, or the key of `leadlog dev` in .data: a live key of its first tenant.
- Otherwise the live events of all tenants.
It acknowledges the other events without applying them, and prints their number when it ends. Use
another --group for another choice: a group does not get an event twice.

Guarantees of the streams `leadlog:events:{g<generation>s<shard>}`:
- All events of a lead are in one shard, in order; `version` numbers them without a gap.
- A restore of the database starts a new generation of streams: read the old one to its end first.
  The lead's state is then that of the backup, and versions that were lost are used again.
- Delivery is at least once: after a crash, or after Redis was wiped, some entries are repeated.
  This program stores each lead's newest generation and version in SQLite and skips older ones.
- No entry is removed before every group has acknowledged it. Acknowledge after the effect.
- If Redis loses entries, Leadlog appends them again from PostgreSQL under the same ids.
- A large event is thin: its `data` holds only ids. The field `after` is the cursor just before it:
  `GET /v1/events?after=…&limit=1` with a key of its tenant and mode returns the whole event.

Run one process per group, or the order is lost. Access to these streams is access to all tenants.
"""

import argparse
import json
import os
import signal
import sqlite3
import sys
import time
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from redis import Redis
from redis.exceptions import RedisError, ResponseError

SHARDS = range(8)
GENERATION_KEY = "leadlog:events:generation"
CONSUMER = "one"  # constant: after a restart Redis returns its unacknowledged entries
BATCH = 200
BLOCK_MS = 1000
FOLLOW_EVERY_S = 1.0
RECONNECT_S = 1.0

TENANT_HEADER = "Leadlog-Tenant"
"""The header of GET /v1/events with the tenant of the key, numbered as in the streams."""

Owner = tuple[str, str]
"""Tenant and mode, as an entry names them."""
Entry = tuple[str, dict[str, str]]
"""Id and fields. No fields: the entry was removed before it was acknowledged."""


class NotReadyError(Exception):
    """The connector must wait and try again; the current entry has had no effect."""


class Api:
    """Leadlog's API, for events that are too large for the streams."""

    def __init__(self, url: str, keys: list[str]) -> None:
        self._url = url.rstrip("/")
        self._unknown = list(keys)
        """The keys whose tenant is not known yet."""
        self._keys: dict[Owner, str] = {}

    def find_keys(self) -> dict[Owner, str]:
        """The keys by tenant and mode: each key has one. The API is asked once for each key."""
        while self._unknown:
            key = self._unknown[-1]
            tenant = self._get({"after": "latest"}, key)[1]
            if tenant is None:
                raise NotReadyError(f"the API at {self._url} does not name the tenant of a key")
            self._keys[tenant, "test" if key.startswith("sk_test_") else "live"] = key
            self._unknown.pop()
        return self._keys

    def read_event(self, entry: dict[str, str]) -> dict[str, Any] | None:
        """The whole event of a thin entry; None if Leadlog no longer keeps it."""
        tenant, mode = entry["tenant"], entry["mode"]
        key = self.find_keys().get((tenant, mode))
        if key is None:
            raise NotReadyError(
                f"a large event waits: give --mode {mode} and a read --key of tenant {tenant}"
            )
        events, _ = self._get({"after": entry["after"], "limit": 1}, key)
        if events is None:
            return None
        if not events or events[0]["id"] != entry["event_id"]:
            raise NotReadyError(
                f"a large event waits: the API at {self._url} does not return it; "
                "is it the API that writes to this Redis?"
            )
        return events[0]

    def _get(
        self, query: dict[str, Any], key: str
    ) -> tuple[list[dict[str, Any]] | None, str | None]:
        """A page of events, None if the cursor is too old; and the tenant of the key."""
        request = Request(  # noqa: S310  # the operator sets the URL
            f"{self._url}/v1/events?{urlencode(query)}", headers={"Authorization": f"Bearer {key}"}
        )
        try:
            with urlopen(request, timeout=10) as response:  # noqa: S310
                return json.load(response)["data"], response.headers[TENANT_HEADER]
        except HTTPError as error:
            if error.code == HTTPStatus.BAD_REQUEST:
                return None, None
            raise NotReadyError(
                f"the API answered {error.code} to the key that ends with {key[-4:]}"
            ) from error
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            raise NotReadyError(
                f"the API at {self._url} cannot be reached ({error!r}); set it with --api"
            ) from error


class Choice:
    """The events to apply, as the command line chooses them."""

    def __init__(self, tenants: list[int], mode: str | None, has_keys: bool, api: Api) -> None:
        self._tenants = {str(tenant) for tenant in tenants}
        self._mode = mode or "live"
        self._is_by_keys = has_keys and not tenants and mode is None
        self._api = api

    def prepare(self) -> None:
        """Looks up the tenants of the keys. Raises NotReadyError."""
        if self._is_by_keys:
            self._api.find_keys()

    def includes(self, entry: dict[str, str]) -> bool:
        if self._is_by_keys:
            return (entry["tenant"], entry["mode"]) in self._api.find_keys()
        return entry["mode"] == self._mode and (
            not self._tenants or entry["tenant"] in self._tenants
        )


class Crm:
    """The CRM. Applying an event twice is harmless, because an event holds the whole lead."""

    def apply(self, entry: dict[str, str], event: dict[str, Any]) -> None:
        """Applies one event. Raise on failure: the event is repeated after a restart."""
        if entry["type"].startswith("webhook."):  # about a webhook of Leadlog, not about a lead
            return
        lead = event["data"].get("lead")
        action = "note" if lead is None else "upsert"  # a conversation is a note on its lead
        if entry["type"] == "lead.deleted":
            action = "delete"
        print_record(
            {
                "action": action,
                "type": entry["type"],
                "leadId": entry["lead_id"],
                "lead": lead,
                "version": int(entry["version"]),
                "tenant": entry["tenant"],
                "mode": entry["mode"],
                "eventId": entry["event_id"],
            }
        )


class Memory:
    """State that survives a restart: what was applied to each lead, each shard's generation."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        self._db.executescript(
            "CREATE TABLE IF NOT EXISTS applied (lead TEXT PRIMARY KEY,"
            " generation INTEGER NOT NULL, version INTEGER NOT NULL);"
            "CREATE TABLE IF NOT EXISTS shard (id INTEGER PRIMARY KEY, generation INTEGER NOT NULL)"
        )

    def find_applied(self, lead: str) -> tuple[int, int] | None:
        """The newest applied generation and version; None: the lead is unknown."""
        select = "SELECT generation, version FROM applied WHERE lead = ?"
        row: tuple[int, int] | None = self._db.execute(select, (lead,)).fetchone()
        return row

    def store_applied(self, lead: str, generation: int, version: int) -> None:
        """Stores what was applied; durable after the next `commit`."""
        insert = "INSERT OR REPLACE INTO applied VALUES (?, ?, ?)"
        self._db.execute(insert, (lead, generation, version))

    def read_generations(self) -> dict[int, int]:
        """The generation that is being read, by shard."""
        return dict(self._db.execute("SELECT id, generation FROM shard"))

    def store_generation(self, shard: int, generation: int) -> None:
        """Stores a generation; durable at once."""
        self._db.execute("INSERT OR REPLACE INTO shard VALUES (?, ?)", (shard, generation))
        self._db.commit()

    def commit(self) -> None:
        """Makes what was stored durable."""
        self._db.commit()


class Connector:
    """Reads all shards through one consumer group."""

    def __init__(
        self,
        redis_url: str,
        group: str,
        claim_after_s: float,
        memory: Memory,
        choice: Choice,
        api: Api,
    ) -> None:
        # redis-py's annotations promise awaitables for the synchronous client too.
        self._redis: Any = Redis.from_url(redis_url, decode_responses=True, socket_timeout=10)
        self._group = group
        self._claim_after_ms = round(claim_after_s * 1000)
        self._crm = Crm()
        self._memory = memory
        self._choice = choice
        self._api = api
        self._skipped = 0
        self._generations = memory.read_generations()
        self._follow_at = 0.0
        self.stopping = False

    def run(self) -> None:
        """Runs until `stopping`; waits for a Redis that is down or was wiped."""
        while not self.stopping:
            try:
                self._choice.prepare()
                self._join()
                self._redo_pending()
                while not self.stopping:
                    self._turn()
            except NotReadyError as error:
                print_record({"notice": str(error)})
            except ResponseError as error:
                if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
                    raise
                print_record({"notice": "a stream is gone; joining again"})
            except RedisError as error:
                print_record(
                    {"notice": "Redis cannot be reached; trying again", "reason": str(error)}
                )
            if not self.stopping:
                time.sleep(RECONNECT_S)

    def report_skipped(self) -> None:
        """Prints how many events were not applied, as they belong to other tenants or modes."""
        if self._skipped:
            notice = "events of other tenants or modes were skipped"
            print_record({"notice": notice, "count": self._skipped})

    def _turn(self) -> None:
        shards = {self._key(shard): shard for shard in SHARDS}
        keys = dict.fromkeys(shards, ">")
        for key, entries in self._redis.xreadgroup(self._group, CONSUMER, keys, BATCH, BLOCK_MS):
            self._work(shards[key], entries)
        now = time.monotonic()
        if now >= self._follow_at:
            self._follow_at = now + FOLLOW_EVERY_S
            self._follow()
            self._claim_stale()

    def _work(self, shard: int, entries: list[Entry]) -> None:
        """Applies entries, then stores their versions, then acknowledges them."""
        key, done = self._key(shard), []
        try:
            for entry_id, fields in entries:
                if "envelope" not in fields:  # not acknowledged, so that Leadlog repairs the stream
                    print_record(
                        {
                            "notice": "an entry was removed or is no event",
                            "key": key,
                            "id": entry_id,
                        }
                    )
                    continue
                if self._choice.includes(fields):
                    self._apply(fields, self._generations[shard])
                else:
                    self._skipped += 1
                done.append(entry_id)
        finally:  # also if an entry fails: the ones before it are done
            self._memory.commit()
            if done:
                self._redis.xack(key, self._group, *done)

    def _apply(self, entry: dict[str, str], generation: int) -> None:
        lead = f"{entry['tenant']}/{entry['mode']}/{entry['lead_id']}"
        version, applied = int(entry["version"]), self._memory.find_applied(lead)
        if applied is not None:
            if (generation, version) <= applied:
                return
            report_jump(entry["lead_id"], applied[1], version)
        self._crm.apply(entry, self._read_event(entry))
        self._memory.store_applied(lead, generation, version)

    def _read_event(self, entry: dict[str, str]) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(entry["envelope"])
        if "after" not in entry:
            return event
        whole = self._api.read_event(entry)
        if whole is None:
            print_record(
                {"notice": "a large event is not kept any more", "eventId": entry["event_id"]}
            )
        return whole or event

    def _redo_pending(self) -> None:
        """Applies the entries that this consumer received earlier but did not acknowledge."""
        for shard in SHARDS:
            key, after = self._key(shard), "0"
            while entries := self._read_pending(key, after):
                self._work(shard, entries)
                after = entries[-1][0]

    def _read_pending(self, key: str, after: str) -> list[Entry]:
        replies = self._redis.xreadgroup(self._group, CONSUMER, {key: after}, BATCH)
        return list(replies[0][1]) if replies else []

    def _claim_stale(self) -> None:
        """Applies the unacknowledged entries of other consumers, which have died."""
        for shard in SHARDS:
            key, start = self._key(shard), "0-0"
            while start:
                start, entries, removed = self._redis.xautoclaim(
                    key, self._group, CONSUMER, self._claim_after_ms, start, BATCH
                )
                self._work(shard, [*entries, *((entry_id, {}) for entry_id in removed)])
                start = "" if start == "0-0" else start

    def _join(self) -> None:
        """Creates the missing groups."""
        newest = self._redis.get(GENERATION_KEY)
        if newest is None:
            raise NotReadyError("Leadlog has not written to this Redis yet")
        for shard in SHARDS:
            if shard not in self._generations:
                self._enter(shard, int(newest))
        self._follow()
        for shard in SHARDS:
            self._create_group(shard)

    def _follow(self) -> None:
        """Moves each shard to the next generation once the old one is read to its end."""
        newest = int(self._redis.get(GENERATION_KEY) or 0)
        for shard, generation in self._generations.items():
            if generation < newest and self._is_read(shard):
                between = range(generation + 1, newest)
                found = (g for g in between if self._redis.exists(make_key(g, shard)))
                self._enter(shard, next(found, newest))
                self._create_group(shard)

    def _enter(self, shard: int, generation: int) -> None:
        if generation > max(self._generations.values(), default=generation):
            notice = "a new generation of the log, as after a restore: lower versions are applied"
            print_record({"notice": notice, "generation": generation})
        self._generations[shard] = generation
        self._memory.store_generation(shard, generation)

    def _create_group(self, shard: int) -> None:
        """Creates the group at the first entry; Leadlog moves a known group to its position."""
        try:
            self._redis.xgroup_create(self._key(shard), self._group, "0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _is_read(self, shard: int) -> bool:
        """Whether the group has read and acknowledged the shard's whole stream."""
        key = self._key(shard)
        if not self._redis.exists(key):
            return True
        last = parse_id(self._redis.xinfo_stream(key)["last-generated-id"])
        return any(
            group["name"] == self._group
            and not group["pending"]
            and parse_id(group["last-delivered-id"]) >= last
            for group in self._redis.xinfo_groups(key)
        )

    def _key(self, shard: int) -> str:
        return make_key(self._generations[shard], shard)


def make_key(generation: int, shard: int) -> str:
    """The key of a shard's stream; the braces are its hash tag in a Redis Cluster."""
    return f"leadlog:events:{{g{generation}s{shard}}}"


def report_jump(lead: str, applied: int, version: int) -> None:
    """Prints a notice if a version does not follow the applied one."""
    if version <= applied:  # in a new generation
        notice = "the database was restored: this lead goes back to a lower version"
        print_record({"notice": notice, "leadId": lead, "from": applied, "to": version})
    elif version > applied + 1:  # the event to apply has the newest state anyway
        missing = {"from": applied + 1, "to": version - 1}
        print_record({"notice": "events are missing", "leadId": lead, **missing})


def parse_id(text: str) -> tuple[int, int]:
    """An entry's id as numbers, for comparison."""
    tick, _, event = text.partition("-")
    return int(tick), int(event)


def print_record(record: dict[str, Any]) -> None:
    """Prints a readable line on a terminal, JSON behind a pipe."""
    line = make_line(record) if sys.stdout.isatty() else to_json(record)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def to_json(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)


def make_line(record: dict[str, Any]) -> str:
    """The record as a readable line."""
    if "notice" in record:
        return "! " + ", ".join(f"{value}" for value in record.values())
    lead = record["lead"] or {}
    parts = [lead.get(name) for name in ("email", "name", "company", "status")]
    parts.append(f"score {lead.get('score')}")
    about = " · ".join(part for part in parts if part) if lead else record["leadId"]
    line = f"{record['action']:<7}{record['type']:<16} v{record['version']:<4} {about}"
    # A lead's fields must not send control codes to the terminal.
    return "".join(c if c.isprintable() else "�" for c in line)


def find_redis_url(dev_folder: Path) -> str:
    """REDIS_URL, or the address of the `leadlog dev` that runs on this folder."""
    with suppress(OSError):
        for line in (dev_folder / "dev.env").read_text().splitlines():
            if line.startswith("REDIS_URL="):
                return os.environ.get("REDIS_URL") or line.removeprefix("REDIS_URL=")
    return os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0"


def find_api_url() -> str:
    """LEADLOG_URL, or the API on this machine at PORT."""
    port = os.environ.get("PORT") or "8080"
    return os.environ.get("LEADLOG_URL") or f"http://127.0.0.1:{port}"


def find_keys(dev_folder: Path) -> list[str]:
    """The keys in LEADLOG_KEY, or the key that `leadlog dev` has created in this folder."""
    with suppress(OSError):
        return (os.environ.get("LEADLOG_KEY") or (dev_folder / "admin.key").read_text()).split()
    return []


def make_parser(folder: Path) -> argparse.ArgumentParser:
    """The command line; `folder` is that of `leadlog dev`."""
    title, _, rest = (__doc__ or "").partition("\n")
    about = rest.partition("Which events")[2].partition("\n\n")[0]
    parser = argparse.ArgumentParser(
        description=title,
        epilog=f"Which events{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--group", default="crm", help="consumer group; default: crm")
    parser.add_argument(
        "--redis", default=find_redis_url(folder), help="address; default: REDIS_URL"
    )
    parser.add_argument(
        "--tenant",
        type=int,
        action="append",
        default=[],
        help="number of a tenant to apply, see `leadlog tenants list`; may be given several times",
    )
    parser.add_argument("--mode", choices=("live", "test"), help="mode to apply")
    parser.add_argument(
        "--key",
        action="append",
        help="read key, with which large events are fetched; may be given several times: one for "
        "each tenant and mode; default: LEADLOG_KEY, with a space between keys",
    )
    parser.add_argument(
        "--api",
        default=find_api_url(),
        help="Leadlog's API, which keys are for; default: LEADLOG_URL, or PORT on this machine",
    )
    claim_help = "seconds after which another consumer's entries are taken over; default: 30"
    parser.add_argument("--claim-after", type=float, default=30, help=claim_help)
    parser.add_argument("--memory", type=Path, help="SQLite file; default: GROUP.sqlite")
    return parser


def main() -> None:
    """Reads the command line and runs until SIGINT or SIGTERM."""
    folder = Path(os.environ.get("DATA_DIR") or ".data")
    chosen = make_parser(folder).parse_args()
    path = chosen.memory or (folder if folder.is_dir() else Path()) / f"{chosen.group}.sqlite"
    keys = chosen.key or find_keys(folder)
    api = Api(chosen.api, keys)
    choice = Choice(chosen.tenant, chosen.mode, bool(keys), api)
    memory = Memory(path)
    connector = Connector(chosen.redis, chosen.group, chosen.claim_after, memory, choice, api)

    def stop(*_: object) -> None:
        connector.stopping = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    connector.run()
    connector.report_skipped()


if __name__ == "__main__":
    main()
