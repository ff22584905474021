//! One connection to a processing unit: a request, its answer, and a bound on the time between.

use std::{sync::Arc, time::Duration};

use fluvio::dataplane::{
    api::{Request, RequestMessage},
    link::ErrorCode,
};
use fluvio_socket::{ClientConfig, FluvioSocket, SocketError, Versions};
use tokio::time::timeout;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);

/// Why a request has no good answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Trouble {
    /// The request never left: trying again changes nothing twice.
    #[error("{0}")]
    NotSent(String),
    /// What became of the request is not known.
    #[error("{0}")]
    Unknown(String),
    /// The unit said no.
    #[error("{0}")]
    Refused(ErrorCode),
}

/// A connection; of no use any more once a request on it has failed.
pub struct Connection {
    socket: FluvioSocket,
    config: Arc<ClientConfig>,
    versions: Versions,
}

impl Connection {
    /// Connects and learns which requests the unit knows.
    pub async fn open(config: ClientConfig) -> Result<Connection, Trouble> {
        let address = config.addr().to_owned();
        match timeout(CONNECT, config.connect()).await {
            Ok(Ok(connected)) => {
                let (socket, config, versions) = connected.split();
                Ok(Connection { socket, config, versions })
            }
            Ok(Err(e)) => Err(Trouble::NotSent(format!("cannot connect to {address}: {e}"))),
            Err(_) => Err(Trouble::NotSent(format!("{address} did not answer in {} s", CONNECT.as_secs()))),
        }
    }

    /// Sends a request and waits for its answer.
    pub async fn ask<R: Request>(&mut self, request: R, wait: Duration) -> Result<R::Response, Trouble> {
        let mut message = RequestMessage::new_request(request);
        let header = message.get_mut_header();
        header.set_client_id(self.config.client_id());
        if let Some(version) = self.versions.lookup_version::<R>() {
            header.set_api_version(version);
        }
        match timeout(wait, self.socket.send(&message)).await {
            Ok(Ok(answer)) => Ok(answer.response),
            Ok(Err(e)) => Err(Trouble::Unknown(format!("{}: {}", self.config.addr(), plain(&e)))),
            Err(_) => {
                let address = self.config.addr();
                Err(Trouble::Unknown(format!("{address} did not answer in {} ms", wait.as_millis())))
            }
        }
    }
}

fn plain(error: &SocketError) -> String {
    match error {
        SocketError::Io { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}
