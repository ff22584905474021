//! Times, durations and bytes as JSON text, by proto3's mapping.

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// Seconds of 0001-01-01T00:00:00Z and of 9999-12-31T23:59:59Z.
const TIMESTAMPS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// About ten thousand years.
const LONGEST_DURATION: u64 = 315_576_000_000;

/// Seconds since the Unix epoch, rounded down, and nanoseconds of that second.
pub(crate) fn parse_timestamp(text: &str) -> Option<(i64, i32)> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    let nanos = instant.subsec_nanosecond();
    let (seconds, nanos) = if nanos < 0 {
        (instant.as_second() - 1, nanos + 1_000_000_000)
    } else {
        (instant.as_second(), nanos)
    };
    TIMESTAMPS.contains(&seconds).then_some((seconds, nanos))
}

/// RFC 3339 in UTC; nothing if protobuf does not allow the values.
pub(crate) fn format_timestamp(seconds: i64, nanos: i32) -> Option<String> {
    if !TIMESTAMPS.contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return None;
    }
    jiff::Timestamp::from_second(seconds)
        .and_then(|t| t.checked_add(jiff::SignedDuration::new(0, nanos)))
        .map(|t| t.to_string())
        .ok()
}

/// Seconds and nanoseconds, of one sign, of text such as `-1.5s`.
pub(crate) fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds = whole.parse::<u64>().ok().filter(|s| *s <= LONGEST_DURATION)? as i64;
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    Some(if negative { (-seconds, -nanos) } else { (seconds, nanos) })
}

/// Text such as `-1.5s`; nothing if protobuf does not allow the values.
pub(crate) fn format_duration(seconds: i64, nanos: i32) -> Option<String> {
    let fits = seconds.unsigned_abs() <= LONGEST_DURATION
        && nanos.unsigned_abs() < 1_000_000_000
        && (seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0));
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let fraction = format!(".{:09}", nanos.unsigned_abs());
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    fits.then(|| format!("{sign}{}{fraction}s", seconds.unsigned_abs()))
}

/// Milliseconds, rounded down; nothing if they do not fit.
pub(crate) fn millis(seconds: i64, nanos: i32) -> Option<i64> {
    seconds.checked_mul(1000)?.checked_add(i64::from(nanos.div_euclid(1_000_000)))
}

/// Base64 in either alphabet, padded or not.
pub(crate) fn parse_bytes(text: &str) -> Option<Vec<u8>> {
    let engine = if text.contains(['-', '_']) { BASE64_URL } else { BASE64 };
    engine.decode(text).ok()
}

/// Base64, padded.
pub(crate) fn format_bytes(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_round_down() {
        assert_eq!(parse_timestamp("1969-12-31T23:59:59.5Z"), Some((-1, 500_000_000)));
        assert_eq!(format_timestamp(-1, 500_000_000).as_deref(), Some("1969-12-31T23:59:59.5Z"));
        assert_eq!(millis(-1, 999_999), Some(-1000));
        assert_eq!(millis(-1, 1_000_000), Some(-999));
        assert_eq!(millis(i64::MAX, 0), None);
        assert_eq!(parse_timestamp("2026-01-31T10:00:00+02:00"), Some((1_769_846_400, 0)));
        for wrong in
            ["", "2026-01-31", "2026-02-30T00:00:00Z", "2026-01-31T10:00:00", "-000001-01-01T00:00:00Z"]
        {
            assert_eq!(parse_timestamp(wrong), None, "{wrong}");
        }
        assert_eq!(format_timestamp(i64::MAX, 0), None);
        assert_eq!(format_timestamp(0, -1), None);
    }

    #[test]
    fn durations_read_and_write() {
        for (text, parts) in
            [("0s", (0, 0)), ("1.5s", (1, 500_000_000)), ("-0.000000001s", (0, -1)), ("-3s", (-3, 0))]
        {
            assert_eq!(parse_duration(text), Some(parts), "{text}");
            assert_eq!(format_duration(parts.0, parts.1).as_deref(), Some(text));
        }
        for wrong in ["", "s", "1", "1.s", ".5s", "+1s", "--1s", "1.0000000001s", "999999999999s", "1e3s"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
        assert_eq!(format_duration(1, -1), None);
    }

    #[test]
    fn bytes_read_in_both_alphabets() {
        for text in ["+/8=", "+/8", "-_8=", "-_8"] {
            assert_eq!(parse_bytes(text).as_deref(), Some(&[0xfb, 0xff][..]), "{text}");
        }
        assert_eq!(parse_bytes("*"), None);
        assert_eq!(format_bytes(&[0xfb, 0xff]), "+/8=");
    }
}
