//! The ledger through its whole stack: RPCs, group commit under load and under a stuck disk, any interleaving, and a
//! process that is killed.

#[cfg(test)]
mod attempts;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod overload;
#[cfg(test)]
mod support;
#[cfg(test)]
mod usage;
