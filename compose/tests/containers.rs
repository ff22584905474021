//! The container files: they parse, what they name exists, and the settings they give are settings.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Value, json};
use support::{kairos, run};

fn compose_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn yaml(path: &Path) -> Value {
    let text = read(path);
    let documents = Yaml::load_from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(documents.len(), 1, "{}", path.display());
    as_json(&documents[0])
}

fn as_json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(b)) => json!(b),
        Yaml::Value(Scalar::Integer(i)) => json!(i),
        Yaml::Value(Scalar::FloatingPoint(f)) => json!(f.into_inner()),
        Yaml::Value(Scalar::String(s)) => json!(s),
        Yaml::Sequence(items) => items.iter().map(as_json).collect(),
        Yaml::Mapping(entries) => {
            entries.iter().map(|(name, value)| (name.as_str().unwrap().to_owned(), as_json(value))).collect()
        }
        other => panic!("nothing of ours uses {other:?}"),
    }
}

fn compose_file() -> Value {
    merged(yaml(&compose_dir().join("docker-compose.yml")))
}

/// With the keys of `<<` put beside those that stand there themselves.
fn merged(value: Value) -> Value {
    match value {
        Value::Object(mut map) => {
            let mut base = match map.remove("<<").map(merged) {
                Some(Value::Object(base)) => base,
                None => serde_json::Map::new(),
                other => panic!("only one mapping is merged, not {other:?}"),
            };
            base.extend(map.into_iter().map(|(name, value)| (name, merged(value))));
            Value::Object(base)
        }
        Value::Array(items) => items.into_iter().map(merged).collect(),
        other => other,
    }
}

const PROFILES: [&str; 5] = ["core", "distributed", "observe", "ai", "stream"];

