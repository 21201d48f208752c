//! `driftless import`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::cli::output::Output;
use crate::error::{Code, Error, Result};
use crate::model::yaml;
use crate::rollout::import::{Options, Source, import};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Rollouts, `AnalysisTemplates` and `ClusterAnalysisTemplates` of Argo Rollouts as `RolloutPolicies`: YAML on standard
    /// output, what is not exactly the same on standard error; exit code 1 where something needs a person
    Analysis(AnalysisArguments),
}

#[derive(Args)]
struct AnalysisArguments {
    /// Files; `-` is standard input. A Rollout is converted with the templates that it names
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// What `{{args.NAME}}` is where the Rollout does not say
    #[arg(long = "arg", value_name = "NAME=VALUE", value_parser = pair)]
    arguments: Vec<(String, String)>,
    /// The Deployment that templates without a Rollout judge
    #[arg(long, value_name = "DEPLOYMENT")]
    target: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn text(file: &Path) -> std::io::Result<Vec<u8>> {
    if file.as_os_str() != "-" {
        return std::fs::read(file);
    }
    let mut text = Vec::new();
    // One byte more than is read, so that what is too large is told from what just fits.
    std::io::stdin().lock().take(yaml::MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

pub(super) fn run(arguments: Arguments, output: &Output) -> Result<u8> {
    let What::Analysis(arguments) = arguments.what;
    let mut sources = Vec::new();
    for file in &arguments.files {
        let name = file.display().to_string();
        let text = text(file)
            .map_err(|error| Error::new(Code::FileUnreadable, format!("cannot read {name}: {error}")))?;
        sources.extend(Source::read(&text, &name)?);
    }
    let options = Options { arguments: arguments.arguments.into_iter().collect(), target: arguments.target };
    let imported = import(&sources, &options)?;
    imported.documents.iter().for_each(|document| output.data(&document.text()));
    imported.remarks.iter().for_each(|remark| output.say(&remark.to_string()));
    Ok(u8::from(imported.remarks.iter().any(|remark| remark.needs_person)))
}
