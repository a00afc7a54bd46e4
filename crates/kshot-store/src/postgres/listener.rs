//! Changes as they are announced.

use std::time::{Duration, Instant};

use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;

use super::CHANNEL;
use super::address::Address;
use super::connection::drop_apart;
use crate::store::Watcher;

/// Hears of changes as they happen, over a connection of its own.
pub struct Listener {
    address: Address,
    client: Option<Client>,
}

impl Listener {
    /// Of a database; it connects when it first waits.
    pub fn at(address: Address) -> Self {
        Self {
            address,
            client: None,
        }
    }

    /// Whether a change was announced within `at_most`.
    fn listen(&mut self, at_most: Duration) -> Result<(), postgres::Error> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            let mut client = self.address.connect()?;
            client.batch_execute(&format!("LISTEN {CHANNEL}"))?;
            // What was changed before can't have been heard.
            self.client = Some(client);
            return Ok(());
        }
        if let Some(client) = self.client.as_mut() {
            let mut heard = client.notifications();
            if heard.timeout_iter(at_most).next()?.is_some() {
                // All that came together is one.
                while heard.iter().next()?.is_some() {}
            }
        }
        Ok(())
    }
}

impl Watcher for Listener {
    fn wait(&mut self, at_most: Duration) {
        let started = Instant::now();
        if self.listen(at_most).is_err() {
            // The server is away: try again after the time.
            if let Some(client) = self.client.take() {
                drop_apart(client);
            }
            std::thread::sleep(at_most.saturating_sub(started.elapsed()));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop_apart(client);
        }
    }
}
