-- Who changes an e-mail gives up one address and asks for another, while creates may hold the second
-- and ask for the first: a deadlock in whatever order either goes. So changes of e-mails take turns,
-- in a tenant and mode, with each other and with creates; creates do not wait for each other here.
CREATE FUNCTION address_place(tenant_id bigint, live boolean) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashint8(tenant_id * 2 + live::integer);

CREATE FUNCTION address_lock(place integer) RETURNS void LANGUAGE sql VOLATILE
RETURN pg_advisory_xact_lock(1818583397, place);

CREATE FUNCTION address_lock_shared(place integer) RETURNS void LANGUAGE sql VOLATILE
RETURN pg_advisory_xact_lock_shared(1818583397, place);
