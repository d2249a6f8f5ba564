-- Calls with an idempotency key: who runs them, and what their readers were told.
--
-- Texts compare by their bytes, whatever the database's language: ids are compared, not read.
CREATE TABLE router.calls (
    org             TEXT COLLATE "C" NOT NULL,
    -- Also the turn's in the session's log, and the beginning of the keys of its tool calls.
    id              TEXT COLLATE "C" NOT NULL,
    idempotency_key TEXT COLLATE "C" NOT NULL,
    -- The caller's name of the call. One that was released may be made again under the same.
    request_id      TEXT COLLATE "C" NOT NULL,
    -- SHA-256 of the request's canonical form.
    body_hash       BYTEA    NOT NULL,
    -- The replica that runs it: the name of its lease.
    owner           TEXT COLLATE "C" NOT NULL,
    -- Grows with each replica that takes the call over; what its owners before still write is refused.
    fencing         BIGINT   NOT NULL DEFAULT 1,
    -- 0 running, 1 answered, 2 failed.
    state           SMALLINT NOT NULL DEFAULT 0,
    -- Its key is free for a new call.
    released        BOOLEAN  NOT NULL DEFAULT FALSE,
    -- Somebody wants it to end.
    cancelled       BOOLEAN  NOT NULL DEFAULT FALSE,
    -- Number of the last event, and whether one of them was output.
    recorded        BIGINT   NOT NULL DEFAULT 0,
    output          BOOLEAN  NOT NULL DEFAULT FALSE,
    -- Attempts that may have been sent, by all owners, and what is known of them (tutti.llm.v1.Attempt, each with its
    -- length before it).
    attempts        BIGINT   NOT NULL DEFAULT 1,
    sent            BYTEA    NOT NULL DEFAULT '',
    -- Why it failed.
    failure         BYTEA,
    -- When it was last read on a replica that does not run it.
    read_at         TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- Microseconds since 1970.
    created_at      BIGINT   NOT NULL,
    PRIMARY KEY (org, id)
);

CREATE UNIQUE INDEX calls_by_key ON router.calls (org, idempotency_key) WHERE NOT released;
CREATE INDEX calls_by_request ON router.calls (org, request_id, created_at);
-- Of all orgs: a replica looks after its own calls, and the purge is nobody's.
CREATE INDEX calls_by_owner ON router.calls (owner) WHERE state = 0;
CREATE INDEX calls_by_age ON router.calls (created_at);

-- What the readers of a call are told, in batches.
CREATE TABLE router.call_events (
    org     TEXT COLLATE "C" NOT NULL,
    call_id TEXT COLLATE "C" NOT NULL,
    -- Numbers of the first and the last event.
    seq     BIGINT NOT NULL,
    last    BIGINT NOT NULL,
    -- tutti.router.v1.ChatStreamResponse, each with its length before it.
    events  BYTEA  NOT NULL,
    PRIMARY KEY (org, call_id, seq),
    FOREIGN KEY (org, call_id) REFERENCES router.calls (org, id) ON DELETE CASCADE
);

-- The replicas that live, see libs/store: one lease each.
CREATE TABLE router.leases (
    org        TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    owner      TEXT        NOT NULL,
    fencing    BIGINT      NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org, name)
);
