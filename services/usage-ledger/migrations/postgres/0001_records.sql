-- One row an attempt, from its hold to its settlement. Amounts in nano US dollars, moments in microseconds since 1970.
-- Texts compare by their bytes, whatever the database's language: ids are compared, not read.
CREATE TABLE ledger.records (
    org                 TEXT COLLATE "C" NOT NULL,
    attempt_id          TEXT COLLATE "C" NOT NULL,
    request_id          TEXT COLLATE "C" NOT NULL,
    principal           TEXT COLLATE "C" NOT NULL,
    backend             TEXT COLLATE "C" NOT NULL,
    provider            TEXT COLLATE "C" NOT NULL,
    model               TEXT COLLATE "C" NOT NULL,
    credential          TEXT COLLATE "C" NOT NULL,
    team                TEXT COLLATE "C" NOT NULL,
    project             TEXT COLLATE "C" NOT NULL,
    job                 TEXT COLLATE "C" NOT NULL,
    node                TEXT COLLATE "C" NOT NULL,
    run_id              TEXT COLLATE "C" NOT NULL,
    agent               TEXT COLLATE "C" NOT NULL,
    session_id          TEXT COLLATE "C" NOT NULL,
    task_id             TEXT COLLATE "C" NOT NULL,
    phase               TEXT COLLATE "C" NOT NULL,
    tags                JSONB    NOT NULL, -- object of strings
    state               INTEGER  NOT NULL CHECK (state BETWEEN 1 AND 4), -- tutti.ledger.v1.UsageState
    worst_case          JSONB    NOT NULL, -- tokens by class
    prices              JSONB    NOT NULL, -- unit prices, those of the settlement when it had its own
    held_nano_usd       BIGINT   NOT NULL,
    fresh_input         BIGINT   NOT NULL,
    cache_read          BIGINT   NOT NULL,
    cache_write_5m      BIGINT   NOT NULL,
    cache_write_1h      BIGINT   NOT NULL,
    visible_output      BIGINT   NOT NULL,
    reasoning           BIGINT   NOT NULL,
    cost_nano_usd       BIGINT   NOT NULL,
    over_hold           BOOLEAN  NOT NULL,
    tokens_estimated    BOOLEAN  NOT NULL,
    outcome             INTEGER  NOT NULL, -- tutti.llm.v1.AttemptOutcome
    reason              INTEGER  NOT NULL, -- tutti.llm.v1.ErrorReason
    finish_reason       INTEGER  NOT NULL, -- tutti.llm.v1.FinishReason
    latency_us          BIGINT,
    first_token_us      BIGINT,
    provider_request_id TEXT COLLATE "C" NOT NULL,
    created_at          BIGINT   NOT NULL,
    expires_at          BIGINT   NOT NULL,
    settled_at          BIGINT,
    PRIMARY KEY (org, attempt_id)
);

-- Lists, and sums over a time window.
CREATE INDEX records_by_time ON ledger.records (org, created_at, attempt_id);
-- What one request cost.
CREATE INDEX records_by_request ON ledger.records (org, request_id);
-- What one conversation cost.
CREATE INDEX records_by_session ON ledger.records (org, session_id, created_at) WHERE session_id <> '';
-- The holds that wait for their settlement: few, however many records there are.
CREATE INDEX records_held ON ledger.records (org, expires_at) WHERE state = 1;
