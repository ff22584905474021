//! A strict stand-in for Arroyo's REST interface: it takes the calls of `arroyo::client` in exactly the documented
//! form and answers as Arroyo 0.16 does; anything else is a failure of the test.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value as Json, json};

/// What goes wrong with the next call of this method and begin of a path.
#[derive(Debug, Clone)]
pub struct Fault {
    pub method: &'static str,
    pub path: String,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    Status(u16, String),
    Stall(Duration),
    Hangup,
    Body(String),
}

#[derive(Debug, Default)]
pub struct State {
    pub pipelines: Vec<Pipeline>,
    /// Method and path of every call.
    pub calls: Vec<String>,
    pub faults: Vec<Fault>,
    pub key: Option<String>,
    /// Looks at the jobs of a pipeline until a stop is done.
    pub stop_takes: u32,
    /// What validation has against every text.
    pub against: Option<Json>,
    /// Calls that Arroyo would not understand.
    pub wrong: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Pipeline {
    pub id: String,
    pub body: Json,
    pub stop: String,
    pub state: String,
    pub stopping: u32,
    pub parallelism: u64,
    pub restarts: u32,
}

pub struct Arroyo {
    pub state: Arc<Mutex<State>>,
    pub url: String,
}

impl Arroyo {
    pub fn start() -> Arroyo {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { stop_takes: 2, ..State::default() }));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                thread::spawn(move || serve(stream, &state));
            }
        });
        Arroyo { state, url }
    }

    pub fn fault(&self, method: &'static str, path: &str, what: What) {
        self.state.lock().unwrap().faults.push(Fault { method, path: path.into(), what });
    }

    /// The calls since the last time, without those that only look.
    pub fn changes(&self) -> Vec<String> {
        let mut state = self.state.lock().unwrap();
        assert_eq!(state.wrong, Vec::<String>::new());
        std::mem::take(&mut state.calls).into_iter().filter(|c| !c.starts_with("GET")).collect()
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap_or_default().to_owned());
    let (mut length, mut json_type, mut key) = (0, false, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "content-type" => json_type = value == "application/json",
            "authorization" => key = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let text = String::from_utf8(body).unwrap();
    let Some(path) = target.strip_prefix("/api/v1") else {
        state.lock().unwrap().wrong.push(format!("{method} {target}: outside of the API"));
        return;
    };
    let fault = {
        let mut state = state.lock().unwrap();
        state.calls.push(format!("{method} {path}"));
        let place = state.faults.iter().position(|f| f.method == method && path.starts_with(&f.path));
        place.map(|p| state.faults.remove(p).what)
    };
    let (status, answer) = match fault {
        Some(What::Hangup) => return,
        Some(What::Stall(long)) => return thread::sleep(long),
        Some(What::Status(status, body)) => (status, body),
        Some(What::Body(body)) => (200, body),
        None => {
            let mut state = state.lock().unwrap();
            let body = (!text.is_empty()).then(|| serde_json::from_str(&text).unwrap());
            if body.is_some() && !json_type {
                state.wrong.push(format!("{method} {path}: a body that is not said to be JSON"));
            }
            let answer = if state.key == key {
                answer(&mut state, &method, path, body)
            } else {
                Err((401, "unauthorized".into()))
            };
            match answer {
                Ok(answer) => (200, answer.to_string()),
                Err((status, why)) => (status, json!({"error": why}).to_string()),
            }
        }
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    // The client may have given up.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.as_bytes()));
}

type Answer = Result<Json, (u16, String)>;

fn answer(state: &mut State, method: &str, path: &str, body: Option<Json>) -> Answer {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let body = body.unwrap_or(Json::Null);
    match (method, &parts[..]) {
        ("GET", ["ping"]) => Ok(json!("Pong")),
        ("POST", ["pipelines", "validate_query"]) => {
            only(state, &body, &["query", "udfs"]);
            let errors = state.against.clone().unwrap_or_else(|| json!([]));
            Ok(json!({"graph": null, "errors": errors}))
        }
        ("GET", ["pipelines"]) => Ok(page(state, query)),
        ("PUT", ["pipelines", id]) => {
            only(state, &body, &["name", "query", "udfs", "parallelism", "checkpoint_interval_micros"]);
            if state.pipelines.iter().any(|p| p.id == *id) {
                return Err((400, "A record already exists with that name or id".into()));
            }
            let parallelism = body["parallelism"].as_u64().unwrap();
            let p = Pipeline {
                id: (*id).into(),
                body,
                stop: "none".into(),
                state: "Running".into(),
                stopping: 0,
                parallelism,
                restarts: 0,
            };
            state.pipelines.push(p.clone());
            Ok(shown(&p, 0))
        }
        (_, ["pipelines", id, rest @ ..]) => {
            let takes = state.stop_takes;
            let Some(at) = state.pipelines.iter().position(|p| p.id == *id) else {
                return Err((404, "Pipeline not found".into()));
            };
            if method == "PATCH" {
                only_some(state, &body, &["stop", "parallelism", "checkpoint_interval_micros"]);
            }
            let p = &mut state.pipelines[at];
            match (method, rest) {
                ("PATCH", []) => {
                    if let Some(stop) = body["stop"].as_str() {
                        p.stop = stop.into();
                        if stop == "none" {
                            p.state = "Running".into();
                        } else {
                            p.stopping = takes;
                        }
                    }
                    p.parallelism = body["parallelism"].as_u64().unwrap_or(p.parallelism);
                    Ok(shown(p, at))
                }
                ("POST", ["restart"]) => {
                    p.restarts += 1;
                    p.state = "Running".into();
                    Ok(shown(p, at))
                }
                ("GET", ["jobs"]) => {
                    if p.stop != "none" && p.state == "Running" {
                        match p.stopping {
                            0 => p.state = "Stopped".into(),
                            _ => p.stopping -= 1,
                        }
                    }
                    let failure = (p.state == "Failed")
                        .then(|| json!({"error": "the worker is gone", "domain": "internal"}));
                    Ok(
                        json!({"data": [{"id": format!("job_{id}"), "pipeline_id": id, "running_desired": p.stop == "none",
                        "state": p.state, "run_id": 1, "start_time": 1, "finish_time": null, "tasks": 8,
                        "failure_reason": failure, "created_at": 1, "scheduler_config": {}, "env_vars": {}}]}),
                    )
                }
                ("GET", ["jobs", _, "errors"]) => Ok(json!({"has_more": false, "data": [
                    {"id": "1", "created_at": 5, "operator_id": null, "task_index": null, "level": "error",
                     "message": "a worker was lost", "details": "", "error_domain": null}]})),
                ("GET", ["jobs", _, "checkpoints"]) => Ok(json!({"data": [
                    {"epoch": 3, "backend": "parquet", "checkpoint_type": "scheduled", "start_time": 1, "finish_time": 1_772_350_200_000_000_u64, "events": []},
                    {"epoch": 4, "backend": "parquet", "checkpoint_type": "scheduled", "start_time": 9, "finish_time": null, "events": []}]})),
                _ => Err(unknown(state, method, path)),
            }
        }
        _ => Err(unknown(state, method, path)),
    }
}

fn unknown(state: &mut State, method: &str, path: &str) -> (u16, String) {
    state.wrong.push(format!("{method} {path}: no such call"));
    (404, "Not found".into())
}

/// The body has these members and no others.
fn only(state: &mut State, body: &Json, names: &[&str]) {
    only_some(state, body, names);
    if names.iter().any(|n| body[n].is_null()) {
        state.wrong.push(format!("a member of {names:?} is missing in {body}"));
    }
    let right = |u: &Json| {
        u["language"] == "rust" && u["definition"].is_string() && u.as_object().unwrap().len() == 2
    };
    if !body["udfs"].as_array().is_some_and(|udfs| udfs.iter().all(right)) {
        state.wrong.push(format!("functions that are none in {body}"));
    }
}

fn only_some(state: &mut State, body: &Json, names: &[&str]) {
    let members = body.as_object().cloned().unwrap_or_default();
    if members.is_empty() || members.keys().any(|k| !names.contains(&k.as_str())) {
        state.wrong.push(format!("a body of other members than {names:?}: {body}"));
    }
}

/// At most two pipelines a page, so that pages are read.
fn page(state: &mut State, query: &str) -> Json {
    let mut after = None;
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("limit", n)) if n.parse::<u32>().is_ok_and(|n| n > 0) => {}
            Some(("starting_after", id)) => after = Some(id.to_owned()),
            _ => state.wrong.push(format!("?{query}")),
        }
    }
    let from = after.map_or(0, |id| state.pipelines.iter().position(|p| p.id == id).unwrap() + 1);
    let shown: Vec<Json> =
        state.pipelines.iter().enumerate().skip(from).take(2).map(|(i, p)| shown(p, i)).collect();
    json!({"has_more": from + shown.len() < state.pipelines.len(), "data": shown})
}

fn shown(p: &Pipeline, number: usize) -> Json {
    let node =
        |n: u64| json!({"node_id": n, "operator": "o", "description": "", "parallelism": p.parallelism});
    json!({"id": p.id, "name": p.body["name"], "query": p.body["query"], "udfs": p.body["udfs"],
        "checkpoint_interval_micros": p.body["checkpoint_interval_micros"], "stop": p.stop, "created_at": number,
        "action": null, "action_text": "Stop", "action_in_progress": false,
        "graph": {"nodes": [node(1), node(2)], "edges": []}, "preview": false, "state_url": null, "tags": {}})
}
