-- The audit is append-only: a call is a row in tool_calls, written before the tool runs, and one in tool_call_endings,
-- written after it. Without the second the call still runs, or the process died in it.
--
-- The rows of both tables form one hash chain an org: `link` counts them from 1, `hash` is the SHA-256 of the row
-- before's hash and this row's canonical form (see domain/chain.rs). chain_heads has the last link of each.
CREATE TABLE tool_calls (
    seq             INTEGER PRIMARY KEY,
    org             TEXT    NOT NULL,
    link            INTEGER NOT NULL,
    hash            BLOB    NOT NULL,
    principal       TEXT    NOT NULL,
    request_id      TEXT    NOT NULL,
    session_id      TEXT    NOT NULL,
    tool_call_id    TEXT    NOT NULL,
    tool            TEXT    NOT NULL,
    workspace       TEXT    NOT NULL,
    arguments_json  TEXT    NOT NULL,
    attribution     BLOB    NOT NULL,
    decision        TEXT    NOT NULL,
    decided_because TEXT    NOT NULL,
    isolation       TEXT    NOT NULL,
    -- Microseconds since 1970.
    started_at      INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX tool_calls_by_link ON tool_calls (org, link);
CREATE INDEX tool_calls_by_org ON tool_calls (org, seq);
CREATE INDEX tool_calls_by_request ON tool_calls (org, request_id, seq);
CREATE INDEX tool_calls_by_session ON tool_calls (org, session_id, seq);
CREATE INDEX tool_calls_by_tool ON tool_calls (org, tool, seq);

CREATE TABLE tool_call_endings (
    -- The call's.
    seq             INTEGER PRIMARY KEY REFERENCES tool_calls (seq),
    org             TEXT    NOT NULL,
    link            INTEGER NOT NULL,
    hash            BLOB    NOT NULL,
    success         INTEGER NOT NULL,
    reason          TEXT    NOT NULL,
    error           TEXT    NOT NULL,
    exit_code       INTEGER,
    output_bytes    INTEGER NOT NULL,
    duration_micros INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX tool_call_endings_by_link ON tool_call_endings (org, link);

CREATE TABLE chain_heads (
    org  TEXT    PRIMARY KEY,
    link INTEGER NOT NULL,
    hash BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER tool_calls_stay BEFORE UPDATE ON tool_calls
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER tool_calls_are_kept BEFORE DELETE ON tool_calls
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER tool_call_endings_stay BEFORE UPDATE ON tool_call_endings
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER tool_call_endings_are_kept BEFORE DELETE ON tool_call_endings
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;

-- Which call an idempotency key stands for, and that call's result once it has one. Purged by age.
CREATE TABLE claims (
    org             TEXT    NOT NULL,
    idempotency_key TEXT    NOT NULL,
    seq             INTEGER NOT NULL REFERENCES tool_calls (seq),
    body_hash       BLOB    NOT NULL,
    -- When the call began, in microseconds since 1970.
    claimed_at      INTEGER NOT NULL,
    result          TEXT,
    PRIMARY KEY (org, idempotency_key)
) STRICT, WITHOUT ROWID;

-- Of all orgs: the purge is nobody's call.
CREATE INDEX claims_by_age ON claims (claimed_at);
