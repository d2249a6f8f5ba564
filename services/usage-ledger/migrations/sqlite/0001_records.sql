-- One row an attempt, from its hold to its settlement. Amounts in nano US dollars, moments in microseconds since 1970.
CREATE TABLE records (
    org                 TEXT    NOT NULL,
    attempt_id          TEXT    NOT NULL,
    request_id          TEXT    NOT NULL,
    principal           TEXT    NOT NULL,
    backend             TEXT    NOT NULL,
    provider            TEXT    NOT NULL,
    model               TEXT    NOT NULL,
    credential          TEXT    NOT NULL,
    team                TEXT    NOT NULL,
    project             TEXT    NOT NULL,
    job                 TEXT    NOT NULL,
    node                TEXT    NOT NULL,
    run_id              TEXT    NOT NULL,
    agent               TEXT    NOT NULL,
    session_id          TEXT    NOT NULL,
    task_id             TEXT    NOT NULL,
    phase               TEXT    NOT NULL,
    tags                TEXT    NOT NULL, -- JSON object of strings
    state               INTEGER NOT NULL CHECK (state BETWEEN 1 AND 4), -- tutti.ledger.v1.UsageState
    worst_case          TEXT    NOT NULL, -- JSON object: tokens by class
    prices              TEXT    NOT NULL, -- JSON object: unit prices, those of the settlement when it had its own
    held_nano_usd       INTEGER NOT NULL,
    fresh_input         INTEGER NOT NULL,
    cache_read          INTEGER NOT NULL,
    cache_write_5m      INTEGER NOT NULL,
    cache_write_1h      INTEGER NOT NULL,
    visible_output      INTEGER NOT NULL,
    reasoning           INTEGER NOT NULL,
    cost_nano_usd       INTEGER NOT NULL,
    over_hold           INTEGER NOT NULL,
    tokens_estimated    INTEGER NOT NULL,
    outcome             INTEGER NOT NULL, -- tutti.llm.v1.AttemptOutcome
    reason              INTEGER NOT NULL, -- tutti.llm.v1.ErrorReason
    finish_reason       INTEGER NOT NULL, -- tutti.llm.v1.FinishReason
    latency_us          INTEGER,
    first_token_us      INTEGER,
    provider_request_id TEXT    NOT NULL,
    created_at          INTEGER NOT NULL,
    expires_at          INTEGER NOT NULL,
    settled_at          INTEGER,
    PRIMARY KEY (org, attempt_id)
) STRICT;

-- Lists, and sums over a time window.
CREATE INDEX records_by_time ON records (org, created_at, attempt_id);
-- What one request cost.
CREATE INDEX records_by_request ON records (org, request_id);
-- What one conversation cost.
CREATE INDEX records_by_session ON records (org, session_id, created_at) WHERE session_id <> '';
-- The holds that wait for their settlement: few, however many records there are.
CREATE INDEX records_held ON records (org, state, expires_at) WHERE state = 1;
