//! nginx: `http` and `stream` with their servers, locations and upstreams.

mod condition;
mod directives;
mod location;
mod map;
mod parse;
mod policy;
mod rewrite;
mod server;
mod settings;
mod stream;
mod upstream;
mod values;

#[cfg(test)]
mod tests;

use super::Unreadable;
use super::files::Files;
use super::model::Model;
use parse::{Directive, Reader};
use std::path::{Path, PathBuf};

/// What all parts of the translation share.
pub(super) struct Translation<'a> {
    pub(super) model: Model,
    files: &'a dyn Files,
    /// Where relative names start.
    folder: PathBuf,
    /// Directives of all `http` blocks.
    http: &'a [Directive],
    /// Clusters that were made: what they are made of, and their names.
    made: Vec<(String, String)>,
}

/// Reads nginx.conf and what it includes.
///
/// # Errors
/// A file that cannot be read, or a syntax error with its line.
pub(super) fn read(paths: &[PathBuf], files: &dyn Files) -> Result<Model, Unreadable> {
    let mut model = Model::default();
    let mut top = Vec::new();
    let mut folder = PathBuf::new();
    for path in paths {
        folder = files.absolute(path.parent().unwrap_or(Path::new(".")));
        let mut reader = Reader::new(files, path.parent().unwrap_or(Path::new(".")), &mut model);
        top.extend(reader.file(path, 0)?);
    }
    let (mut http, mut streams, mut main) = (Vec::new(), Vec::new(), Vec::new());
    for directive in top {
        match directive.name.as_str() {
            "http" => http.extend(directive.block.unwrap_or_default()),
            "stream" => streams.extend(directive.block.unwrap_or_default()),
            // A file for an `include` inside of `http`.
            "server" | "upstream" | "map" | "limit_req_zone" | "limit_conn_zone"
            | "split_clients" => {
                http.push(directive);
            }
            _ => main.push(directive),
        }
    }
    directives::note(&mut model, &main);
    directives::note(&mut model, &http);
    directives::note(&mut model, &streams);
    let mut translation = Translation { model, files, folder, http: &http, made: Vec::new() };
    server::servers(&mut translation);
    map::note(&mut translation);
    stream::servers(&mut translation, &streams);
    Ok(translation.model)
}
