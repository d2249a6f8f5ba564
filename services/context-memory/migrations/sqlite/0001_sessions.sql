-- A session's log is append-only; what a backend is shown is derived from it.
CREATE TABLE sessions (
    org        TEXT    NOT NULL,
    session_id TEXT    NOT NULL,
    created_at INTEGER NOT NULL, -- microseconds since 1970
    updated_at INTEGER NOT NULL,
    last_seq   INTEGER NOT NULL,
    messages   INTEGER NOT NULL,
    turns      INTEGER NOT NULL,
    PRIMARY KEY (org, session_id)
) WITHOUT ROWID;
CREATE INDEX sessions_by_use ON sessions (org, updated_at DESC, session_id);

CREATE TABLE turns (
    org        TEXT    NOT NULL,
    session_id TEXT    NOT NULL,
    turn_id    TEXT    NOT NULL,
    state      INTEGER NOT NULL, -- tutti.memory.v1.TurnState
    backend    TEXT    NOT NULL, -- the last backend that answered in it
    PRIMARY KEY (org, session_id, turn_id),
    FOREIGN KEY (org, session_id) REFERENCES sessions ON DELETE CASCADE
) WITHOUT ROWID;

CREATE TABLE appends (
    org        TEXT    NOT NULL,
    session_id TEXT    NOT NULL,
    turn_id    TEXT    NOT NULL,
    idx        INTEGER NOT NULL,
    first_seq  INTEGER NOT NULL,
    last_seq   INTEGER NOT NULL,
    PRIMARY KEY (org, session_id, turn_id, idx),
    FOREIGN KEY (org, session_id, turn_id) REFERENCES turns ON DELETE CASCADE
) WITHOUT ROWID;

CREATE TABLE log (
    org        TEXT    NOT NULL,
    session_id TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    turn_id    TEXT    NOT NULL, -- empty for a reset
    backend    TEXT    NOT NULL,
    model      TEXT    NOT NULL,
    role       INTEGER NOT NULL, -- tutti.llm.v1.Role; 0 for a reset
    tokens     INTEGER NOT NULL,
    message    BLOB,             -- tutti.llm.v1.Message; NULL for a reset
    created_at INTEGER NOT NULL,
    PRIMARY KEY (org, session_id, seq),
    FOREIGN KEY (org, session_id) REFERENCES sessions ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX log_resets ON log (org, session_id, seq) WHERE message IS NULL;
