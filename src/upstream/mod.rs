//! Warm connections to Google's side. This module knows HTTP/2, TLS and DNS; of Spanner it knows nothing.

pub mod channel;
pub mod connect;
pub mod dns;
pub mod pool;
