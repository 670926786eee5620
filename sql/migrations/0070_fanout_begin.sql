-- What a fan-out asks for first, in one round trip: see fanout_gate_share in 0020_webhook.sql. The
-- endpoints are read by a statement of its own, so as they are once the gate is shared.

-- Nobody waits for the disk here: what a crash takes of a fan-out's deliveries it takes of the
-- cursor that moved with them, and they are made again.
CREATE FUNCTION fanout_begin(tenant_ids bigint[])
RETURNS SETOF endpoint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM fanout_gate_share(tenant_ids);
    RETURN QUERY SELECT e.* FROM endpoint e WHERE e.tenant_id = ANY (tenant_ids) ORDER BY e.id;
END
$$;
