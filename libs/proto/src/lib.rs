//! The generated messages, clients and servers of the mesh's protobuf API, and their descriptor set.
//!
//! The code under `gen/` is checked in, so that nobody needs protoc. After a change of `proto/`, run
//! `cargo run -p tutti-proto-codegen`; CI fails when the two differ.

/// All protos with their imports and comments, as reflection serves them.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor.bin");

macro_rules! package {
    ($($(#[$doc:meta])* $name:ident => $file:literal,)*) => {
        $($(#[$doc])*
        pub mod $name {
            /// Version 1.
            // Generated code follows its generator's style, not ours.
            #[allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all, clippy::disallowed_methods,
                clippy::wildcard_imports, clippy::semicolon_if_nothing_returned, clippy::large_enum_variant,
                clippy::needless_pass_by_value, clippy::too_many_lines)]
            pub mod v1 {
                include!($file);
            }
        })*
    };
}

package! {
    /// Neutral messages, tools, usage and errors.
    llm => "gen/tutti.llm.v1.rs",
    /// Routing and conversations.
    router => "gen/tutti.router.v1.rs",
    /// Calls to one backend.
    gateway => "gen/tutti.gateway.v1.rs",
    /// Sessions.
    memory => "gen/tutti.memory.v1.rs",
    /// Tools and their audit.
    sandbox => "gen/tutti.sandbox.v1.rs",
    /// Money.
    ledger => "gen/tutti.ledger.v1.rs",
}
