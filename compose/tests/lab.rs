//! The laboratory of `kairos demo`: its figures hold together, its page draws them in a real Chromium, and no
//! other command serves it.
//!
//! `KAIROS_TEST_CHROMIUM`, `KAIROS_TEST_REQUIRE` and `KAIROS_TEST_SCREENSHOTS` as in `api/tests/browser`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

#[path = "../../api/tests/browser/cdp.rs"]
#[allow(dead_code, reason = "this file uses a part of it")]
mod cdp;
mod support;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use cdp::{DESKTOP, PHONE, Page, chromium};
use hyper::StatusCode;
use serde_json::{Value, json};
use support::Server;

const PATIENCE: Duration = Duration::from_secs(300);

/// A demo of two policies that a debug build learns quickly enough; a slow one would see reactions too late.
fn demo(dir: &Path) -> Server {
    let config = dir.join("kairos.toml");
    std::fs::write(&config, "scorer.policy.name = \"linucb\"\nscorer.shadow.name = \"epsilon\"\n").unwrap();
    let config = config.display().to_string();
    let arguments = ["demo", "--config", &config, "--people", "250", "--speed", "20"];
    Server::spawn(&arguments, &dir.join("data"), &[])
}

/// Waits until the figures rest on `tips` decisions.
async fn figures(server: &Server, tips: u64) -> Value {
    let began = Instant::now();
    loop {
        let (status, body) = server.get("/lab/data").await;
        assert_eq!(status, StatusCode::OK);
        let data = support::json_or_null(&body);
        if data["tips"].as_u64().unwrap() >= tips {
            return data;
        }
        assert!(began.elapsed() < PATIENCE, "{} tips\n{}", data["tips"], server.logged());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn numbers(column: &Value) -> Vec<f64> {
    column.as_array().unwrap().iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
}

#[tokio::test]
async fn the_figures_hold_together_and_the_policy_learns() {
    let data = tempfile::tempdir().unwrap();
    let server = demo(data.path());
    let early = figures(&server, 1).await;
    let late = figures(&server, 800).await;
    assert!(early["tips"].as_u64() < late["tips"].as_u64());

    let column = |name: &str| numbers(&late["curve"][name]);
    let (tips, best) = (column("tips"), column("best"));
    let policies = ["incumbent", "shadow", "uniform"];
    assert_eq!(late["policies"]["incumbent"]["name"], "linucb");
    assert_eq!(late["policies"]["shadow"]["name"], "epsilon");
    assert_eq!(tips[0], 0.0);
    assert!(tips.windows(2).all(|t| t[0] < t[1]));
    for name in policies {
        let sums = column(name);
        assert!(sums.iter().all(|s| s.is_finite()), "{name}: every decision has a record of it");
        assert_eq!(sums.len(), tips.len(), "{name}");
        let steps = sums.windows(2).zip(best.windows(2)).zip(tips.windows(2));
        for ((mine, best), tips) in steps {
            let (mine, best) = (mine[1] - mine[0], best[1] - best[0]);
            assert!(mine > 0.0 && mine <= best + 1e-3, "{name}: {mine}, the best choice {best}");
            assert!(best <= tips[1] - tips[0], "no tip is worth more than 1");
        }
        let shares: f64 = numbers(&late["propensities"][name]).iter().sum();
        assert!((shares - 1.0).abs() < 1e-2, "{name}: {shares}");
    }
    let half = tips.len() / 2;
    let [incumbent, shadow, uniform] = policies.map(|name| {
        let sums = column(name);
        (sums[sums.len() - 1] - sums[half]) / (tips[tips.len() - 1] - tips[half])
    });
    let earned = format!("policy {incumbent}, shadow {shadow}, uniform choice {uniform}");
    assert!(incumbent > 1.05 * uniform && shadow > 1.05 * uniform, "{earned}");

    let categories = late["categories"].as_array().unwrap();
    assert!(categories.len() > 10);
    let known: Vec<(f64, f64)> = categories
        .iter()
        .map(|c| (*numbers(&c["incumbent"]).last().unwrap(), *numbers(&c["truth"]).last().unwrap()))
        .filter(|(held, truth)| !held.is_nan() && !truth.is_nan())
        .collect();
    assert!(known.len() > 5, "{late}");
    assert!(known.iter().all(|(_, truth)| (0.0..=1.0).contains(truth)));
    let mean = |of: fn(&(f64, f64)) -> f64| known.iter().map(of).sum::<f64>() / known.len() as f64;
    let (held, truth) = (mean(|k| k.0), mean(|k| k.1));
    let together: f64 = known.iter().map(|(h, t)| (h - held) * (t - truth)).sum();
    assert!(together > 0.0, "what is truly liked is held to be liked: {known:?}");
    server.stop();
}

/// How many pixels of each chart of a section have the colour of a policy, in `rgb` as the page has it.
const COLOURED: &str = "(section, key) => {
    const probe = document.body.appendChild(document.createElement('i'));
    probe.style.color = `var(--${key})`;
    const [r, g, b] = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
    probe.remove();
    return [...document.querySelectorAll(`#${section} canvas`)].map((canvas) => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        let many = 0;
        for (let i = 0; i < data.length; i += 4) {
            const far = Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b);
            if (data[i + 3] > 200 && far < 24) many += 1;
        }
        return many;
    });
}";

