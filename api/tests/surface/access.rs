//! What each part and each key is told and allowed.

use super::*;

#[tokio::test]
async fn readiness_tells_each_part() {
    let (script, router) = open();
    assert_eq!(get(&router, "/readyz").await.json()["ready"], true);
    script.broken.lock().unwrap().push("features".to_owned());
    let answer = get(&router, "/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["parts"][1], json!({"part": "features", "ready": false, "detail": "scripted"}));
    assert_eq!(get(&router, "/healthz").await.status, StatusCode::OK, "alive all the same");
}

#[tokio::test]
async fn each_scope_opens_its_own_routes() {
    let mut keys = Keys::open();
    let secret = |name: &str| format!("{name}-secret-of-many-characters");
    for (name, scope) in
        [("r", Scope::Read), ("t", Scope::Recommend), ("i", Scope::Ingest), ("a", Scope::Admin)]
    {
        keys.add_secret(name, &secret(name), &[scope], None).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let router = Script::new().whole_router(keys, dir.path());
    for (method, path, may) in [
        ("POST", "/v1/signals", "ia"),
        ("GET", "/v1/features", "ra"),
        ("POST", "/v1/features/read", "ra"),
        ("GET", "/v1/impressions/x", "ra"),
        ("POST", "/v1/recommend", "ta"),
        ("POST", "/v1/feedback", "ta"),
        ("GET", "/v1/policies", "ra"),
        ("POST", "/v1/policies/promote", "a"),
        ("POST", "/v1/policies/rollback", "a"),
        ("POST", "/v1/policies/register", "a"),
        ("GET", "/v1/users/x/export", "a"),
        ("DELETE", "/v1/users/x", "a"),
    ] {
        let ask = |key: Option<&str>| {
            let request = Request::builder().method(method).uri(path);
            let request = match key {
                Some(key) => request.header(header::AUTHORIZATION, format!("Bearer {}", secret(key))),
                None => request,
            };
            request.body(Body::empty()).unwrap()
        };
        assert_eq!(send(&router, ask(None)).await.status, StatusCode::UNAUTHORIZED, "{path}");
        for key in ["r", "t", "i", "a"] {
            let refused = send(&router, ask(Some(key))).await.status == StatusCode::FORBIDDEN;
            assert_eq!(refused, !may.contains(key), "{key} {path}");
        }
    }
    for path in ["/", "/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(get(&router, path).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn policies_are_listed_promoted_and_rolled_back_in_the_name_of_the_caller() {
    let (_, router) = open();
    assert_eq!(get(&router, "/v1/policies").await.json()["snapshots"], json!([]));
    let dry = post(&router, "/v1/policies/promote", r#"{"dry_run": true}"#).await.json();
    assert_eq!(dry, json!({"promoted": false, "by": "local"}));
    let back = post(&router, "/v1/policies/rollback", r#"{"version": 7}"#).await.json();
    assert_eq!(back["version"], 7);
    assert!(post(&router, "/v1/policies/rollback", "{}").await.json()["version"].is_null());
    let none = post(&router, "/v1/policies/rollback", r#"{"version": 0}"#).await;
    assert_eq!((none.status, none.message().as_str()), (StatusCode::BAD_REQUEST, "there is no version 0"));
    let known = post(&router, "/v1/policies/register", r#"{"file": "known"}"#).await;
    assert_eq!(known.status, StatusCode::NO_CONTENT);
    let none = post(&router, "/v1/policies/register", r#"{"file": "x"}"#).await;
    assert_eq!(none.status, StatusCode::BAD_REQUEST);
    let typo = post(&router, "/v1/policies/promote", r#"{"dry": true}"#).await;
    assert_eq!(typo.status, StatusCode::BAD_REQUEST);
}
