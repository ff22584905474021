//! Tips, reactions, and a person's own data.

use super::*;

#[tokio::test]
async fn a_tip_a_silence_and_a_reaction() {
    let (script, router) = open();
    script.tip(tip("i1", "Breathe", "Four slow breaths.", "Breathe", "It is evening."));
    let answer = post(&router, "/v1/recommend", r#"{"user":"ada","context":{"time.hour":21}}"#).await;
    let expected = json!({
        "tip": {"id": "tip-i1", "title": "Breathe", "body": "Four slow breaths.", "action": "Breathe", "why": "It is evening."},
        "impression": "i1", "policy": "linucb-1", "propensity": 0.25,
    });
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, expected));
    let silence = post(&router, "/v1/recommend", r#"{"user":"ada"}"#).await;
    assert_eq!((silence.status, silence.text.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(post(&router, "/v1/recommend", r#"{"user":""}"#).await.status, StatusCode::BAD_REQUEST);

    let report = r#"{"impression":"i1","reaction":"accepted","at":"2025-06-15T15:06:40Z"}"#;
    for duplicate in [false, true] {
        let answer = post(&router, "/v1/feedback", report).await;
        let expected = json!({"impression": "i1", "reaction": "accepted", "duplicate": duplicate});
        assert_eq!((answer.status, answer.json()), (StatusCode::ACCEPTED, expected));
    }
    assert_eq!(script.reactions(), [("i1".to_owned(), Reaction::Accepted)]);
    let liked = post(&router, "/v1/feedback", r#"{"impression":"i1","reaction":"liked"}"#).await;
    assert!(
        liked.status == StatusCode::BAD_REQUEST && liked.message().contains("`accepted`"),
        "{}",
        liked.text
    );
    let unknown = post(&router, "/v1/feedback", r#"{"impression":"unknown","reaction":"done"}"#).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_person_is_exported_and_erased() {
    let (script, router) = open();
    script.completed.lock().unwrap().insert("ada".to_owned(), 3);
    let export = get(&router, "/v1/users/ada/export").await;
    assert_eq!(export.headers[header::CONTENT_TYPE], "application/x-ndjson");
    assert_eq!(export.text, "{\"user\":\"ada\",\"completed\":3}\n");
    for expected in [1, 0] {
        let erase = Request::delete("/v1/users/ada").body(Body::empty()).unwrap();
        assert_eq!(send(&router, erase).await.json(), json!({"erased": {"log": expected}}));
    }
    assert_eq!(get(&router, "/v1/users/ada/export").await.text, "");
}
