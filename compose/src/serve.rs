//! The HTTP server: takes its listener and its stop signal from outside.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, serve::ListenerExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, Settings},
    error::{Error, Result},
};

/// Takes the address of the settings.
pub async fn bind(settings: &Settings, keyed: bool) -> Result<TcpListener> {
    let address = config::address("http.listen", &settings.http.listen)?;
    config::loopback_unless_keyed(address, keyed)?;
    TcpListener::bind(address).await.map_err(|e| {
        Error::Unavailable(format!(
            "http.listen: `{address}` cannot be taken ({e}); is another server there?"
        ))
    })
}

/// Serves until `stop`, then lets requests under way finish, for as long as `patience` allows.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    stop: CancellationToken,
    patience: Duration,
) -> Result<()> {
    let listener = listener.tap_io(|connection| {
        // Small answers must not wait for more; a connection that refuses this works all the same.
        let _ = connection.set_nodelay(true);
    });
    let stopping = stop.clone();
    let server = axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move { stopping.cancelled().await });
    let too_long = async {
        stop.cancelled().await;
        tokio::time::sleep(patience).await;
    };
    tokio::select! {
        ended = server => ended.map_err(|e| Error::Broken(format!("the HTTP server stopped: {e}"))),
        () = too_long => {
            tracing::warn!(seconds = patience.as_secs(), "requests still under way were cut off");
            Ok(())
        }
    }
}
