//! The cluster: its controller, which units there are, and which of them leads a partition.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use fluvio::{
    Fluvio, FluvioAdmin, FluvioClusterConfig,
    metadata::{partition::PartitionSpec, spu::SpuSpec},
};
use fluvio_future::{
    net::{DefaultDomainConnector, DomainConnector},
    rust_tls::{ConnectorBuilder, TlsDomainConnector},
};
use fluvio_socket::ClientConfig;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::connection::{Connection, Trouble};
use crate::log::{LogError, Partition, Tls};

/// How long the controller may take for one thing.
const CONTROLLER: Duration = Duration::from_secs(5);
/// The layout is asked for anew at most this often.
const FRESH: Duration = Duration::from_millis(300);

/// A Fluvio cluster.
pub struct Cluster {
    /// `host:port` of the controller.
    address: String,
    connector: DomainConnector,
    layout: Mutex<Layout>,
    client: tokio::sync::Mutex<Option<Fluvio>>,
}

#[derive(Default)]
struct Layout {
    /// Name and public address of each unit.
    units: HashMap<i32, (String, String)>,
    leaders: HashMap<(String, Partition), i32>,
    read: Option<Instant>,
}

impl Cluster {
    /// Names it; nothing is connected yet.
    pub fn new(address: &str, tls: Option<&Tls>) -> Result<Cluster, LogError> {
        let connector = match tls {
            None => Box::new(DefaultDomainConnector::new()),
            Some(tls) => secure(tls)?,
        };
        let address = address.to_owned();
        Ok(Cluster { address, connector, layout: Mutex::default(), client: tokio::sync::Mutex::default() })
    }

    /// `host:port` of the controller.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Asks the controller for something; after a failure the next call connects anew.
    pub async fn ask<T>(
        &self,
        what: impl FnOnce(FluvioAdmin) -> BoxFuture<'static, Result<T, String>>,
    ) -> Result<T, Trouble> {
        let mut client = self.client.lock().await;
        let answer = timeout(CONTROLLER, async {
            if client.is_none() {
                let config = FluvioClusterConfig::new(&self.address);
                let connected = Fluvio::connect_with_connector(self.connector.clone_box(), &config).await;
                *client = Some(connected.map_err(|e| e.to_string())?);
            }
            match client.as_ref() {
                Some(connected) => what(connected.admin().await).await,
                None => Err("not connected".to_owned()),
            }
        })
        .await
        .unwrap_or_else(|_| Err(format!("no answer in {} s", CONTROLLER.as_secs())));
        answer.map_err(|e| {
            *client = None;
            Trouble::NotSent(format!("the controller at {}: {e}", self.address))
        })
    }

    /// Learns units and leaders anew, unless that was done just now.
    pub async fn refresh(&self) -> Result<(), Trouble> {
        if self.layout.lock().read.is_some_and(|read| read.elapsed() < FRESH) {
            return Ok(());
        }
        let (units, partitions) = self
            .ask(|admin| {
                Box::pin(async move {
                    let units = admin.all::<SpuSpec>().await.map_err(|e| e.to_string())?;
                    let partitions = admin.all::<PartitionSpec>().await.map_err(|e| e.to_string())?;
                    Ok((units, partitions))
                })
            })
            .await?;
        let mut layout = self.layout.lock();
        let unit = |u: fluvio::metadata::objects::Metadata<SpuSpec>| {
            (u.spec.id, (u.name, u.spec.public_endpoint.addr()))
        };
        layout.units = units.into_iter().map(unit).collect();
        // Named `<topic>-<partition>`.
        layout.leaders = partitions
            .into_iter()
            .filter_map(|p| {
                let (topic, partition) = p.name.rsplit_once('-')?;
                Some(((topic.to_owned(), partition.parse().ok()?), p.spec.leader))
            })
            .collect();
        layout.read = Some(Instant::now());
        Ok(())
    }

    /// The unit that leads a partition, as far as it is known.
    pub fn leader(&self, topic: &str, partition: Partition) -> Option<i32> {
        self.layout.lock().leaders.get(&(topic.to_owned(), partition)).copied()
    }

    /// Connects to a unit. After a failure, where partitions are is asked anew.
    pub async fn connect(&self, unit: i32) -> Result<Connection, Trouble> {
        let known = self.layout.lock().units.get(&unit).cloned();
        let Some((name, address)) = known else {
            self.refresh().await?;
            return Err(Trouble::NotSent(format!("the cluster has no processing unit {unit} at this time")));
        };
        let base = ClientConfig::new(&self.address, self.connector.clone_box(), false);
        let mut config = base.with_prefix_sni_domain(&name);
        config.set_addr(address);
        config.set_client_id("kairos");
        match Connection::open(config).await {
            Ok(connection) => Ok(connection),
            Err(trouble) => {
                let _ = self.refresh().await;
                Err(trouble)
            }
        }
    }

    /// Connects to the leader of a partition.
    pub async fn connect_to_leader(&self, topic: &str, partition: Partition) -> Result<Connection, Trouble> {
        if self.leader(topic, partition).is_none() {
            self.refresh().await?;
        }
        match self.leader(topic, partition) {
            Some(unit) => self.connect(unit).await,
            None => Err(Trouble::NotSent(format!("nobody leads `{topic}-{partition}` at this time"))),
        }
    }
}

fn secure(tls: &Tls) -> Result<DomainConnector, LogError> {
    // An error means that the process has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let wrong = |setting: &str, e: &dyn std::fmt::Display| {
        LogError::Refused(format!("log.{setting}: the PEM file cannot be read: {e}"))
    };
    let trusting = ConnectorBuilder::with_safe_defaults()
        .load_ca_cert(&tls.ca_file)
        .map_err(|e| wrong("tls_ca_file", &e))?;
    let connector = match &tls.client {
        Some((certificate, key)) => trusting
            .load_client_certs(certificate, key)
            .map_err(|e| wrong("tls_cert_file and log.tls_key_file", &e))?,
        None => trusting.no_client_auth(),
    };
    Ok(Box::new(TlsDomainConnector::new(connector.build(), tls.domain.clone())))
}
