"""A connector that keeps a CRM in step with Leadlog. Copy it and put your CRM into `Crm`.

    python deploy/examples/crm_connector.py --group crm --redis redis://localhost:6379/0

It prints what it would do to the CRM: a line to read, or JSON lines behind a pipe.

What Leadlog promises on the streams `leadlog:events:{g<generation>s<shard>}`:
- Every event of a lead is in one shard, in order; `version` counts a lead's events without a gap.
- At least once: after a crash, or when Redis was wiped, some entries come again. So the highest
  version done per lead is kept here, in SQLite, and what is not above it is skipped.
- Nothing is dropped before every group has acknowledged it. Acknowledge after the effect.
- If Redis loses entries, Leadlog appends them again from PostgreSQL under the same ids.
- After a restore of the database a new generation of streams begins; read the old one to its end.

Run one process per group, or order is lost. Whoever can read these streams reads all tenants.
"""

import argparse
import json
import os
import signal
import sqlite3
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError

SHARDS = range(8)
GENERATION_KEY = "leadlog:events:generation"
CONSUMER = "one"  # the same after a restart, so that it gets what it had in hand
BATCH = 200
BLOCK_MS = 1000
FOLLOW_EVERY_S = 1.0
RECONNECT_S = 1.0

Entry = tuple[str, dict[str, str]]
"""Id and fields; no fields: the entry was removed before it was acknowledged."""


class NotReadyError(Exception):
    """There is nothing to read yet."""


class Crm:
    """Where the leads go. A call may come twice: no harm, for an event has the whole lead."""

    def apply(self, entry: dict[str, str], event: dict[str, Any]) -> None:
        """Brings one event over; raise if it fails, and it comes again after a restart."""
        if entry["type"].startswith("webhook."):  # about a subscriber of Leadlog's, not a lead
            return
        lead = event["data"].get("lead")
        action = "note" if lead is None else "upsert"  # a conversation is a note on its lead
        if entry["type"] == "lead.deleted":
            action = "delete"
        say({"action": action, "type": entry["type"], "leadId": entry["lead_id"], "lead": lead,
             "version": int(entry["version"]), "tenant": entry["tenant"], "mode": entry["mode"],
             "eventId": entry["event_id"]})  # fmt: skip


class Memory:
    """What survives a restart: the version done of each lead, and each shard's generation."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        self._db.executescript(
            "CREATE TABLE IF NOT EXISTS lead (id TEXT PRIMARY KEY, version INTEGER NOT NULL);"
            "CREATE TABLE IF NOT EXISTS shard (id INTEGER PRIMARY KEY, generation INTEGER NOT NULL)"
        )

    def find_version(self, lead: str) -> int | None:
        """The highest version done; None: never heard of it."""
        row = self._db.execute("SELECT version FROM lead WHERE id = ?", (lead,)).fetchone()
        return None if row is None else int(row[0])

    def keep_version(self, lead: str, version: int) -> None:
        """Lasts from the next `commit` on."""
        self._db.execute("INSERT OR REPLACE INTO lead VALUES (?, ?)", (lead, version))

    def read_generations(self) -> dict[int, int]:
        """The generation that each shard is read from."""
        return dict(self._db.execute("SELECT id, generation FROM shard"))

    def keep_generation(self, shard: int, generation: int) -> None:
        """Lasts at once."""
        self._db.execute("INSERT OR REPLACE INTO shard VALUES (?, ?)", (shard, generation))
        self._db.commit()

    def commit(self) -> None:
        """Makes what was kept last."""
        self._db.commit()


class Connector:
    """Reads all shards through one consumer group."""

    def __init__(self, redis_url: str, group: str, claim_after_s: float, memory: Memory) -> None:
        # redis-py's annotations promise awaitables for the synchronous client too.
        self._redis: Any = Redis.from_url(redis_url, decode_responses=True, socket_timeout=10)
        self._group = group
        self._claim_after_ms = round(claim_after_s * 1000)
        self._crm = Crm()
        self._memory = memory
        self._generations = memory.read_generations()
        self._follow_at = 0.0
        self.stopping = False

    def run(self) -> None:
        """Until `stopping`; a Redis that is away or was wiped is waited for."""
        while not self.stopping:
            try:
                self._join()
                self._redo_pending()
                while not self.stopping:
                    self._turn()
            except NotReadyError as error:
                say({"notice": str(error)})
            except ResponseError as error:
                if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
                    raise
                say({"notice": "a stream is gone; joining again"})
            except RedisError as error:
                say({"notice": "Redis cannot be reached; trying again", "reason": str(error)})
            if not self.stopping:
                time.sleep(RECONNECT_S)

    def _turn(self) -> None:
        keys = {self._key(shard): ">" for shard in SHARDS}
        for key, entries in self._redis.xreadgroup(self._group, CONSUMER, keys, BATCH, BLOCK_MS):
            self._work(key, entries)
        now = time.monotonic()
        if now >= self._follow_at:
            self._follow_at = now + FOLLOW_EVERY_S
            self._follow()
            self._claim_stale()

    def _work(self, key: str, entries: list[Entry]) -> None:
        """The effects first, then the memory of them, then the acknowledgement."""
        done = []
        for entry_id, fields in entries:
            if "envelope" not in fields:  # not acknowledged: Leadlog will see to it
                say({"notice": "an entry was removed or is no event", "key": key, "id": entry_id})
                continue
            self._apply(fields)
            done.append(entry_id)
        self._memory.commit()
        if done:
            self._redis.xack(key, self._group, *done)

    def _apply(self, entry: dict[str, str]) -> None:
        lead = f"{entry['tenant']}/{entry['mode']}/{entry['lead_id']}"
        version, known = int(entry["version"]), self._memory.find_version(lead)
        if known is not None and version <= known:
            return
        if known is not None and version > known + 1:  # its newest state is in this event anyway
            say({"notice": "events are missing", "leadId": entry["lead_id"],
                 "from": known + 1, "to": version - 1})  # fmt: skip
        self._crm.apply(entry, json.loads(entry["envelope"]))
        self._memory.keep_version(lead, version)

    def _redo_pending(self) -> None:
        """What this consumer was given and did not acknowledge before it ended."""
        for shard in SHARDS:
            key, after = self._key(shard), "0"
            while entries := self._read_pending(key, after):
                self._work(key, entries)
                after = entries[-1][0]

    def _read_pending(self, key: str, after: str) -> list[Entry]:
        replies = self._redis.xreadgroup(self._group, CONSUMER, {key: after}, BATCH)
        return list(replies[0][1]) if replies else []

    def _claim_stale(self) -> None:
        """Takes over what a consumer that is gone has left."""
        for shard in SHARDS:
            key, start = self._key(shard), "0-0"
            while start:
                start, entries, removed = self._redis.xautoclaim(
                    key, self._group, CONSUMER, self._claim_after_ms, start, BATCH
                )
                self._work(key, [*entries, *((entry_id, {}) for entry_id in removed)])
                start = "" if start == "0-0" else start

    def _join(self) -> None:
        """Makes the groups that are not there."""
        newest = self._redis.get(GENERATION_KEY)
        if newest is None:
            raise NotReadyError("Leadlog has not written to this Redis yet")
        for shard in SHARDS:
            if shard not in self._generations:
                self._enter(shard, int(newest))
        self._follow()
        for shard in SHARDS:
            self._make_group(shard)

    def _follow(self) -> None:
        """Goes on to the next generation where the old one is read to its end."""
        newest = int(self._redis.get(GENERATION_KEY) or 0)
        for shard, generation in self._generations.items():
            if generation < newest and self._is_read(shard):
                between = range(generation + 1, newest)
                found = (g for g in between if self._redis.exists(make_key(g, shard)))
                self._enter(shard, next(found, newest))
                self._make_group(shard)

    def _enter(self, shard: int, generation: int) -> None:
        self._generations[shard] = generation
        self._memory.keep_generation(shard, generation)

    def _make_group(self, shard: int) -> None:
        """From the first entry there is; a group that Leadlog knows goes on where it stood."""
        try:
            self._redis.xgroup_create(self._key(shard), self._group, "0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _is_read(self, shard: int) -> bool:
        """Whether everything in the shard's stream was read and acknowledged by the group."""
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
    """The stream of a shard; the braces place it in a Redis Cluster."""
    return f"leadlog:events:{{g{generation}s{shard}}}"


