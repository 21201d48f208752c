//! The options of `driftless render` that are for charts; Helm's keep their meaning.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::{Code, Error, Result};
use crate::render::MemoryTree;
use crate::render::helm::{Line, Options};

/// The name under which files of the command line stand beside the tree of the chart.
pub(super) const MOUNT: &str = "command-line";

#[derive(Args)]
pub(super) struct ChartArguments {
    /// A file with values for a chart; several, a later one over an earlier one
    #[arg(short = 'f', long = "values", value_name = "FILE", help_heading = "Charts")]
    values: Vec<PathBuf>,
    /// Values over those of the files: a.b=1,c={x,y}
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Charts")]
    set: Vec<String>,
    /// As --set, and every value is text
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Charts")]
    set_string: Vec<String>,
    /// As --set, and every value is the content of a file
    #[arg(long, value_name = "NAME=FILE", help_heading = "Charts")]
    set_file: Vec<String>,
    /// The release's name; release-name where not given, as for helm template
    #[arg(long, value_name = "NAME", help_heading = "Charts")]
    release_name: Option<String>,
    /// The version of Kubernetes that a chart is told
    #[arg(long, value_name = "VERSION", help_heading = "Charts")]
    kube_version: Option<String>,
    /// API versions that a chart is told beyond those of Kubernetes itself
    #[arg(short, long, value_name = "VERSION", value_delimiter = ',', help_heading = "Charts")]
    api_versions: Vec<String>,
    /// Leave out a chart's crds folder
    #[arg(long, help_heading = "Charts")]
    skip_crds: bool,
    /// Do not hold the values against values.schema.json
    #[arg(long, help_heading = "Charts")]
    skip_schema_validation: bool,
}

impl ChartArguments {
    /// What is asked of a chart, and the files that are named for it.
    pub(super) fn options(&self, namespace: &str) -> Result<(Options, MemoryTree)> {
        let mut files = MemoryTree::default();
        let mut count = 0;
        let mut take = |path: &Path| -> Result<String> {
            let content = std::fs::read(path).map_err(|error| {
                Error::new(Code::FileUnreadable, format!("cannot read {}: {error}", path.display()))
            })?;
            // Two files of one name stay two.
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let inner = format!("{count}/{name}");
            count += 1;
            files = std::mem::take(&mut files).file(&inner, content);
            Ok(format!("${MOUNT}/{inner}"))
        };
        let values_files = self.values.iter().map(|path| take(path)).collect::<Result<_>>()?;
        let mut lines: Vec<Line> = self.set.iter().cloned().map(Line::Typed).collect();
        lines.extend(self.set_string.iter().cloned().map(Line::Text));
        for line in &self.set_file {
            let assignment = |part: &str| -> Result<String> {
                let Some((name, path)) = part.split_once('=') else { return Ok(part.to_owned()) };
                Ok(format!("{name}={}", take(Path::new(path))?))
            };
            let parts: Result<Vec<String>> = line.split(',').map(assignment).collect();
            lines.push(Line::File(parts?.join(",")));
        }
        let options = Options {
            release_name: self.release_name.clone().unwrap_or_default(),
            namespace: namespace.to_owned(),
            values_files,
            lines,
            kube_version: self.kube_version.clone().unwrap_or_default(),
            api_versions: self.api_versions.clone(),
            skip_crds: self.skip_crds,
            skip_schema_validation: self.skip_schema_validation,
            ..Options::default()
        };
        Ok((options, files))
    }
}
