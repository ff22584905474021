//! Certificates of an authority that is made for one test, by the program `openssl`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// PEM files in a directory that goes with them.
pub struct Certificates {
    dir: TempDir,
    /// The name they are for; names below it too.
    pub domain: &'static str,
}

impl Certificates {
    /// Makes them; `None`, and one visible line, without `openssl`.
    pub fn make() -> Option<Certificates> {
        let (dir, domain) = (tempfile::tempdir().unwrap(), "fluvio.test");
        let names = format!("subjectAltName=DNS:{domain},DNS:*.{domain}");
        std::fs::write(dir.path().join("names"), names).unwrap();
        let authority = "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 \
                         -subj /CN=authority -keyout ca.key -out ca.pem";
        if !openssl(dir.path(), authority) {
            println!("skipped: no openssl");
            return None;
        }
        for whose in ["server", "client"] {
            let request = format!(
                "req -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN={domain} \
                 -keyout {whose}.key -out {whose}.csr"
            );
            let signed = format!(
                "x509 -req -in {whose}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names \
                 -out {whose}.pem"
            );
            assert!(
                openssl(dir.path(), &request) && openssl(dir.path(), &signed),
                "openssl makes no certificates"
            );
        }
        Some(Certificates { dir, domain })
    }

    /// The authority.
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Certificate and key of `server` or `client`.
    pub fn of(&self, whose: &str) -> (PathBuf, PathBuf) {
        (self.dir.path().join(format!("{whose}.pem")), self.dir.path().join(format!("{whose}.key")))
    }
}

fn openssl(dir: &Path, arguments: &str) -> bool {
    let mut command = Command::new("openssl");
    command.args(arguments.split_whitespace()).current_dir(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
