//! The router through its gRPC stack and its HTTP door, with peers that are gRPC services too.

#[cfg(test)]
mod chat;
#[cfg(test)]
mod deadlines;
#[cfg(test)]
mod door;
#[cfg(test)]
mod http;
#[cfg(test)]
mod keyed;
#[cfg(test)]
mod mesh;
#[cfg(test)]
mod personas;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod route;
#[cfg(test)]
mod stream;
