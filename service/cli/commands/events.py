"""Commands for the event log."""

import asyncio
import os

import typer

from service.settings import SettingsError, load_settings

events = typer.Typer(help="The event log.", no_args_is_help=True)


@events.callback()
def _group() -> None:
    """The event log."""


@events.command("new-generation", epilog="For example: leadlog events new-generation")
def new_generation() -> None:
    """Start a new generation of the log, after the database was restored to an earlier state.

    Needed only if a disk snapshot or a copy of the files was restored and Redis was lost too: any
    other restore is detected. Running it without need is harmless.
    """
    from service.cli.commands.addresses import add_dev_addresses

    settings = add_dev_addresses(load_settings(os.environ))
    dsn, redis_url = settings.require_database_url(), settings.require_redis_url()
    generation = asyncio.run(_begin_generation(dsn, redis_url))
    typer.echo(f"Generation {generation} of the log has begun.", err=True)


async def _begin_generation(dsn: str, redis_url: str) -> int:
    import sql
    from sql.connection import connect

    async with connect(dsn) as conn:
        [row] = await conn.fetch(sql.tick_get_newest)
        unused = await _reserve_generation(redis_url, row["generation"])
        await conn.execute(sql.log_begin_generation_now, unused)
        [row] = await conn.fetch(sql.tick_get_newest)
        return int(row["generation"])


async def _reserve_generation(redis_url: str, newest: int) -> int:
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    from service.events.redis_ping import CHECK_TIMEOUT_S, explain_error
    from workers.streams.restore_detection import reserve_generation

    client = Redis.from_url(
        redis_url, socket_timeout=CHECK_TIMEOUT_S, socket_connect_timeout=CHECK_TIMEOUT_S
    )
    try:
        return await reserve_generation(client, newest)
    except (OSError, RedisError) as error:
        raise SettingsError(
            f"{explain_error(redis_url, error)} It has the numbers of the generations that were "
            "used."
        ) from None
    finally:
        await client.aclose()
