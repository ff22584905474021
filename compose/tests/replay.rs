//! `kairos replay`: files in, features out; over again it changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod support;

use std::io::Write;

use serde_json::{Value, json};
use support::{Server, kairos, run};

fn night(number: u32) -> String {
    let day = number % 28 + 1;
    json!({
        "id": format!("night-{number}"), "source": "watch", "type": "sleep.session", "subject": format!("p{}", number % 3),
        "time": format!("2020-02-{day:02}T06:30:00Z"),
        "data": {"minutes_asleep": 400 + number, "main_sleep": true},
    })
    .to_string()
}

#[test]
fn a_packed_file_with_mistakes_is_taken_in_and_taken_again() {
    let dir = tempfile::tempdir().unwrap();
    let (file, rejects, data) =
        (dir.path().join("nights.gz"), dir.path().join("rejects.ndjson"), dir.path().join("data"));
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for number in 0..84 {
        writeln!(packer, "{}", night(number)).unwrap();
    }
    writeln!(packer, "no signal\n{}", night(5)).unwrap();
    std::fs::write(&file, packer.finish().unwrap()).unwrap();

    let replay = || {
        run(kairos()
            .arg("replay")
            .arg(&file)
            .args(["--batch", "10", "--rejects"])
            .arg(&rejects)
            .arg("--data")
            .arg(&data))
    };
    let (status, told, errors) = replay();
    assert!(status.success(), "{errors}");
    assert!(told.contains("84 accepted, 1 duplicates, 1 rejected"), "{told}");
    assert!(told.contains("nights.gz:85"), "{told}");
    let rejected: Value = serde_json::from_str(std::fs::read_to_string(&rejects).unwrap().trim()).unwrap();
    assert_eq!((&rejected["line"], &rejected["signal"]), (&json!(85), &json!("no signal")));
    let (_, told, _) = replay();
    assert!(told.contains("0 accepted, 85 duplicates, 1 rejected"), "{told}");

    let read = kairos()
        .args(["features", "read", "p1", "nobody", "--as-of", "2020-02-20T00:00:00Z", "--json", "--data"])
        .arg(&data)
        .args(["--feature", "sleep_debt.nights_7d", "--feature", "sleep_debt.last_night_minutes_7d"])
        .output()
        .unwrap();
    let rows: Vec<Value> =
        String::from_utf8(read.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    // The nights of p1 are those with number % 3 == 1: of the 13th to the 19th, in three rounds of 28 days.
    let expected: Vec<u32> = (0..84).filter(|n| n % 3 == 1 && (12..19).contains(&(n % 28))).collect();
    assert_eq!(rows[0]["values"]["sleep_debt.nights_7d"], expected.len());
    let last = expected.iter().max_by_key(|n| (*n % 28, format!("night-{n}"))).unwrap();
    assert_eq!(rows[0]["values"]["sleep_debt.last_night_minutes_7d"], 400 + last);
    assert_eq!(
        rows[1]["values"],
        json!({"sleep_debt.nights_7d": 0, "sleep_debt.last_night_minutes_7d": null})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_takes_files_too_and_keeps_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("nights"), dir.path().join("data"));
    let lines: Vec<String> = (0..10).map(night).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let server = Server::start(&data);
    let here = run(kairos().arg("replay").arg(&file).arg("--data").arg(&data));
    assert_eq!(here.0.code(), Some(4), "{}", here.2);
    assert!(here.2.contains("--url"), "{}", here.2);
    let url = format!("http://{}", server.address);
    let (status, told, errors) = run(kairos().arg("replay").arg(&file).args(["--url", &url]));
    assert!(status.success(), "{errors}");
    assert!(told.contains("10 accepted, 0 duplicates, 0 rejected"), "{told}");
    let question = json!({
        "entities": ["p0"], "features": ["sleep_debt.nights_7d"], "as_of": "2020-02-10T12:00:00Z",
    });
    let (_, answer) = server.post("/v1/features/read", &question).await;
    assert_eq!(answer["rows"][0]["values"]["sleep_debt.nights_7d"], 3, "{answer}");
    server.stop();
}
