//! The tip page in a real Chromium: fingers, keys, screen readers, bad networks.
//!
//! `KAIROS_TEST_CHROMIUM` names the browser when it is not on `PATH`; `KAIROS_TEST_REQUIRE` makes its absence
//! a failure; `KAIROS_TEST_SCREENSHOTS` names a directory for pictures.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod cdp;
#[path = "../support/mod.rs"]
mod support;

use std::{net::SocketAddr, sync::Arc};

use api::{ApiError, ports::Reaction};
use cdp::{DESKTOP, PHONE, Page, Screen, chromium};
use ingest::auth::{Keys, Scope};
use support::{Script, tip};

/// The real router on a free port, with a scripted recommender, and a browser in front of it.
struct Stage {
    script: Arc<Script>,
    page: Page,
    base: String,
    _runtime: tokio::runtime::Runtime,
}

impl Stage {
    fn set(screen: Screen, keys: Keys) -> Option<Stage> {
        let chromium = chromium()?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let script = Script::new();
        let service = script.router(keys).into_make_service_with_connect_info::<SocketAddr>();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let base = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        runtime.spawn(async move { axum::serve(listener, service).await });
        Some(Stage { script, page: Page::open(&chromium, screen), base, _runtime: runtime })
    }

    fn open(&mut self, path: &str) {
        self.page.goto(&format!("{}{path}", self.base));
    }

    fn nap(&self) {
        self.script.tip(tip(
            "one",
            NAP,
            "If you can lie down somewhere, set an alarm for ten minutes and close your eyes. Resting without \
             sleeping counts too.",
            "Set the alarm",
            "You slept 5 h 10 min last night; after a short night even ten minutes can help.",
        ));
    }

    fn eyes(&self) {
        self.script.tip(tip("two", EYES, "Rest them on the farthest thing you can see.", "", ""));
    }
}

const NAP: &str = "A nap of ten minutes";
const EYES: &str = "Let your eyes go far";

#[test]
fn fingers_on_a_phone() {
    let Some(mut stage) = Stage::set(PHONE, Keys::open()) else { return };
    stage.nap();
    stage.open("/?user=ada");
    stage.page.shows_tip(NAP);
    stage.page.picture("phone-tip.png");
    let small = stage.page.eval(
        "[...document.querySelectorAll('button, input')].filter((e) => e.checkVisibility()).map((e) => [e.id, \
         e.getBoundingClientRect()]).filter(([, r]) => r.width < 44 || r.height < 44).map(([id]) => id).join()",
    );
    assert_eq!(small, "", "targets smaller than a fingertip");
    let fits = stage.page.eval("document.documentElement.scrollWidth <= innerWidth");
    assert_eq!(fits, true, "nothing hangs over the edge");
    assert_eq!(stage.page.eval("document.documentElement.scrollHeight <= innerHeight"), true);

    // A small pull says where it leans and, let go, changes nothing.
    stage.page.swipe("card", (60.0, 4.0), false);
    assert_eq!(stage.page.text("leaning"), "Set the alarm");
    stage.page.picture("phone-leaning.png");
    stage.page.touch("touchMove", Some((200.0, 300.0)));
    stage.page.touch("touchCancel", None);
    stage.page.shows("tip");
    assert!(stage.script.reactions().is_empty());

    stage.eyes();
    stage.page.swipe("card", (-170.0, 10.0), true);
    stage.page.shows_tip(EYES);
    stage.page.swipe("card", (8.0, -170.0), true);
    stage.page.shows("after");
    assert_eq!(stage.page.text("after-title"), "Later, then.");

    stage.nap();
    stage.page.click("another");
    stage.page.shows_tip(NAP);
    stage.page.swipe("card", (170.0, -12.0), true);
    stage.page.shows("after");
    stage.page.settled();
    stage.page.picture("phone-accepted.png");
    stage.page.click("done");
    stage.page.until("document.getElementById('after-title').textContent === 'Well done.'");

    let told = stage.script.reactions();
    let told: Vec<_> = told.iter().map(|(i, r)| (i.as_str(), *r)).collect();
    let expected = [
        ("one", Reaction::Dismissed),
        ("two", Reaction::Snoozed),
        ("one", Reaction::Accepted),
        ("one", Reaction::Done),
    ];
    assert_eq!(told, expected);
    let asked = stage.script.asked.lock().unwrap()[0].clone();
    assert_eq!((asked.user.as_str(), asked.channel.as_deref()), ("ada", Some("web")));
    assert_eq!(stage.page.complaints(), Vec::<String>::new());
}

