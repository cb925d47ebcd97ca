//! What moves the bytes. An engine turns what happens on its connections into the events of [`crate::call`] and does what
//! the call says; nothing above it knows which engine it is.

mod affinity;
pub mod h2;
mod headers;
mod local;

use std::rc::Rc;
use std::sync::Arc;

use http::uri::{Authority, Scheme};

use crate::config::Endpoint;
use crate::credentials::Token;
use crate::metrics::{CallMetrics, Metrics};
use crate::upstream::pool::Pool;
use affinity::Affinity;
pub(crate) use headers::{strip_hop_by_hop, trailers_only};
pub use local::Local;

/// What one data-path thread works with. Nothing in it is shared with another thread but tokens, metrics and health.
pub struct Worker {
    pool: Rc<Pool>,
    affinity: Affinity,
    token: Token,
    scheme: Scheme,
    authority: Authority,
    metrics: Arc<Metrics>,
    calls: CallMetrics,
    local: Local,
}

impl Worker {
    /// A worker over `pool`, whose calls are addressed to `upstream`.
    pub fn new(pool: Rc<Pool>, upstream: &Endpoint, token: Token, metrics: Arc<Metrics>, local: Local) -> Result<Rc<Worker>, http::Error> {
        Ok(Rc::new(Worker {
            pool,
            affinity: Affinity::new(),
            token,
            scheme: if upstream.is_tls() { Scheme::HTTPS } else { Scheme::HTTP },
            authority: upstream.authority().parse::<Authority>()?,
            calls: CallMetrics::new(metrics.clone()),
            metrics,
            local,
        }))
    }
}
