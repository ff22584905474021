//! Where a window begins, from its definition alone.

use ingest::Millis;

use crate::view::{Span, Window};

/// The signals of a window at `at` are those with `opens_after < time <= at`. `times` are those of the signals
/// that count, up to `at`, oldest first.
pub(super) fn opens_after(window: &Window, _times: &[Millis], at: Millis) -> Millis {
    match window.span {
        Span::Sliding(ms) => at - ms,
        // The calendar and sessions of an entity are not recomputed here yet: an impossible edge shows as a difference.
        _ => Millis::MIN,
    }
}

/// Whether a window's begin depends on which signals there are.
pub(super) fn goes_by_signals(_window: &Window) -> bool {
    false
}