#[test]
fn keys_and_buttons_on_a_desk() {
    let Some(mut stage) = Stage::set(DESKTOP, Keys::open()) else { return };
    stage.nap();
    stage.open("/?user=ada");
    stage.page.shows_tip(NAP);
    stage.page.picture("desktop-tip.png");
    for (key, reaction) in [
        ("ArrowLeft", Reaction::Dismissed),
        ("Delete", Reaction::Dismissed),
        ("s", Reaction::Snoozed),
        ("ArrowUp", Reaction::Snoozed),
        ("Enter", Reaction::Accepted),
        ("ArrowRight", Reaction::Accepted),
    ] {
        stage.script.reactions.lock().unwrap().clear();
        stage.eyes();
        stage.page.press(key);
        if reaction == Reaction::Dismissed {
            stage.page.shows_tip(EYES);
        } else {
            stage.page.shows("after");
        }
        assert_eq!(stage.script.reactions().iter().map(|(_, r)| *r).collect::<Vec<_>>(), [reaction], "{key}");
        if reaction != Reaction::Dismissed {
            stage.page.click("another");
            stage.page.shows_tip(EYES);
        }
        stage.nap();
        stage.page.click("dismiss");
        stage.page.shows_tip(NAP);
    }

    // A key held down, or pressed twice in a hurry, answers one tip only.
    stage.script.reactions.lock().unwrap().clear();
    stage.eyes();
    stage.page.press("Delete");
    stage.page.press("Delete");
    stage.page.shows_tip(EYES);
    assert_eq!(stage.script.reactions().len(), 1);

    // Enter on a button is that button's, not the page's.
    stage.script.reactions.lock().unwrap().clear();
    stage.page.eval("document.getElementById('snooze').focus()");
    stage.page.press("Enter");
    stage.page.shows("after");
    assert_eq!(stage.script.reactions(), [("two".to_owned(), Reaction::Snoozed)]);
    assert_eq!(stage.page.complaints(), Vec::<String>::new());
}

#[test]
fn what_a_screen_reader_hears() {
    let Some(mut stage) = Stage::set(DESKTOP, Keys::open()) else { return };
    stage.nap();
    stage.open("/?user=ada");
    stage.page.shows_tip(NAP);
    let tree = stage.page.accessible();
    let has = |role: &str, name: &str| tree.iter().any(|(r, n)| r == role && n == name);
    assert!(has("main", ""), "{tree:?}");
    assert!(has("banner", ""), "{tree:?}");
    assert!(has("heading", NAP), "{tree:?}");
    assert!(has("region", "Your tip"), "{tree:?}");
    for button in ["Not for me", "Later", "Set the alarm"] {
        assert!(has("button", button), "{tree:?}");
    }
    let nameless = tree
        .iter()
        .filter(|(role, name)| name.is_empty() && ["button", "link", "textbox"].contains(&role.as_str()));
    assert_eq!(nameless.count(), 0, "{tree:?}");
    assert_eq!(tree.iter().filter(|(role, _)| role == "heading").count(), 1, "one heading at a time");
    stage.page.until("document.getElementById('announce').textContent.startsWith('New tip. A nap')");
    assert_eq!(stage.page.eval("document.activeElement.id"), "card", "the focus follows the tip");

    // From there Tab walks the answers in the order in which they are read, each visibly focused.
    for id in ["dismiss", "snooze", "accept"] {
        stage.page.press("Tab");
        assert_eq!(stage.page.eval("document.activeElement.id"), id);
        let outline = stage.page.eval("getComputedStyle(document.activeElement).outlineWidth");
        assert_eq!(outline, "2px");
    }
    stage.page.picture("desktop-focus.png");

    let pale = stage.page.eval(CONTRAST);
    assert_eq!(pale, "", "text paler than WCAG AA");
    stage.page.press("Enter");
    stage.page.shows("after");
    assert_eq!(stage.page.eval("document.activeElement.id"), "after-title");
    stage.page.until("document.getElementById('announce').textContent.startsWith('One thing')");
    stage.page.settled();
    let pale = stage.page.eval(CONTRAST);
    assert_eq!(pale, "", "text paler than WCAG AA");

    // With less motion asked for, nothing moves at all.
    let still = serde_json::json!({"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]});
    stage.page.call("Emulation.setEmulatedMedia", still);
    stage.eyes();
    stage.page.click("another");
    stage.page.shows_tip(EYES);
    assert_eq!(stage.page.eval("document.getAnimations().length"), 0);
    stage.page.press("ArrowLeft");
    stage.page.shows("silence");
    assert_eq!(stage.page.eval("document.getAnimations().length"), 0);
    assert_eq!(stage.page.complaints(), Vec::<String>::new());
}

/// Names the elements with visible text of their own whose contrast with what lies behind is under 4.5.
const CONTRAST: &str = "(() => {
    const light = (css) => {
        const [r, g, b] = css.match(/[\\d.]+/g).map(Number).map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (e) => {
        for (; e; e = e.parentElement) {
            const css = getComputedStyle(e).backgroundColor;
            if (!/^rgba.*, 0\\)$/.test(css)) return css;
        }
        return 'rgb(255, 255, 255)';
    };
    const own = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    return [...document.body.querySelectorAll('*')].filter((e) => own(e) && e.checkVisibility()).filter((e) => {
        if (e.closest('.visually-hidden, noscript, .leaning')) return false;
        const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05) < 4.5;
    }).map((e) => e.id || e.className || e.tagName).join();
})()";

