use std::sync::{Arc, atomic::Ordering};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    log::{Log, Topic},
    testing::{FaultyLog, NOW, door, open_log, records, signal},
};

struct Setup {
    _dir: tempfile::TempDir,
    log: Arc<FaultyLog>,
    door: Door,
}

fn setup(options: DoorOptions) -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    Setup { _dir: dir, door: door(log.clone(), options), log }
}

async fn admit(setup: &Setup, items: &[&str]) -> Admission {
    setup.door.admit(NOW, items.iter().map(|item| Incoming::from(*item)).collect()).await.unwrap()
}

fn event(changes: serde_json::Value) -> String {
    let mut event = json!({"id": "1", "source": "todo", "type": "task.completed", "subject": "ada",
        "time": "2026-01-31T11:00:00Z", "data": {"minutes": 25}});
    for (name, value) in changes.as_object().unwrap() {
        event[name] = value.clone();
    }
    event.to_string()
}

#[tokio::test]
async fn what_is_accepted_is_in_the_log_as_it_was_sent() {
    let setup = setup(DoorOptions::default());
    let with_extension =
        event(json!({"id": "x", "time": "2026-01-31T13:00:00.5+02:00", "traceparent": "00-ab"}));
    let without_time = r#"{"id":"y","source":"todo","type":"task.completed","subject":"bo"}"#;
    let done = admit(&setup, &[&with_extension, without_time]).await;
    assert_eq!((done.accepted, done.duplicates, done.rejected.len()), (2, 0, 0));
    assert!(
        setup.log.end(Topic::Signals).covers(&done.position)
            && done.position.covers(&setup.log.end(Topic::Signals))
    );

    let all = records(&*setup.log);
    assert_eq!(all.len(), 2);
    let (_, x) = all.iter().find(|(_, record)| record.id == "x").unwrap();
    assert_eq!((&*x.kind, &*x.source, &*x.subject), ("task.completed", "todo", "ada"));
    assert_eq!((x.time, x.received_at), (NOW - 3_600_000 + 500, NOW));
    assert_eq!(x.extensions, [("traceparent".to_owned(), "\"00-ab\"".to_owned())]);
    let declared = setup.door.catalogue().get("task.completed").unwrap();
    assert_eq!(declared.decode_json(&x.data).unwrap(), json!({"minutes": 25}));
    let (read, y) = all.iter().find(|(_, record)| record.id == "y").unwrap();
    assert_eq!(y.time, NOW, "no time means the time of arrival");
    assert_eq!(read.key, y.key());
    assert_eq!(done.outcomes[1], Outcome::Accepted(read.partition, read.offset));
}