fn coloured(page: &mut Page, section: &str, key: &str) -> Vec<u64> {
    let many = page.eval(&format!("({COLOURED})('{section}', '{key}')"));
    many.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
}

#[tokio::test]
async fn the_page_draws_and_moves() {
    let Some(chromium) = chromium() else { return };
    let data = tempfile::tempdir().unwrap();
    let server = demo(data.path());
    figures(&server, 300).await;
    for (screen, scheme, name) in [(DESKTOP, "dark", "lab-desktop"), (PHONE, "light", "lab-phone")] {
        let mut page = Page::open(&chromium, screen);
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        page.call("Emulation.setEmulatedMedia", media);
        page.goto(&format!("http://{}/demo", server.address));
        page.until("document.querySelector('a[href=\"/lab\"]')");
        page.eval("document.querySelector('a[href=\"/lab\"]').click()");
        page.until(
            "location.pathname === '/lab' && document.querySelectorAll('.category canvas').length > 10",
        );
        page.until("document.getElementById('sentence').textContent.includes('a uniform choice would have')");

        for section in ["reward", "regret", "propensities"] {
            for key in ["incumbent", "shadow", "uniform"] {
                let many = coloured(&mut page, section, key);
                assert!(many.len() == 1 && many[0] > 100, "{section}, {key}: {many:?} pixels");
            }
        }
        let drawn = coloured(&mut page, "learned", "incumbent").into_iter().filter(|n| *n > 20).count();
        assert!(drawn > 5, "{drawn} categories are drawn");
        assert_eq!(page.eval("document.documentElement.scrollWidth <= innerWidth"), json!(true));
        let labelled = "[...document.querySelectorAll('.chart')].every((c) => /\\d/.test(c.ariaLabel))";
        assert_eq!(page.eval(labelled), json!(true), "every chart says its figures");
        assert_eq!(
            page.eval(&format!("matchMedia('(prefers-color-scheme: {scheme})').matches")),
            json!(true)
        );
        page.picture(&format!("{name}.png"));

        let values = "[...document.querySelectorAll('#regret b')].map((b) => b.textContent).join()";
        let before = page.eval(values);
        page.until(&format!("{values} !== {before}"));
        assert_eq!(page.complaints(), Vec::<String>::new());
    }
    server.stop();
}

#[tokio::test]
async fn only_the_demo_serves_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    for path in ["/lab", "/lab/data", "/lab/lab.js"] {
        assert_eq!(server.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    server.stop();
}
