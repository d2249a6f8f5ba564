//! Who calls: the tenant and the principal that every store method takes.

/// The tenant and the caller of a request. Without caller keys everybody is `anonymous` of the org `default`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The tenant: the first column of every row and index.
    pub org: String,
    /// Who called, for the audit.
    pub principal: String,
}

impl Default for Scope {
    fn default() -> Self {
        Self { org: "default".into(), principal: "anonymous".into() }
    }
}
