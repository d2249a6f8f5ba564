//! tutti-telemetry