fn services(file: &Value) -> impl Iterator<Item = (&String, &Value)> {
    file["services"].as_object().unwrap().iter()
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The first of these programs that runs.
fn compose_program() -> Option<Command> {
    [vec!["docker", "compose"], vec!["docker-compose"]].into_iter().find_map(|words| {
        let made = || {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            command
        };
        made().arg("version").output().is_ok_and(|o| o.status.success()).then(made)
    })
}

#[test]
fn the_schema_is_met_in_every_profile() {
    let Some(_) = compose_program() else {
        println!("skipped: no docker compose");
        assert!(std::env::var_os("KAIROS_TEST_REQUIRE").is_none(), "docker compose is required here");
        return;
    };
    for profile in PROFILES {
        let mut command = compose_program().unwrap();
        command.arg("-f").arg(compose_dir().join("docker-compose.yml"));
        let (status, _, why) = run(command.args(["--profile", profile, "config", "--quiet"]));
        assert!(status.success() && !why.contains("variable is not set"), "{profile}: {why}");
    }
}

#[test]
fn every_service_belongs_to_a_profile_and_needs_what_is_in_it() {
    let file = compose_file();
    for (name, service) in services(&file) {
        let profiles: Vec<&str> = texts(&service["profiles"]).collect();
        assert!(
            !profiles.is_empty() && profiles.iter().all(|p| PROFILES.contains(p)),
            "{name}: {profiles:?}"
        );
        for needed in texts(&service["depends_on"]) {
            let theirs: Vec<&str> = texts(&file["services"][needed]["profiles"]).collect();
            assert!(
                profiles.iter().all(|p| theirs.contains(p)),
                "{name} in {profiles:?} needs {needed} in {theirs:?}"
            );
        }
    }
    for profile in PROFILES {
        let has = services(&file).any(|(_, s)| texts(&s["profiles"]).any(|p| p == profile));
        assert!(has, "nothing is in {profile}");
    }
}

#[test]
fn the_roles_apart_are_all_roles_and_each_is_scraped() {
    let file = compose_file();
    let scraped = yaml(&compose_dir().join("../dashboards/prometheus/prometheus.yml"));
    let scraped: Vec<&str> = texts(&scraped["scrape_configs"][0]["dns_sd_configs"][0]["names"]).collect();
    let mut roles = Vec::new();
    for (name, service) in services(&file).filter(|(_, s)| s["image"] == "kairos:local") {
        roles.extend(texts(&service["command"]).skip(1));
        assert!(scraped.contains(&name.as_str()), "{name} is not in {scraped:?}");
    }
    let (_, help, _) = run(kairos().args(["run", "--help"]));
    let help = help.split("Options:").next().unwrap();
    for role in &roles {
        assert!(help.contains(&format!("- {role}:")), "{role} is no role:\n{help}");
    }
    assert_eq!(
        roles.len(),
        help.lines().filter(|l| l.trim_start().starts_with("- ")).count(),
        "{roles:?}\n{help}"
    );
}

#[test]
fn every_file_named_exists() {
    let file = compose_file();
    let dir = compose_dir();
    for (name, service) in services(&file) {
        if let Some(build) = service.get("build") {
            let context = dir.join(build["context"].as_str().unwrap());
            let dockerfile = context.join(build["dockerfile"].as_str().unwrap());
            assert!(dockerfile.is_file(), "{name}: {}", dockerfile.display());
        }
        let mut mounts = 0;
        for volume in texts(&service["volumes"]) {
            mounts += 1;
            let source = volume.split(':').next().unwrap();
            let known = match source.starts_with('.') {
                true => dir.join(source).exists(),
                false => file["volumes"].as_object().unwrap().contains_key(source),
            };
            assert!(known, "{name}: there is no {source}");
        }
        assert!(mounts > 0, "{name} keeps nothing");
    }
}

#[test]
fn every_service_is_healthy_limited_pinned_and_unprivileged() {
    for (name, service) in services(&compose_file()) {
        assert!(service["healthcheck"]["test"].is_array(), "{name}: health check");
        assert!(service["deploy"]["resources"]["limits"]["memory"].is_string(), "{name}: memory limit");
        assert!(service["deploy"]["resources"]["limits"]["cpus"].is_string(), "{name}: cpu limit");
        assert!(service["restart"].is_string(), "{name}: restart");
        assert_eq!(service["cap_drop"][0], "ALL", "{name}");
        let user = service["user"].as_str().map(|u| u.split(':').next().unwrap());
        let ours = service["image"] == "kairos:local";
        assert!(user.map_or(ours, |u| u != "0" && u != "root"), "{name}: runs as root");
        let tag = service["image"].as_str().and_then(|i| i.rsplit_once(':')).map(|(_, tag)| tag);
        assert!(tag.is_some_and(|t| t != "latest"), "{name}: the image has no version");
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port} is open to everybody");
        }
    }
}

#[test]
fn secrets_are_files_that_stay_out_of_git_and_of_images() {
    let file = compose_file();
    for (name, secret) in file["secrets"].as_object().unwrap() {
        let path = secret["file"].as_str().unwrap();
        assert!(path.starts_with("./secrets/"), "{name}: {path}");
    }
    let top = compose_dir().join("..");
    for ignore in [".gitignore", ".dockerignore"] {
        let lines = read(&top.join(ignore));
        let ignored = lines.lines().any(|l| l.trim_matches('/') == "compose/secrets");
        assert!(ignored, "{ignore} must name compose/secrets");
    }
    for (name, service) in services(&file) {
        for (setting, value) in service["environment"].as_object().into_iter().flatten() {
            let secret = ["PASSWORD", "TOKEN", "SECRET"].iter().any(|s| setting.contains(s));
            let by_file = setting.ends_with("_FILE") && value.as_str().unwrap().starts_with("/run/secrets/");
            assert!(!secret || by_file, "{name}: {setting} stands in the open");
        }
        let declared = file["secrets"].as_object().unwrap();
        for secret in service["secrets"].as_array().into_iter().flatten() {
            let source = secret.as_str().or(secret["source"].as_str()).unwrap();
            assert!(declared.contains_key(source), "{name}: secret {source}");
        }
    }
}

