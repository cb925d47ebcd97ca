//! Clients that call without a break.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::PATIENCE;
use super::raw::{Answer, Client};
use super::spanner::{create_session, rpc};

/// Running clients.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clients: JoinSet<Vec<Answer>>,
}

impl Load {
    /// Starts `clients` of them, each with a connection of its own.
    pub(crate) async fn start(address: SocketAddr, clients: usize) -> Load {
        let mut load = Load { stop: Arc::default(), done: Arc::default(), clients: JoinSet::new() };
        for _ in 0..clients {
            let (client, stop, done) = (Client::connect(address).await, load.stop.clone(), load.done.clone());
            load.clients.spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.call(&rpc("CreateSession"), &create_session(), &[]).await;
                    if answer.code() != Some(0) || answer.reset.is_some() {
                        failed.push(answer);
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                failed
            });
        }
        load
    }

    /// Calls that have ended so far.
    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Lets the clients finish their calls and close; the answers of failed calls.
    pub(crate) async fn stop(self) -> Vec<Answer> {
        self.stop.store(true, Ordering::Relaxed);
        timeout(PATIENCE, self.clients.join_all()).await.expect("every call ends").concat()
    }
}
