//! The checks of the envelope against bounds and catalogue.

use std::{collections::HashMap, sync::Arc};

use super::{
    door::Door,
    envelope::Envelope,
    options::FutureTimes,
    outcome::{Reason, Refusal},
    time,
};
use crate::{Millis, catalogue::SignalType, telemetry};

/// Sources that begin so are the system's own.
const OWN_SOURCES: &str = "kairos/";
/// Types that only the system itself reports.
const OWN_TYPES: [&str; 2] = ["impression", "reaction"];
/// Longest unknown type for which a near one is looked up, in bytes.
const MAX_SUGGESTED: usize = 64;
/// Least likeness (Jaro-Winkler, 0 to 1) at which a known type is suggested.
const LIKE: f64 = 0.7;

/// What to say of unknown types; a batch with one wrong type has it again and again.
pub(super) type Suggestions = HashMap<String, String>;

impl Door {
    pub(super) fn check_attributes(
        &self,
        id: &str,
        source: &str,
        subject: &str,
        extensions: &[(String, String)],
    ) -> Result<(), Refusal> {
        let options = &self.options;
        check_text("id", id, options.max_id_bytes)?;
        check_text("source", source, options.max_id_bytes)?;
        check_text("subject", subject, options.max_subject_bytes)?;
        let bytes: usize = extensions.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > options.max_extension_bytes {
            let most = options.max_extension_bytes;
            let message = format!("extension attributes have {bytes} bytes; at most {most} are taken");
            return Err(Refusal::new(Reason::Envelope, message));
        }
        Ok(())
    }

    /// The time to store: the one given, unless it is too far ahead and such are set back to the arrival.
    pub(super) fn settle_time(&self, arrival: Millis, time: Millis) -> Result<Millis, Refusal> {
        let ahead = time.saturating_sub(arrival);
        if ahead <= self.options.future_bound_ms {
            return Ok(time);
        }
        match self.options.future_times {
            FutureTimes::Clamp => {
                metrics::counter!(telemetry::FUTURE_CLAMPED).increment(1);
                Ok(arrival)
            }
            FutureTimes::Reject => Err(Refusal::new(
                Reason::FutureTime,
                format!(
                    "`time` {} is {} s ahead of its arrival at {}; at most {} s are taken. Check the sender's clock",
                    time::show(time),
                    ahead / 1000,
                    time::show(arrival),
                    self.options.future_bound_ms / 1000,
                ),
            )),
        }
    }

    pub(super) fn type_of(
        &self,
        kind: &str,
        suggestions: &mut Suggestions,
    ) -> Result<&Arc<SignalType>, Refusal> {
        self.catalogue.get(kind).ok_or_else(|| {
            if kind.len() > MAX_SUGGESTED {
                let message = format!("`type` has {} bytes and is not declared", kind.len());
                return Refusal::new(Reason::UnknownType, message);
            }
            let message = suggestions.entry(kind.to_owned()).or_insert_with(|| self.unknown_type(kind));
            Refusal::new(Reason::UnknownType, message.as_str())
        })
    }

    fn unknown_type(&self, kind: &str) -> String {
        let near = self
            .catalogue
            .types()
            .flat_map(|declared| declared.aliases.iter().chain([&declared.name]))
            .filter(|name| !OWN_TYPES.contains(&name.as_str()))
            .map(|name| (strsim::jaro_winkler(kind, name), name))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match near {
            Some((likeness, name)) if likeness > LIKE => {
                format!("`type` `{kind}` is not declared; did you mean `{name}`?")
            }
            _ => format!("`type` `{kind}` is not declared; declare it in a .proto file of `signals.dirs`"),
        }
    }
}

/// Whether a signal from outside keeps off what is the system's own.
pub(super) fn outside(envelope: &Envelope<'_>) -> Result<(), Refusal> {
    if OWN_TYPES.contains(&&*envelope.kind) {
        return Err(Refusal::new(
            Reason::UnknownType,
            format!(
                "`type` `{}` is reported by Kairos alone; tell reactions by POST /v1/feedback",
                envelope.kind
            ),
        ));
    }
    if envelope.source.starts_with(OWN_SOURCES) {
        let message = format!("`source` begins with `{OWN_SOURCES}`, which is kept for Kairos itself");
        return Err(Refusal::new(Reason::Envelope, message));
    }
    Ok(())
}

fn check_text(name: &str, text: &str, most: usize) -> Result<(), Refusal> {
    let message = if text.trim().is_empty() {
        format!("`{name}` is empty")
    } else if text.len() > most {
        format!("`{name}` has {} bytes; at most {most} are taken", text.len())
    } else if let Some(c) = text.chars().find(|c| c.is_control()) {
        format!("`{name}` holds the control character U+{:04X}", u32::from(c))
    } else {
        return Ok(());
    };
    Err(Refusal::new(Reason::Envelope, message))
}
