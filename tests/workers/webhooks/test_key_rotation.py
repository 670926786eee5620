"""A new SECRET_KEY re-encrypts the stored secrets, headers and idempotent responses."""

import base64

import pytest
from msgspec.structs import replace

import sql
from service.database.connect import Pool
from service.encryption import DecryptionError, make_encryptor
from service.idempotency_keys import make_digest, make_stored_response_owner
from service.settings import Settings
from service.webhooks.endpoint_update import EndpointPatch, update_endpoint
from service.webhooks.endpoints import NewEndpoint, create_endpoint
from service.webhooks.key_rotation import reencrypt_all
from service.webhooks.secrets import make_secret_owner
from tests.harness.worker_harness import WorkerHarness
from workers.delivery.endpoint_cache import EndpointCache

KEYS = [base64.urlsafe_b64encode(bytes([n]) * 32).decode() for n in range(3)]


async def test_a_new_secret_key_reencrypts_all_stored_values(
    harness: WorkerHarness, settings: Settings, pool: Pool
) -> None:
    old = replace(settings, secret_key=KEYS[0])
    new = replace(settings, secret_key=f"{KEYS[1]},{KEYS[0]}")
    alone = replace(settings, secret_key=KEYS[1])
    async with pool.acquire() as conn:
        async with conn.transaction():
            new_endpoint = NewEndpoint(url="http://127.0.0.1:9/", events=["lead.created"])
            owner_ids = harness.principal.tenant_id, harness.principal.live
            created = await create_endpoint(conn, make_encryptor(old), *owner_ids, new_endpoint)
            patch = EndpointPatch(headers={"X-Key": "value"})
            assert await update_endpoint(conn, make_encryptor(old), *owner_ids, created.id, patch)
        key = make_digest("key")
        owner = make_stored_response_owner(*owner_ids, key)
        sealed = make_encryptor(old).seal(b"response", owner)
        await conn.execute(
            sql.idempotent_response_insert_if_new,
            *owner_ids,
            key,
            key,
            201,
            None,
            None,
            None,
            sealed,
        )
        assert await reencrypt_all(conn, make_encryptor(new)) == 3
        assert await reencrypt_all(conn, make_encryptor(new)) == 0
        with pytest.raises(DecryptionError):
            await reencrypt_all(conn, make_encryptor(replace(settings, secret_key=KEYS[2])))
        (response,) = await conn.fetch(
            sql.idempotent_response_get_many, [owner_ids[0]], [owner_ids[1]], [key]
        )
        assert make_encryptor(alone).open(response["sealed"], owner) == b"response"
    cache = EndpointCache(pool, make_encryptor(alone), 15)
    target = (await cache.get_many([created.id]))[created.id]
    assert target is not None
    assert target.headers == {"X-Key": "value"}
    assert make_secret_owner(1, created.id) != make_secret_owner(2, created.id)
