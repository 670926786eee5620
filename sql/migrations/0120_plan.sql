-- What a plan lets each API key of a tenant do; null: as much as it likes. Minutes and days are those
-- of the clock, in UTC.
CREATE TABLE plan (
    name        text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9-]{0,39}$'),
    per_minute  integer CHECK (per_minute > 0),
    per_day     integer CHECK (per_day > 0),
    concurrent  integer CHECK (concurrent > 0)
);

-- Stricter limits of single routes, as the route table names them: POST, /leads.
CREATE TABLE plan_route (
    plan        text COLLATE "C" NOT NULL REFERENCES plan (name) ON DELETE CASCADE,
    method      text COLLATE "C" NOT NULL CHECK (method ~ '^[A-Z]{3,7}$'),
    path        text COLLATE "C" NOT NULL CHECK (path ~ '^/[!-~]{1,200}$'),
    per_minute  integer NOT NULL CHECK (per_minute > 0),
    PRIMARY KEY (plan, method, path)
);

-- Null: what DEFAULT_PLAN says.
ALTER TABLE tenant ADD COLUMN plan text COLLATE "C" REFERENCES plan (name);

-- The reference product's three, and the one that has no limits.
INSERT INTO plan (name, per_minute, per_day, concurrent) VALUES
    ('starter', 60, 10000, 5), ('pro', 300, 100000, 25), ('enterprise', 1500, NULL, 100),
    ('unlimited', NULL, NULL, NULL);
INSERT INTO plan_route (plan, method, path, per_minute) VALUES
    ('starter', 'POST', '/leads', 30), ('pro', 'POST', '/leads', 150),
    ('enterprise', 'POST', '/leads', 750),
    ('starter', 'GET', '/leads/search', 20), ('pro', 'GET', '/leads/search', 100),
    ('enterprise', 'GET', '/leads/search', 500);
