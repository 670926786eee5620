"""`leadlog listen` shows past events, from the log or by a replay of the service."""

import socket

from tests.harness.listening import read_heard, read_said, start, stop
from tests.harness.running_service import SECRET, RunningService
from tests.loopback.receiver import run_receiver


def find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def test_a_new_listener_receives_past_events_and_then_new_ones(
    running: RunningService,
) -> None:
    before = [await running.add_lead(f"before{n}@example.com") for n in range(3)]
    async with run_receiver() as receiver:
        process, _ = await start(
            "--url", running.api.url, "--key", str(running.api.key), "--event", "lead.created",
            "--forward", receiver.url, "--replay-since", "1h",
        )  # fmt: skip
        heard = [await read_heard(process) for _ in before]
        await read_said(process, "Replayed 3 of 3 events")
        after = await running.add_lead("after@example.com")
        heard.append(await read_heard(process))
        received = await receiver.wait_for(4)
    assert [one["event"]["data"]["lead"]["id"] for one in heard] == [*before, after]
    assert all(one["verified"] and one["forwarded"] == 200 for one in heard)
    assert [one["path"] for one in heard] == ["(log)", "(log)", "(log)", "/"]
    assert [one.event["data"]["lead"]["id"] for one in received] == [*before, after]
    await stop(process)


async def test_events_before_since_are_skipped(running: RunningService) -> None:
    await running.add_lead("older@example.com")
    process, _ = await start(
        "--url", running.api.url, "--key", str(running.api.key), "--replay-since", "2999-01-01"
    )
    await read_said(process, "Replayed 0 of")
    assert await stop(process) == []


async def test_a_replay_of_a_webhook_shows_progress_and_a_delivery_is_resent_by_id(
    running: RunningService,
) -> None:
    port = find_port()
    endpoint_id = await running.add_webhook(f"http://127.0.0.1:{port}/hook")
    options = ("--secret", SECRET, "--port", str(port))
    process, _ = await start(*options)
    leads = [await running.add_lead(f"twice{n}@example.com") for n in range(3)]
    heard = [await read_heard(process) for _ in leads]
    finals = await running.wait_finished(endpoint_id, 3)
    await stop(process)

    service = ("--url", running.api.url, "--key", str(running.api.key), "--webhook", endpoint_id)
    again, _ = await start(*options, *service, "--replay-since", "1h")
    told = await read_said(again, "done.")
    assert "3 seen, 3 sent, done." in told[-1]
    replayed = [await read_heard(again) for _ in leads]
    assert sorted(one["event"]["id"] for one in replayed) == sorted(
        one["event"]["id"] for one in heard
    )
    assert all(one["verified"] for one in replayed)
    await running.wait_finished(endpoint_id, 6)
    await stop(again)

    first_id = await running.show_delivery_id(finals[0]["id"])
    once, _ = await start(*options, *service, "--replay", first_id)
    await read_said(once, "is sent again")
    assert (await read_heard(once))["event"]["id"] == finals[0]["event_id"]
    await running.wait_finished(endpoint_id, 7)
    assert await stop(once) == []


async def test_a_refused_replay_is_reported_and_listening_continues(
    running: RunningService,
) -> None:
    port = find_port()
    endpoint_id = await running.add_webhook(f"http://127.0.0.1:{port}/")
    process, _ = await start(
        "--secret", SECRET, "--port", str(port), "--url", running.api.url,
        "--key", str(running.api.key), "--webhook", endpoint_id, "--replay", "dlv_1",
    )  # fmt: skip
    assert "no such delivery" in (await read_said(process, "refused the request"))[-1]
    await running.add_lead("still@example.com")
    assert (await read_heard(process))["verified"]
    await running.wait_finished(endpoint_id, 1)
    await stop(process)
