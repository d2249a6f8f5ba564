//! context-memory
