//! A connection that is made when it is needed, and anew when it was lost.

use std::sync::{Mutex, PoisonError};

use postgres::Client;

use super::address::Address;
use crate::error::StoreError;

/// A connection to a database, or none until the next call.
pub struct Connection {
    address: Address,
    client: Mutex<Option<Client>>,
}

impl Connection {
    /// None yet.
    pub fn to(address: Address) -> Self {
        Self {
            address,
            client: Mutex::new(None),
        }
    }

    /// Where it leads.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Runs `work` on it, on a thread of its own: the client waits in a runtime of its own, which must not happen inside a
    /// caller's.
    pub fn attempt<T: Send>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let done = std::thread::scope(|scope| scope.spawn(|| self.attempt_here(work)).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn attempt_here<T>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_none_or(Client::is_closed) {
            *held = Some(
                self.address
                    .connect()
                    .map_err(|error| self.address.failed(&error))?,
            );
        }
        let Some(client) = held.as_mut() else {
            return Err(StoreError::Database {
                place: self.address.place().to_owned(),
                problem: "no connection".to_owned(),
            });
        };
        let done = work(client);
        if client.is_closed() {
            *held = None;
        }
        done
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let client = self
            .client
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(client) = client {
            drop_apart(client);
        }
    }
}

/// Drops a client on a thread of its own.
pub fn drop_apart(client: Client) {
    let _ = std::thread::spawn(move || drop(client)).join();
}