#[tokio::test]
async fn bad_signals_are_named_and_hold_up_no_good_one() {
    let setup = setup(DoorOptions::default());
    let mut batch = vec![signal("good-1")];
    let cases = [
        (json!({"id": ""}), Reason::Envelope, "`id` is empty"),
        (json!({"id": "i".repeat(257)}), Reason::Envelope, "257 bytes"),
        (json!({"id": 5}), Reason::Envelope, "`id` must be a text"),
        (json!({"source": " "}), Reason::Envelope, "`source` is empty"),
        (json!({"source": "kairos/scorer"}), Reason::Envelope, "kept for Kairos"),
        (json!({"source": "a\u{0}b"}), Reason::Envelope, "U+0000"),
        (json!({"subject": ""}), Reason::Envelope, "`subject` is empty"),
        (json!({"subject": null}), Reason::Envelope, "`subject` is missing"),
        (json!({"subject": "s".repeat(1 << 20)}), Reason::Envelope, "1048576 bytes"),
        (json!({"subject": "a\nb"}), Reason::Envelope, "U+000A"),
        (json!({"type": "task.complete"}), Reason::UnknownType, "did you mean `task.completed`"),
        (json!({"type": "zzz"}), Reason::UnknownType, "not declared"),
        (json!({"type": "t".repeat(100_000)}), Reason::UnknownType, "100000 bytes"),
        (json!({"type": "impression"}), Reason::UnknownType, "Kairos alone"),
        (json!({"time": "2026-02-03T12:00:00Z"}), Reason::FutureTime, "259200 s ahead"),
        (json!({"time": "9999-12-01T00:00:00Z"}), Reason::FutureTime, "ahead"),
        (json!({"data": {"minutes": "ten"}}), Reason::Data, "minutes"),
        (json!({"data": {"mintues": 10}}), Reason::Data, "mintues"),
        (json!({"data": [1]}), Reason::Data, "data"),
        (json!({"data": {"project": "p".repeat(300_000)}}), Reason::Data, "at most 262144"),
        (json!({"note": "n".repeat(5000)}), Reason::Envelope, "extension attributes"),
    ];
    batch.extend(cases.iter().map(|(changes, ..)| event(changes.clone())));
    batch.push("{oh".into());
    batch.push(signal("good-2"));
    let done = admit(&setup, &batch.iter().map(String::as_str).collect::<Vec<_>>()).await;

    assert_eq!((done.accepted, done.duplicates, done.rejected.len()), (2, 0, cases.len() + 1));
    for (index, (changes, reason, said)) in cases.iter().enumerate() {
        let rejected = &done.rejected[index];
        assert_eq!(rejected.index, index + 1);
        assert_eq!(rejected.reason, *reason, "{}", rejected.message);
        assert!(rejected.message.contains(said), "{}", rejected.message);
        assert!(rejected.message.len() < 500 && rejected.id.as_ref().is_none_or(|id| id.len() < 500));
        let id_is_readable = changes.get("id").is_none();
        assert_eq!(rejected.id.as_deref(), id_is_readable.then_some("1").or(changes["id"].as_str()));
    }
    assert_eq!(done.rejected[cases.len()].reason, Reason::Malformed);
    let ids: Vec<_> = records(&*setup.log).into_iter().map(|(_, record)| record.id).collect();
    assert_eq!(ids, ["good-1", "good-2"]);
}

#[tokio::test]
async fn a_repeat_changes_nothing_within_a_batch_and_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = {
        let setup = Setup {
            door: door(open_log(dir.path()), DoorOptions::default()),
            ..setup(DoorOptions::default())
        };
        let done = admit(&setup, &[&signal("a"), &signal("a"), &signal("b")]).await;
        assert_eq!((done.accepted, done.duplicates), (2, 1));
        assert_eq!(done.outcomes[1], Outcome::Duplicate);
        assert_eq!(admit(&setup, &[&signal("a")]).await.duplicates, 1);
        done.position
    };
    let log = open_log(dir.path());
    let again = door(log.clone(), DoorOptions::default());
    let (a, c) = (signal("a"), signal("c"));
    let done = again.admit(NOW, vec![Incoming::from(&*a), Incoming::from(&*c)]).await.unwrap();
    assert_eq!((done.accepted, done.duplicates), (1, 1));
    assert!(done.position.covers(&first), "the position covers the original of a duplicate");
    assert_eq!(records(&*log).len(), 3);
}

#[tokio::test]
async fn the_position_covers_duplicates_though_nothing_was_written() {
    let setup = setup(DoorOptions::default());
    let first = admit(&setup, &[&signal("a")]).await;
    let again = admit(&setup, &[&signal("a")]).await;
    assert_eq!((again.accepted, again.duplicates), (0, 1));
    assert!(again.position.covers(&first.position));
}

#[tokio::test]
async fn an_alias_is_stored_under_its_type() {
    let setup = setup(DoorOptions::default());
    let done = admit(&setup, &[&event(json!({"type": "mood.checkin", "data": {"mood": 4}}))]).await;
    assert_eq!(done.accepted, 1, "{:?}", done.rejected);
    assert_eq!(records(&*setup.log)[0].1.kind, "mood.reported");
}

#[tokio::test]
async fn a_time_ahead_is_clamped_where_asked_and_never_within_the_bound() {
    let setup = setup(DoorOptions { future_times: FutureTimes::Clamp, ..DoorOptions::default() });
    let ahead = event(json!({"id": "ahead", "time": "2026-02-03T12:00:00Z"}));
    let near = event(json!({"id": "near", "time": "2026-01-31T12:05:00Z"}));
    assert_eq!(admit(&setup, &[&ahead, &near]).await.accepted, 2);
    let times: Vec<_> =
        records(&*setup.log).into_iter().map(|(_, record)| (record.id, record.time)).collect();
    assert_eq!(times, [("ahead".to_owned(), NOW), ("near".to_owned(), NOW + 300_000)]);
}

