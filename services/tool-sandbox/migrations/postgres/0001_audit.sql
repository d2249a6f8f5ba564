-- The audit is append-only: a call is a row in tool_calls, written before the tool runs, and one in tool_call_endings,
-- written after it. Without the second the call still runs, or the process died in it.
--
-- The rows of both tables form one hash chain an org: `link` counts them from 1, `hash` is the SHA-256 of the row
-- before's hash and this row's canonical form (see domain/chain.rs). chain_heads has the last link of each.
--
-- Texts compare by their bytes, whatever the database's language: ids are compared, not read.
CREATE SEQUENCE sandbox.tool_calls_seq;
CREATE TABLE sandbox.tool_calls (
    seq             BIGINT PRIMARY KEY,
    org             TEXT COLLATE "C" NOT NULL,
    link            BIGINT  NOT NULL,
    hash            BYTEA   NOT NULL,
    principal       TEXT    NOT NULL,
    request_id      TEXT COLLATE "C" NOT NULL,
    session_id      TEXT COLLATE "C" NOT NULL,
    tool_call_id    TEXT    NOT NULL,
    tool            TEXT COLLATE "C" NOT NULL,
    workspace       TEXT    NOT NULL,
    arguments_json  TEXT    NOT NULL,
    attribution     BYTEA   NOT NULL,
    decision        TEXT    NOT NULL,
    decided_because TEXT    NOT NULL,
    isolation       TEXT    NOT NULL,
    -- Microseconds since 1970.
    started_at      BIGINT  NOT NULL
);

CREATE UNIQUE INDEX tool_calls_by_link ON sandbox.tool_calls (org, link);
CREATE INDEX tool_calls_by_org ON sandbox.tool_calls (org, seq);
CREATE INDEX tool_calls_by_request ON sandbox.tool_calls (org, request_id, seq);
CREATE INDEX tool_calls_by_session ON sandbox.tool_calls (org, session_id, seq);
CREATE INDEX tool_calls_by_tool ON sandbox.tool_calls (org, tool, seq);

CREATE TABLE sandbox.tool_call_endings (
    -- The call's.
    seq             BIGINT PRIMARY KEY REFERENCES sandbox.tool_calls (seq),
    org             TEXT COLLATE "C" NOT NULL,
    link            BIGINT  NOT NULL,
    hash            BYTEA   NOT NULL,
    success         BOOLEAN NOT NULL,
    reason          TEXT    NOT NULL,
    error           TEXT    NOT NULL,
    exit_code       INTEGER,
    output_bytes    BIGINT  NOT NULL,
    duration_micros BIGINT  NOT NULL
);

CREATE UNIQUE INDEX tool_call_endings_by_link ON sandbox.tool_call_endings (org, link);

CREATE TABLE sandbox.chain_heads (
    org  TEXT COLLATE "C" PRIMARY KEY,
    link BIGINT NOT NULL,
    hash BYTEA  NOT NULL
);

CREATE FUNCTION sandbox.refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$;
CREATE TRIGGER tool_calls_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON sandbox.tool_calls
    FOR EACH STATEMENT EXECUTE FUNCTION sandbox.refuse();
CREATE TRIGGER tool_call_endings_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON sandbox.tool_call_endings
    FOR EACH STATEMENT EXECUTE FUNCTION sandbox.refuse();

-- The replicas that live, see libs/store: one lease each.
CREATE TABLE sandbox.leases (
    org        TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    owner      TEXT        NOT NULL,
    fencing    BIGINT      NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org, name)
);

-- Which call an idempotency key stands for, and that call's result once it has one. Purged by age.
CREATE TABLE sandbox.claims (
    org             TEXT COLLATE "C" NOT NULL,
    idempotency_key TEXT COLLATE "C" NOT NULL,
    seq             BIGINT NOT NULL REFERENCES sandbox.tool_calls (seq),
    body_hash       BYTEA  NOT NULL,
    -- When the call began, in microseconds since 1970.
    claimed_at      BIGINT NOT NULL,
    -- The replica that runs the call: the name of its lease.
    owner           TEXT COLLATE "C" NOT NULL,
    result          TEXT,
    PRIMARY KEY (org, idempotency_key)
);

-- Of all orgs: the purge is nobody's call.
CREATE INDEX claims_by_age ON sandbox.claims (claimed_at);
CREATE INDEX claims_by_call ON sandbox.claims (seq);