#[test]
fn silence_trouble_and_a_broken_network() {
    let Some(mut stage) = Stage::set(PHONE, Keys::open()) else { return };
    stage.open("/?user=ada");
    stage.page.shows("silence");
    stage.page.settled();
    stage.page.picture("phone-silence.png");
    assert_eq!(stage.page.complaints(), Vec::<String>::new());

    // Words of a tip are words, whatever they contain.
    stage.script.tip(tip(
        "markup",
        "<b>Bold</b> & <img src=x onerror=alert(1)>",
        "x".repeat(400).as_str(),
        "",
        "",
    ));
    stage.page.click("again");
    stage.page.shows_tip("<b>Bold</b> & <img src=x onerror=alert(1)>");
    assert_eq!(stage.page.eval("document.querySelectorAll('#tip img, #tip b').length"), 0);
    assert_eq!(stage.page.eval("document.documentElement.scrollWidth <= innerWidth"), true);
    assert_eq!(stage.page.eval("document.getElementById('why').hidden"), true);
    assert_eq!(stage.page.text("action"), "I’ll do it");

    // An answer given without a network is kept and sent later.
    stage.page.until("navigator.serviceWorker.controller");
    stage.page.offline(true);
    stage.page.click("accept");
    stage.page.shows("after");
    assert!(stage.page.text("note").contains("kept on this device"));
    assert!(stage.script.reactions().is_empty());
    stage.page.click("another");
    stage.page.shows("trouble");
    assert_eq!(stage.page.text("trouble-title"), "You seem to be offline.");
    stage.page.settled();
    stage.page.picture("phone-offline.png");

    stage.nap();
    stage.page.offline(false);
    stage.page.shows_tip(NAP);
    assert_eq!(stage.script.reactions(), [("markup".to_owned(), Reaction::Accepted)]);
    assert_eq!(stage.page.eval("localStorage.getItem('kairos.unsent')"), serde_json::Value::Null);

    // The server's own words come through.
    stage.script.fail(ApiError::Unavailable("the policy is still being read".into()));
    stage.page.click("dismiss");
    stage.page.shows("trouble");
    assert!(stage.page.text("trouble-text").contains("the policy is still being read"));
    // It comes back by itself after what `Retry-After` says.
    stage.eyes();
    stage.page.shows_tip(EYES);
}

#[test]
fn a_name_and_a_key() {
    let secret = "a-secret-of-more-than-24-characters";
    let mut keys = Keys::open();
    keys.add_secret("page", secret, &[Scope::Recommend], None).unwrap();
    let Some(mut stage) = Stage::set(PHONE, keys) else { return };
    stage.open("/");
    stage.page.shows("welcome");
    stage.page.settled();
    stage.page.picture("phone-welcome.png");
    assert_eq!(stage.page.eval("document.activeElement.id"), "user");
    stage.page.press("Enter");
    stage.page.until("document.getElementById('welcome-problem').textContent.includes('A name is needed')");
    stage.page.type_text("ada");
    stage.page.press("Enter");

    // The server wants a key: the page says so and asks for it.
    stage.page.until("document.getElementById('welcome-title').textContent === 'May I see your key?'");
    stage.page.settled();
    stage.page.picture("phone-key.png");
    assert_eq!(stage.page.eval("document.activeElement.id"), "key");
    stage.page.type_text("not-the-key-but-long-enough-to-be-one");
    stage.page.press("Enter");
    stage.page.until("document.getElementById('welcome-problem').textContent.includes('not accepted')");

    // From the link it is taken at once, and leaves the address bar.
    stage.nap();
    stage.open(&format!("/?user=ada#key={secret}"));
    stage.page.shows_tip(NAP);
    assert_eq!(stage.page.eval("location.hash + location.search"), "?user=ada");

    // Both are remembered for the next visit, which needs no parameters.
    stage.eyes();
    stage.open("/");
    stage.page.shows_tip(EYES);
    assert_eq!(stage.page.text("who"), "for ada");
    assert!(stage.script.asked.lock().unwrap().iter().all(|a| a.user == "ada"));

    // It may be installed: the browser finds nothing wrong with the manifest.
    let manifest = stage.page.call("Page.getAppManifest", serde_json::json!({}));
    assert_eq!(manifest["errors"], serde_json::json!([]), "{manifest}");
    let errors = stage.page.call("Page.getInstallabilityErrors", serde_json::json!({}));
    assert_eq!(errors["installabilityErrors"], serde_json::json!([]), "{errors}");
}
