//! Which roles there are and what each of them needs: the one table.

use std::collections::BTreeSet;

use clap::ValueEnum;

use crate::{
    config::Settings,
    error::{Error, Result},
};

/// A job the process can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Role {
    /// Takes signals in over HTTP.
    Ingest,
    /// Keeps features fresh, writes history, and compares samples of both with the views' SQL.
    Stream,
    /// Chooses tips and learns from reactions.
    Score,
    /// Serves features, tips, feedback and the tip page.
    Api,
    /// Retention of the log.
    Pipelines,
    /// Trains the shadow anew each night, at `train.hour`.
    Train,
}

/// A part of the process; opened once, shared by the roles that need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Declared signal types.
    Catalogue,
    /// The log.
    Log,
    /// The one door to the log.
    Door,
    /// Feature views with their online and offline stores.
    Features,
    /// The job that applies the log to the features.
    StreamJob,
    /// Tips, policies, decisions, learning.
    Scorer,
    /// Samples compared with their SQL as a batch.
    Verify,
    /// The hourly housekeeping.
    Retention,
    /// The nightly training.
    Training,
}

/// Role, and the parts it needs. Every process has an HTTP server beside them, which says how it is.
pub const ROLES: [(Role, &[Part]); 6] = [
    (Role::Ingest, &[Part::Catalogue, Part::Log, Part::Door]),
    (Role::Stream, &[Part::Catalogue, Part::Log, Part::Features, Part::StreamJob, Part::Verify]),
    (Role::Score, &[Part::Catalogue, Part::Log, Part::Door, Part::Features, Part::Scorer]),
    (Role::Api, &[Part::Catalogue, Part::Log, Part::Door, Part::Features, Part::Scorer]),
    (Role::Pipelines, &[Part::Log, Part::Retention]),
    (Role::Train, &[Part::Catalogue, Part::Log, Part::Door, Part::Features, Part::Scorer, Part::Training]),
];

/// The roles to start: those named, or all.
pub fn chosen(named: &[Role]) -> BTreeSet<Role> {
    if named.is_empty() { ROLES.iter().map(|(r, _)| *r).collect() } else { named.iter().copied().collect() }
}

/// The parts these roles need together.
pub fn parts_of(roles: &BTreeSet<Role>) -> BTreeSet<Part> {
    ROLES.iter().filter(|(r, _)| roles.contains(r)).flat_map(|(_, parts)| parts.iter().copied()).collect()
}

/// Whether these roles find what others make: values of now lie in the memory of the process that runs the
/// stream job, unless the online store is one that processes share.
pub fn within_reach(settings: &Settings, roles: &BTreeSet<Role>) -> Result<()> {
    let alone = roles.contains(&Role::Stream) || !parts_of(roles).contains(&Part::Features);
    if alone || !settings.online.url.starts_with("embedded:") {
        return Ok(());
    }
    Err(Error::Setting(
        "online.url = `embedded:` keeps values in the memory of the process with the role `stream`, which is not \
         among these roles; name it too, or name a store that processes share, such as `redis://127.0.0.1:6379`"
            .to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_stands_in_the_table_once() {
        let listed: Vec<Role> = ROLES.iter().map(|(r, _)| *r).collect();
        assert_eq!(listed, Role::value_variants());
    }

    #[test]
    fn no_name_means_every_role() {
        assert_eq!(chosen(&[]).len(), ROLES.len());
        assert_eq!(chosen(&[Role::Api]), BTreeSet::from([Role::Api]));
    }

    #[test]
    fn values_in_memory_are_for_the_process_that_makes_them() {
        let mut settings = Settings::default();
        for (roles, fine) in
            [(vec![], true), (vec![Role::Ingest], true), (vec![Role::Api, Role::Score], false)]
        {
            assert_eq!(within_reach(&settings, &chosen(&roles)).is_ok(), fine, "{roles:?}");
        }
        settings.online.url = "redis://127.0.0.1".into();
        assert!(within_reach(&settings, &chosen(&[Role::Api])).is_ok());
    }

    #[test]
    fn housekeeping_alone_opens_no_features() {
        assert_eq!(parts_of(&chosen(&[Role::Pipelines])), BTreeSet::from([Part::Log, Part::Retention]));
    }
}
