//! Whole processes, as their users meet them: `tutti up` as a real process, the providers' formats over real HTTP, a
//! gRPC client over TCP. One file a behaviour in `tests/mesh`.
