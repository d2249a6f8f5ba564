-- Calls with an idempotency key: who runs them, and what their readers were told.
CREATE TABLE calls (
    org             TEXT    NOT NULL,
    -- Also the turn's in the session's log, and the beginning of the keys of its tool calls.
    id              TEXT    NOT NULL,
    idempotency_key TEXT    NOT NULL,
    -- The caller's name of the call. One that was released may be made again under the same.
    request_id      TEXT    NOT NULL,
    -- SHA-256 of the request's canonical form.
    body_hash       BLOB    NOT NULL,
    -- The process that runs it.
    owner           TEXT    NOT NULL,
    -- Grows with each process that takes the call over; what its owners before still write is refused.
    fencing         INTEGER NOT NULL DEFAULT 1,
    -- 0 running, 1 answered, 2 failed.
    state           INTEGER NOT NULL DEFAULT 0,
    -- Its key is free for a new call.
    released        INTEGER NOT NULL DEFAULT 0,
    -- Somebody wants it to end.
    cancelled       INTEGER NOT NULL DEFAULT 0,
    -- Number of the last event, and whether one of them was output.
    recorded        INTEGER NOT NULL DEFAULT 0,
    output          INTEGER NOT NULL DEFAULT 0,
    -- Attempts that may have been sent, by all owners, and what is known of them (tutti.llm.v1.Attempt, each with its
    -- length before it).
    attempts        INTEGER NOT NULL DEFAULT 1,
    sent            BLOB    NOT NULL DEFAULT x'',
    -- Why it failed.
    failure         BLOB,
    -- When it was last read elsewhere, in microseconds since 1970.
    read_at         INTEGER NOT NULL,
    -- Microseconds since 1970.
    created_at      INTEGER NOT NULL,
    PRIMARY KEY (org, id)
) STRICT;

CREATE UNIQUE INDEX calls_by_key ON calls (org, idempotency_key) WHERE released = 0;
CREATE INDEX calls_by_request ON calls (org, request_id, created_at);
-- Of all orgs: a process looks after its own calls, and the purge is nobody's.
CREATE INDEX calls_by_owner ON calls (owner) WHERE state = 0;
CREATE INDEX calls_by_age ON calls (created_at);

-- What the readers of a call are told, in batches.
CREATE TABLE call_events (
    org     TEXT    NOT NULL,
    call_id TEXT    NOT NULL,
    -- Numbers of the first and the last event.
    seq     INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    -- tutti.router.v1.ChatStreamResponse, each with its length before it.
    events  BLOB    NOT NULL,
    PRIMARY KEY (org, call_id, seq),
    FOREIGN KEY (org, call_id) REFERENCES calls (org, id) ON DELETE CASCADE
) STRICT;
