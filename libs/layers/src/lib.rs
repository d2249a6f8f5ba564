//! tutti-layers
