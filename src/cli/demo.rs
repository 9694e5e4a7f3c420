//! `tidegate demo`
#[derive(Debug, clap::Args)]
pub(super) struct Options {}
pub(super) fn demo(_: &Options) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