#[tokio::test]
async fn unknown_fields_may_be_ignored() {
    let setup =
        setup(DoorOptions { unknown_fields: crate::catalogue::UnknownFields::Ignore, ..Default::default() });
    assert_eq!(
        admit(&setup, &[&event(json!({"data": {"minutes": 5, "weather": "rain"}}))]).await.accepted,
        1
    );
}

#[tokio::test]
async fn nothing_is_accepted_while_the_log_fails_and_a_repeat_mends_it() {
    let setup = setup(DoorOptions::default());
    let good = signal("a");
    setup.log.failing.store(true, Ordering::Relaxed);
    let failed = setup.door.admit(NOW, vec![Incoming::from(&*good)]).await;
    assert!(matches!(failed, Err(AdmitError::Log(_))));
    assert!(admit(&setup, &["{"]).await.accepted == 0, "a batch without good signals needs no log");
    setup.log.failing.store(false, Ordering::Relaxed);
    assert_eq!(admit(&setup, &[&good]).await.accepted, 1);
}

#[tokio::test]
async fn records_of_the_system_pass_the_same_checks() {
    let setup = setup(DoorOptions::default());
    let data = json!({"tip": "walk", "propensity": 0.25, "context": [1.0, 2.5]});
    let envelope = |subject: &'static str, kind: &'static str| {
        Envelope::new(format!("i-{subject}"), "kairos/scorer", kind, subject).with_data(&data).unwrap()
    };
    let good = setup.door.record(NOW, envelope("ada", "impression")).unwrap();
    assert!(
        setup.door.record(NOW, envelope("ada", "task.completed")).unwrap_err().message.contains("context")
    );
    let mut nobody = good.clone();
    nobody.subject.clear();
    let mut unknown = good.clone();
    unknown.kind = "impresion".into();
    let mut ahead = good.clone();
    ahead.time = NOW + 3_600_000;

    let pending = setup.door.admit_records_later(vec![good.clone(), nobody, unknown, ahead]);
    let done = pending.await.unwrap();
    assert_eq!((done.accepted, done.rejected.len()), (1, 3));
    assert_eq!(setup.door.admit_records(vec![good]).await.unwrap().duplicates, 1);
    assert_eq!(records(&*setup.log).len(), 1);
}

#[tokio::test]
async fn what_is_not_waited_for_is_appended_before_the_end() {
    let setup = setup(DoorOptions::default());
    let text = signal("a");
    let record = setup.door.record(NOW, Envelope::parse(text.as_bytes()).unwrap()).unwrap();
    for n in 0..50 {
        let record = crate::record::Record { id: n.to_string(), ..record.clone() };
        drop(setup.door.admit_records_later(vec![record]));
    }
    setup.door.drain().await;
    assert_eq!(records(&*setup.log).len(), 50);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is sent, each item has one outcome, the counts agree, and the log holds what was accepted.
    #[test]
    fn every_item_has_one_outcome(choices in proptest::collection::vec((0..4u8, 0..6u8), 0..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let setup = setup(DoorOptions::default());
            let texts: Vec<String> = choices.iter().map(|(what, n)| match what {
                0 => "{\"id\":".to_owned(),
                1 => event(json!({"id": n.to_string(), "data": {"minutes": "?"}})),
                _ => signal(&n.to_string()),
            }).collect();
            let done = admit(&setup, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
            let good: Vec<_> = choices.iter().filter(|(what, _)| *what > 1).map(|(_, n)| n).collect();
            let distinct: std::collections::BTreeSet<_> = good.iter().collect();
            assert_eq!(done.outcomes.len(), texts.len());
            assert_eq!(done.accepted, distinct.len());
            assert_eq!(done.duplicates, good.len() - distinct.len());
            assert_eq!(done.rejected.len(), texts.len() - good.len());
            let places: Vec<_> = records(&*setup.log).iter().map(|(read, _)| Outcome::Accepted(read.partition, read.offset)).collect();
            assert_eq!(places.len(), done.accepted);
            assert!(places.iter().all(|place| done.outcomes.contains(place)));
        });
    }
}