def parse_id(text: str) -> tuple[int, int]:
    """An entry's id, to be compared."""
    tick, _, event = text.partition("-")
    return int(tick), int(event)


def say(told: dict[str, Any]) -> None:
    """A line to read on a terminal, JSON behind a pipe."""
    line = make_line(told) if sys.stdout.isatty() else json.dumps(told, ensure_ascii=False)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def make_line(told: dict[str, Any]) -> str:
    """What is told, for people."""
    if "notice" in told:
        return "! " + ", ".join(f"{value}" for value in told.values())
    lead = told["lead"] or {}
    parts = [lead.get("email"), lead.get("name"), lead.get("company"), lead.get("status"),
             f"score {lead.get('score')}"]  # fmt: skip
    about = " · ".join(part for part in parts if part) if lead else told["leadId"]
    line = f"{told['action']:<7}{told['type']:<16} v{told['version']:<4} {about}"
    return "".join(c if c.isprintable() else "�" for c in line)  # no control codes of a stranger


def find_redis_url(dev_folder: Path) -> str:
    """REDIS_URL, or that of the `leadlog dev` that runs on this folder."""
    with suppress(OSError):
        for line in (dev_folder / "dev.env").read_text().splitlines():
            if line.startswith("REDIS_URL="):
                return os.environ.get("REDIS_URL") or line.removeprefix("REDIS_URL=")
    return os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0"


def main() -> None:
    """Reads the command line and runs until SIGINT or SIGTERM."""
    folder = Path(os.environ.get("DATA_DIR") or ".data")
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--group", default="crm", help="consumer group; default: crm")
    parser.add_argument(
        "--redis", default=find_redis_url(folder), help="address; default: REDIS_URL"
    )
    claim_help = "seconds after which another consumer's entries are taken over; default: 30"
    parser.add_argument("--claim-after", type=float, default=30, help=claim_help)
    parser.add_argument("--memory", type=Path, help="SQLite file; default: GROUP.sqlite")
    chosen = parser.parse_args()
    path = chosen.memory or (folder if folder.is_dir() else Path()) / f"{chosen.group}.sqlite"
    connector = Connector(chosen.redis, chosen.group, chosen.claim_after, Memory(path))

    def stop(*_: object) -> None:
        connector.stopping = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    connector.run()


if __name__ == "__main__":
    main()
