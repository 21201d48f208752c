//! Charts and artifacts: unpacked once, kept as Git objects in the cache. So they are read, shared and told apart as
//! commits are, and take no memory between two renders, however many applications share one.

use super::client::{Client, blocking};
use super::revision::Pinned;
use super::unpacked::write;
use crate::error::{Code, Error, Result};
use crate::render::archive::{self, Unpacked};
use crate::source::{Credentials, Location, Snapshot};

/// Artifacts that a repository of the cache may gather before it is begun anew.
const MAX_ARTIFACTS: usize = 100;

/// What came, and what is said about it.
struct Arrived {
    archive: Vec<u8>,
    /// Files are below a folder of the chart's name.
    is_chart: bool,
    author: String,
    subject: String,
    time: i64,
}

impl Client {
    /// Brings a chart or artifact to this machine; nothing is sent when it is here already.
    pub(super) async fn fetch_artifact(
        &self,
        location: &Location,
        commit: &str,
        credentials: &Credentials,
    ) -> Result<Snapshot> {
        let pinned = Pinned::parse(commit).ok_or_else(|| {
            Error::new(
                Code::RevisionNotFound,
                format!("{location} has no revision {commit}: it is no digest"),
            )
        })?;
        let store = self.store(location);
        let mut store = store.lock().await;
        if let Some(snapshot) = store.artifacts.get(&pinned.digest) {
            let mut snapshot = snapshot.clone();
            snapshot.commit = pinned.to_string();
            return Ok(snapshot);
        }
        let arrived = self.pull(location, &pinned, credentials).await?;
        if store.folder.as_os_str().is_empty() || store.artifacts.len() >= MAX_ARTIFACTS {
            self.begin(&mut store, location)?;
        }
        // One at a time: an archive and all its files are in memory meanwhile, up to half a GiB.
        let _alone = self.unpacking.lock().await;
        let folder = store.folder.clone();
        let place = location.to_string();
        let name = pinned.to_string();
        let snapshot = blocking(move || {
            let told = |error: Error| Error { why: format!("{place} {name}: {}", error.why), ..error };
            let Arrived { archive, is_chart, author, subject, time } = arrived;
            let mut unpacked = archive::unpack(&archive, archive::Limits::default()).map_err(told)?;
            drop(archive);
            if is_chart {
                unpacked = without_top(unpacked).map_err(told)?;
            }
            let root = write(&folder, unpacked).map_err(told)?;
            Ok(Snapshot::of_tree(&folder, name.clone(), root, author, subject, time))
        })
        .await?;
        store.artifacts.insert(pinned.digest, snapshot.clone());
        Ok(snapshot)
    }

    async fn pull(&self, location: &Location, pinned: &Pinned, credentials: &Credentials) -> Result<Arrived> {
        let place = location.to_string();
        let access = self.access(credentials)?;
        if let Location::Chart { repository, chart } = location {
            let (found, archive) = access.charts.pull(repository, chart, pinned).await?;
            return Ok(Arrived {
                archive,
                is_chart: true,
                author: String::new(),
                subject: titled(chart, &found.pinned.name, &found.app_version),
                time: seconds(&found.created),
            });
        }
        let at = location.address(&place).ok_or_else(|| {
            Error::new(Code::Internal, format!("{location} holds neither charts nor artifacts"))
        })?;
        let pulled = access.registry.pull(at, &pinned.digest).await?;
        let told = |key: &str| pulled.annotations.get(&format!("org.opencontainers.image.{key}"));
        let short = |text: &String| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
        let word = |key: &str| told(key).map(short).unwrap_or_default();
        let title = if pulled.is_chart { word("title") } else { String::new() };
        let subject = if title.is_empty() {
            // Flux writes where an artifact was built from.
            [word("description"), word("revision"), word("version")].into_iter().find(|text| !text.is_empty())
        } else {
            Some(titled(&title, &word("version"), ""))
        };
        Ok(Arrived {
            author: word("authors"),
            subject: subject.unwrap_or_default(),
            time: told("created").map(|text| seconds(text)).unwrap_or_default(),
            is_chart: pulled.is_chart,
            archive: pulled.archive,
        })
    }
}

fn titled(chart: &str, version: &str, app: &str) -> String {
    let app = if app.is_empty() { String::new() } else { format!(" (of {app})") };
    format!("{chart} {version}{app}").chars().filter(|c| !c.is_control()).take(200).collect()
}

fn seconds(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_second).unwrap_or_default()
}

/// A packaged chart without the folder that holds it.
fn without_top(unpacked: Unpacked) -> Result<Unpacked> {
    let invalid = |why: String| Error::new(Code::ArchiveInvalid, why);
    let top = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let paths =
        || unpacked.files.iter().map(|(path, _)| path).chain(unpacked.links.iter().map(|(path, _)| path));
    // Helm takes the folder of Chart.yaml; whatever stands beside it is no part of the chart.
    let folder = paths()
        .find(|path| path.split('/').nth(1) == Some("Chart.yaml") && path.matches('/').count() == 1)
        .map(|path| top(path))
        .ok_or_else(|| invalid("it is no packaged chart: no folder of it has a Chart.yaml".to_owned()))?;
    if let Some(other) = paths().map(|path| top(path)).find(|found| *found != folder) {
        return Err(invalid(format!("it is no packaged chart: beside the folder {folder} there is {other}")));
    }
    let inner = |path: String| path[(folder.len() + 1).min(path.len())..].to_owned();
    Ok(Unpacked {
        files: unpacked.files.into_iter().map(|(path, content)| (inner(path), content)).collect(),
        links: unpacked.links.into_iter().map(|(path, target)| (inner(path), target)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(files: &[(&str, &str)], links: &[(&str, &str)]) -> Unpacked {
        Unpacked {
            files: files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect(),
            links: links.iter().map(|(path, to)| ((*path).to_owned(), (*to).to_owned())).collect(),
        }
    }

    #[test]
    fn a_chart_is_taken_out_of_its_folder() {
        let chart =
            unpacked(&[("fraud/Chart.yaml", "c"), ("fraud/charts/x/Chart.yaml", "d")], &[("fraud/l", "x")]);
        let found = without_top(chart).unwrap();
        assert_eq!(found, unpacked(&[("Chart.yaml", "c"), ("charts/x/Chart.yaml", "d")], &[("l", "x")]));
        for files in [
            vec![],
            vec![("Chart.yaml", "")],
            vec![("a/Chart.yaml", ""), ("b/x", "")],
            vec![("a/b/Chart.yaml", "")],
        ] {
            let error = without_top(unpacked(&files, &[])).unwrap_err();
            assert_eq!(error.code, Code::ArchiveInvalid, "{files:?}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(seconds("2026-01-02T03:04:05.678Z"), 1_767_323_045);
        assert_eq!(seconds("2026-01-02T03:04:05+01:00"), 1_767_319_445);
        assert_eq!(seconds("yesterday"), 0);
    }
}
