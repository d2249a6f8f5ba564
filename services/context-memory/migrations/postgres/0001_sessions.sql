-- A session's log is append-only; what a backend is shown is derived from it.
-- Texts compare by their bytes, whatever the database's language: ids are compared, not read.
CREATE TABLE memory.sessions (
    org        TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL, -- microseconds since 1970
    updated_at BIGINT NOT NULL,
    last_seq   BIGINT NOT NULL,
    messages   BIGINT NOT NULL,
    turns      BIGINT NOT NULL,
    PRIMARY KEY (org, session_id)
);
CREATE INDEX sessions_by_use ON memory.sessions (org, updated_at DESC, session_id);

CREATE TABLE memory.turns (
    org        TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL,
    turn_id    TEXT COLLATE "C" NOT NULL,
    state      INTEGER NOT NULL, -- tutti.memory.v1.TurnState
    backend    TEXT COLLATE "C" NOT NULL, -- the last backend that answered in it
    used_at    BIGINT  NOT NULL, -- the last append
    PRIMARY KEY (org, session_id, turn_id),
    FOREIGN KEY (org, session_id) REFERENCES memory.sessions ON DELETE CASCADE
);
-- The turns that somebody is still working on: few, however many there are. State 1 is open.
CREATE INDEX turns_open ON memory.turns (used_at) WHERE state = 1;

CREATE TABLE memory.appends (
    org        TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL,
    turn_id    TEXT COLLATE "C" NOT NULL,
    idx        BIGINT NOT NULL,
    first_seq  BIGINT NOT NULL,
    last_seq   BIGINT NOT NULL,
    PRIMARY KEY (org, session_id, turn_id, idx),
    FOREIGN KEY (org, session_id, turn_id) REFERENCES memory.turns ON DELETE CASCADE
);

CREATE TABLE memory.log (
    org        TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL,
    seq        BIGINT  NOT NULL,
    turn_id    TEXT COLLATE "C" NOT NULL, -- empty for a reset
    backend    TEXT COLLATE "C" NOT NULL,
    model      TEXT    NOT NULL,
    role       INTEGER NOT NULL, -- tutti.llm.v1.Role; 0 for a reset
    tokens     BIGINT  NOT NULL,
    message    BYTEA,            -- tutti.llm.v1.Message; NULL for a reset
    created_at BIGINT  NOT NULL,
    PRIMARY KEY (org, session_id, seq),
    FOREIGN KEY (org, session_id) REFERENCES memory.sessions ON DELETE CASCADE
);