/// What the image and the compose file set for the program.
fn environment(service: &str) -> Vec<(String, String)> {
    let image = read(&compose_dir().join("Dockerfile"));
    let mut all: Vec<(String, String)> = image
        .lines()
        .filter_map(|l| l.strip_prefix("ENV ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let file = compose_file();
    for (name, value) in file["services"][service]["environment"].as_object().unwrap() {
        all.push((name.clone(), value.as_str().unwrap().to_owned()));
    }
    all
}

#[test]
fn the_program_accepts_the_settings_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys.toml");
    let mut with_settings = Vec::new();
    for (name, value) in environment("kairos") {
        let value = match name.as_str() {
            "KAIROS__DATA__DIR" => dir.path().join("data").display().to_string(),
            "KAIROS__AUTH__KEYS_FILE" => keys.display().to_string(),
            _ => value,
        };
        with_settings.push((name, value));
    }
    assert!(with_settings.len() >= 4);
    let command = |arguments: &[&str]| {
        let mut command = kairos();
        command.current_dir(dir.path()).args(arguments).envs(with_settings.clone());
        run(&mut command)
    };
    // Reachable from outside, so without a key it must refuse.
    let (status, said, why) = command(&["check"]);
    assert!(!status.success(), "{said}{why}");
    let (status, secret, why) = command(&["keys", "new", "phone", "--scope", "ingest"]);
    assert!(status.success() && secret.trim().len() >= 32, "{why}");
    let (status, said, why) = command(&["check"]);
    assert!(status.success(), "{said}{why}");
}

#[test]
fn the_settings_of_roles_apart_are_settings() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "hush\n").unwrap();
    for role in ["ingest", "api", "stream", "score", "pipelines"] {
        let mut command = kairos();
        command.current_dir(dir.path()).args(["check", "--data"]).arg(dir.path().join("data"));
        for (name, value) in environment(role) {
            let value = match name.as_str() {
                "KAIROS__DATA__DIR" => continue,
                _ if name.ends_with("_FILE") => secret.display().to_string(),
                // Nobody answers there.
                _ => value
                    .replace("fluvio-sc", "127.0.0.1")
                    .replace("//redis", "//127.0.0.1")
                    .replace("clickhouse:8123", "127.0.0.1:1"),
            };
            command.env(name, value);
        }
        let (_, said, why) = run(&mut command);
        assert!(said.contains("ok    settings"), "{role}: {said}{why}");
    }
}

#[test]
fn the_image_is_built_with_the_pinned_toolchain_and_runs_as_nobody() {
    let image = read(&compose_dir().join("Dockerfile"));
    let toolchain = read(&compose_dir().join("../rust-toolchain.toml"));
    let channel = toolchain.lines().find_map(|l| l.strip_prefix("channel = ")).unwrap().trim_matches('"');
    let minor = channel.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    assert!(image.contains(&format!("FROM rust:{minor}-")), "rust-toolchain.toml says {channel}");
    let user = image.lines().rev().find_map(|l| l.strip_prefix("USER ")).unwrap();
    assert!(!user.starts_with('0') && !user.starts_with("root"), "{user}");
    assert!(image.contains("HEALTHCHECK") && image.contains("EXPOSE 8080"));
    // Whatever a workspace member needs to be built must get past .dockerignore.
    let ignore = read(&compose_dir().join("../.dockerignore"));
    let workspace = read(&compose_dir().join("../Cargo.toml"));
    let members = workspace.lines().find_map(|l| l.strip_prefix("members = ")).unwrap();
    for member in serde_json::from_str::<Vec<String>>(members).unwrap() {
        assert!(ignore.lines().any(|l| l == format!("!{member}")), ".dockerignore leaves out {member}");
    }
}

#[test]
fn grafana_finds_its_dashboards_and_its_source() {
    let top = compose_dir().join("../dashboards/grafana");
    let providers = yaml(&top.join("provisioning/dashboards/kairos.yml"));
    let path = providers["providers"][0]["options"]["path"].as_str().unwrap();
    let file = compose_file();
    let mounted = texts(&file["services"]["grafana"]["volumes"]).any(|v| v.contains(&format!(":{path}:")));
    assert!(mounted, "nothing is mounted at {path}");
    let sources = yaml(&top.join("provisioning/datasources/prometheus.yml"));
    assert_eq!(sources["datasources"][0]["url"], "http://prometheus:9090");
    assert!(file["services"].as_object().unwrap().contains_key("prometheus"));
}
