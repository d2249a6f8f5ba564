//! usage-ledger
