-- One row a tool call, written before the tool runs and completed after it.
CREATE TABLE tool_calls (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    org             TEXT    NOT NULL,
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
    started_at      INTEGER NOT NULL,
    -- 0 while the call runs, and for good when the process died in it.
    finished        INTEGER NOT NULL DEFAULT 0,
    success         INTEGER NOT NULL DEFAULT 0,
    reason          TEXT    NOT NULL DEFAULT '',
    error           TEXT    NOT NULL DEFAULT '',
    exit_code       INTEGER,
    output_bytes    INTEGER NOT NULL DEFAULT 0,
    duration_micros INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX tool_calls_by_org ON tool_calls (org, seq);
CREATE INDEX tool_calls_by_request ON tool_calls (org, request_id, seq);
CREATE INDEX tool_calls_by_session ON tool_calls (org, session_id, seq);
CREATE INDEX tool_calls_by_tool ON tool_calls (org, tool, seq);

-- Which call an idempotency key stands for, and that call's result once it has one.
CREATE TABLE claims (
    org             TEXT    NOT NULL,
    idempotency_key TEXT    NOT NULL,
    seq             INTEGER NOT NULL REFERENCES tool_calls (seq),
    body_hash       BLOB    NOT NULL,
    result          TEXT,
    PRIMARY KEY (org, idempotency_key)
) STRICT, WITHOUT ROWID;
