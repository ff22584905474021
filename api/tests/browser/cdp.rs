//! A real Chromium, driven over its DevTools pipe: JSON messages, each ended by a zero byte.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use base64::Engine as _;
use serde_json::{Value, json};

/// How long anything on the page may take; generous, since the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// The browser of this machine. Without one the test is skipped, loudly, unless `KAIROS_TEST_REQUIRE` is set.
pub fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("KAIROS_TEST_CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| {
        let dirs = std::env::split_paths(&path);
        let names = ["chromium", "chromium-browser", "google-chrome"];
        dirs.flat_map(|d| names.map(|n| d.join(n))).find(|p| p.is_file())
    });
    if found.is_none() {
        let message = "skipped: no chromium (install it or set KAIROS_TEST_CHROMIUM)";
        assert!(std::env::var_os("KAIROS_TEST_REQUIRE").is_none(), "{message}");
        // Not by `eprintln`, which the test harness hides when the test passes.
        let _ = writeln!(std::io::stderr(), "{message}");
    }
    found
}

/// How the page is looked at.
#[derive(Clone, Copy)]
pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub scale: f64,
    pub touch: bool,
}

pub const PHONE: Screen = Screen { width: 390, height: 844, scale: 2.0, touch: true };
pub const DESKTOP: Screen = Screen { width: 1280, height: 800, scale: 1.0, touch: false };

/// A headless browser believes in no pointing device; a desk has a mouse.
const MOUSE: &str =
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4";

/// One browser with one page.
pub struct Page {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Page {
    pub fn open(chromium: &PathBuf, screen: Screen) -> Page {
        let profile = tempfile::tempdir().unwrap();
        let flags = [
            "--headless=new",
            "--remote-debugging-pipe",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            "--lang=en-GB",
        ];
        // The browser listens on descriptor 3 and talks on 4; the shell puts our pipes there.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null"])
            .arg(chromium)
            .args(flags)
            .args((!screen.touch).then_some(MOUSE))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (send, from) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while out.read_until(0, &mut message).is_ok_and(|n| n > 0) {
                let value = serde_json::from_slice(message.strip_suffix(&[0]).unwrap_or(&message));
                if value.is_ok_and(|v| send.send(v).is_err()) {
                    break;
                }
                message.clear();
            }
        });
        let mut page =
            Page { child, to, from, session: None, last_id: 0, complaints: Vec::new(), _profile: profile };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = page.call("Target.attachToTarget", attach);
        page.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        let Screen { width, height, scale, touch } = screen;
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": touch});
        page.call("Emulation.setDeviceMetricsOverride", metrics);
        page.call("Emulation.setTouchEmulationEnabled", json!({"enabled": touch}));
        page
    }

    /// Sends a command and waits for its answer; events on the way are kept if they are complaints.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(message.to_string().as_bytes()).unwrap();
        self.to.write_all(&[0]).unwrap();
        loop {
            let said = self.from.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("{method}: {e}"));
            if said["id"] == json!(id) {
                assert!(said.get("error").is_none(), "{method}: {}", said["error"]);
                return said["result"].clone();
            }
            self.note(&said);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                self.complaints.push(params["args"].to_string());
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.complaints.push(params["entry"].to_string());
            }
            _ => {}
        }
    }

    /// Errors the page logged since the last call.
    pub fn complaints(&mut self) -> Vec<String> {
        self.eval("1"); // whatever was logged before has arrived when this answers
        std::mem::take(&mut self.complaints)
    }

    pub fn goto(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
    }

    /// The value of a JavaScript expression; promises are awaited.
    pub fn eval(&mut self, expression: &str) -> Value {
        let ask = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", ask);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    pub fn text(&mut self, id: &str) -> String {
        let value = self.eval(&format!("document.getElementById('{id}')?.textContent ?? ''"));
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a JavaScript expression is true.
    pub fn until(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.eval(&format!("Boolean({expression})")) != json!(true) {
            if Instant::now() > deadline {
                let seen = self.eval("document.body.innerText");
                panic!(
                    "never true: {expression}\nthe page says: {seen}\nits complaints: {:?}",
                    self.complaints
                );
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Waits until the page shows this view.
    pub fn shows(&mut self, view: &str) {
        self.until(&format!("document.getElementById('main')?.dataset.view === '{view}'"));
    }

    /// Waits until the tip on the page has this title, and its fade is over.
    pub fn shows_tip(&mut self, title: &str) {
        self.shows("tip");
        self.until(&format!("document.getElementById('title').textContent === {}", json!(title)));
        self.settled();
    }

    /// Waits until nothing moves but what moves for ever.
    pub fn settled(&mut self) {
        self.until(
            "document.getAnimations().every((a) => a.playState !== 'running' || \
             a.effect.getTiming().iterations === Infinity)",
        );
    }

    /// Presses and releases a key by its DOM name.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Tab" => 9,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "Delete" => 46,
            other => u32::from(other.to_ascii_uppercase().as_bytes()[0]),
        };
        let mut down = json!({"type": "keyDown", "key": key, "windowsVirtualKeyCode": code});
        match key {
            "Enter" => down["text"] = json!("\r"),
            letter if letter.len() == 1 => down["text"] = json!(letter),
            _ => {}
        }
        self.call("Input.dispatchKeyEvent", down);
        self.call(
            "Input.dispatchKeyEvent",
            json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code}),
        );
    }

    /// Types text into whatever has the focus.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Clicks the middle of the element with the mouse.
    pub fn click(&mut self, id: &str) {
        let (x, y) = self.middle(id);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Puts a finger on the middle of the element, moves it, and lifts it if `lift`.
    pub fn swipe(&mut self, id: &str, by: (f64, f64), lift: bool) {
        let (x, y) = self.middle(id);
        self.touch("touchStart", Some((x, y)));
        for step in 1..=8 {
            let share = f64::from(step) / 8.0;
            self.touch("touchMove", Some((x + by.0 * share, y + by.1 * share)));
            std::thread::sleep(Duration::from_millis(16));
        }
        if lift {
            self.touch("touchEnd", None);
        }
    }

    pub fn touch(&mut self, kind: &str, at: Option<(f64, f64)>) {
        let points: Vec<Value> = at.iter().map(|(x, y)| json!({"x": x, "y": y})).collect();
        self.call("Input.dispatchTouchEvent", json!({"type": kind, "touchPoints": points}));
    }

    fn middle(&mut self, id: &str) -> (f64, f64) {
        let at = self.eval(&format!(
            "(() => {{ const r = document.getElementById('{id}').getBoundingClientRect(); \
             return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        (at[0].as_f64().unwrap(), at[1].as_f64().unwrap())
    }

    /// Cuts or mends the page's network.
    pub fn offline(&mut self, offline: bool) {
        let rule =
            json!({"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        self.call("Network.emulateNetworkConditions", rule);
    }

    /// What assistive technology is told: (role, name) of every node that is not ignored.
    pub fn accessible(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"].as_array().unwrap();
        let text = |v: &Value| v["value"].as_str().unwrap_or_default().to_owned();
        nodes
            .iter()
            .filter(|n| n["ignored"] != json!(true))
            .map(|n| (text(&n["role"]), text(&n["name"])))
            .collect()
    }

    /// Keeps a picture of the page when `KAIROS_TEST_SCREENSHOTS` names a directory.
    pub fn picture(&mut self, name: &str) {
        let Some(dir) = std::env::var_os("KAIROS_TEST_SCREENSHOTS").map(PathBuf::from) else { return };
        let shot = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let png = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(dir.join(name), png).unwrap();
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // Closing lets it end its own children; killing is for when it does not.
        let _ = self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
