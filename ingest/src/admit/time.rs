//! RFC 3339 to milliseconds since the Unix epoch.

use jiff::Timestamp;

use crate::Millis;

/// Reads a date and time with an offset, as `2026-01-31T08:30:00.250+01:00`. What is finer than a
/// millisecond is dropped, towards the past.
pub fn parse(text: &str) -> Result<Millis, String> {
    let wrong = |why: &str| {
        let text: String = text.chars().take(40).collect();
        format!("`time` is \"{text}\"; it must be RFC 3339, as 2026-01-31T08:30:00Z or …T09:30:00+01:00{why}")
    };
    // The parser knows more forms than RFC 3339: years of six digits, hours alone, zone names.
    let byte = |at: usize| text.as_bytes().get(at).copied();
    let fields = (byte(4), byte(7), byte(13), byte(16)) == (Some(b'-'), Some(b'-'), Some(b':'), Some(b':'));
    let offset_has_minutes = match text.len().checked_sub(6).and_then(byte) {
        Some(b'+' | b'-') => byte(text.len() - 3) == Some(b':'),
        _ => matches!(text.as_bytes().last(), Some(b'Z' | b'z')),
    };
    if !fields || !offset_has_minutes || text.len() > 64 {
        return Err(wrong(""));
    }
    let instant: Timestamp = text.parse().map_err(|e: jiff::Error| wrong(&format!(" ({e})")))?;
    i64::try_from(instant.as_nanosecond().div_euclid(1_000_000)).map_err(|_| wrong(""))
}

/// Milliseconds as RFC 3339 in UTC, for messages.
pub fn show(millis: Millis) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| format!("{millis} ms"), |instant| instant.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offsets_lead_to_one_instant() {
        let noon = 1_580_472_000_000;
        for text in [
            "2020-01-31T12:00:00Z",
            "2020-01-31t12:00:00z",
            "2020-01-31T12:00:00.000Z",
            "2020-01-31T13:00:00+01:00",
            "2020-01-31T00:30:00.0009-11:30",
        ] {
            assert_eq!(parse(text), Ok(noon), "{text}");
        }
        assert_eq!(parse("1969-12-31T23:59:59.9999Z"), Ok(-1));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "yesterday",
            "2020-01-31",
            "2020-01-31T12:00:00",
            "2020-01-31T12Z",
            "2020-01-31T12:00:00+01",
            "2020-01-31T12:00:00+0100",
            "2020-01-31T12:00:00+01:00[Europe/Oslo]",
            "2020-02-30T12:00:00Z",
            "2020-01-31T25:00:00Z",
            "+002020-01-31T12:00:00Z",
            "1580472000",
            "２０２０-01-31T12:00:00Z",
        ] {
            assert!(parse(text).unwrap_err().contains("RFC 3339"), "{text}");
        }
    }

    #[test]
    fn why_a_date_is_none_is_told() {
        let message = parse("2020-02-30T12:00:00Z").unwrap_err();
        assert!(message.contains("day"), "{message}");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(millis in -62_000_000_000_000i64..250_000_000_000_000) {
            prop_assert_eq!(parse(&show(millis)), Ok(millis));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
