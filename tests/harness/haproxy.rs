//! A real haproxy: two Services behind one address, each with places for pods, all told over its runtime socket.

use std::fmt::Write as _;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::monitoring::{Running, program};

/// Places for pods of a Service.
pub(crate) const PLACES: usize = 12;

/// A running proxy.
pub(crate) struct Haproxy {
    running: Running,
    socket: PathBuf,
}

impl Haproxy {
    /// Starts one before these Services. The first has all of the traffic, and nobody has a pod.
    pub(crate) async fn before(services: &[&str]) -> Self {
        let program = program("haproxy").await;
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("control");
        let control = socket.clone();
        let command = |folder: &std::path::Path, host: &str| {
            // Nothing is tried twice: a request that is lost is seen.
            let mut text = format!(
                "global
  stats socket {} mode 600 level admin
  nbthread 1
defaults
  mode http
  retries 0
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend web
  bind {host}
  use_backend led if {{ hdr(x-tester),map_str({}) -m found }}
  default_backend be
backend led
  server led unix@{}
",
                control.display(),
                folder.join("led").display(),
                folder.join(services[services.len() - 1]).display()
            );
            std::fs::write(folder.join("led"), "").expect("written");
            for service in services {
                writeln!(text, "listen {service}\n  bind unix@{}", folder.join(service).display()).unwrap();
                for place in 0..PLACES {
                    writeln!(text, "  server pod-{place} 127.0.0.1:9 disabled").unwrap();
                }
            }
            text.push_str("backend be\n");
            for (number, service) in services.iter().enumerate() {
                let (path, weight) = (folder.join(service), if number == 0 { 100 } else { 0 });
                writeln!(text, "  server {service} unix@{} weight {weight}", path.display()).unwrap();
            }
            let file = folder.join("haproxy.cfg");
            std::fs::write(&file, text).expect("written");
            vec![program.display().to_string(), "-db".into(), "-f".into(), file.display().to_string()]
        };
        let running = Running::start(folder, command, &[]);
        let proxy = Self { running, socket };
        super::eventually("haproxy answers", || async { proxy.ask("show version").await.map(drop) }).await;
        proxy
    }

    /// `127.0.0.1:PORT` of its front.
    pub(crate) fn host(&self) -> &str {
        &self.running.host
    }

    async fn ask(&self, command: &str) -> Option<String> {
        let mut stream = tokio::net::UnixStream::connect(&self.socket).await.ok()?;
        stream.write_all(format!("{command}\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer.trim().to_owned())
    }

    async fn tell(&self, command: &str) {
        let answer = self.ask(command).await.expect("haproxy answers");
        // Where an address changes it says from what, and where it does not it says so.
        let is_done = ["changed from", "no need to change"].iter().any(|word| answer.contains(word));
        assert!(answer.is_empty() || is_done, "{command}: {answer}");
    }

    /// How much of the traffic a Service gets, as haproxy says it.
    pub(crate) async fn weight(&self, service: &str) -> u32 {
        let answer = self.ask(&format!("get weight be/{service}")).await.expect("haproxy answers");
        answer.split(' ').next().and_then(|word| word.parse().ok()).expect("a weight")
    }

    /// Sets how much of the traffic a Service gets.
    pub(crate) async fn weigh(&self, service: &str, weight: u32) {
        self.tell(&format!("set weight be/{service} {weight}")).await;
    }

    /// Requests that name this tester go to the last Service; all are told by weight where there is none.
    pub(crate) async fn lead(&self, tester: Option<&str>) {
        let map = self.socket.with_file_name("led");
        self.tell(&format!("clear map {}", map.display())).await;
        if let Some(tester) = tester {
            self.tell(&format!("add map {} {tester} led", map.display())).await;
        }
        let known = self.ask(&format!("show map {}", map.display())).await.expect("haproxy answers");
        assert_eq!(known.is_empty(), tester.is_none(), "{known}");
    }

    /// A place of a Service gets a pod.
    pub(crate) async fn place(&self, service: &str, place: usize, port: u16) {
        self.tell(&format!("set server {service}/pod-{place} addr 127.0.0.1 port {port}")).await;
        self.tell(&format!("set server {service}/pod-{place} state ready")).await;
    }

    /// A place gets nothing new.
    pub(crate) async fn vacate(&self, service: &str, place: usize) {
        self.tell(&format!("set server {service}/pod-{place} state maint")).await;
    }
}
