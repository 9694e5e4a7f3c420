//! Traefik 2 and 3: static and dynamic configuration in YAML or TOML, and labels in Docker Compose files.

mod compose;
mod entry_points;
mod errors;
mod known;
mod middlewares;
mod routers;
mod rule;
mod services;
mod tls_options;
mod tree;

#[cfg(test)]
mod tests;

use super::Unreadable;
use super::files::{Files, glob};
use super::model::{Model, Origin};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tree::Tree;

/// Files that providers name, at most.
const FILES_MAX: usize = 500;

/// What all parts of the translation share.
pub(super) struct Translation<'a> {
    model: Model,
    files: &'a dyn Files,
    folder: PathBuf,
    /// Static and dynamic configuration together.
    root: &'a Tree,
    listeners: Vec<entry_points::EntryPoint>,
}

/// Reads the files, and those that the file provider names.
///
/// # Errors
/// A file that cannot be read, or a syntax error with its line.
pub(super) fn read(paths: &[PathBuf], files: &dyn Files) -> Result<Model, Unreadable> {
    let mut model = Model::default();
    let first: Rc<str> = paths.first().map_or(String::new(), |p| p.display().to_string()).into();
    let mut root = Tree::empty(&Origin { file: first, line: 1 });
    for path in paths {
        root.join(file(path, files, &mut model)?);
    }
    for path in provided(&root, paths, files) {
        if !paths.contains(&path) {
            root.join(file(&path, files, &mut model)?);
        }
    }
    let folder = files.absolute(paths.first().and_then(|p| p.parent()).unwrap_or(Path::new(".")));
    known::note(&mut model, &root);
    let mut translation = Translation { model, files, folder, root: &root, listeners: Vec::new() };
    entry_points::listeners(&mut translation);
    routers::http(&mut translation);
    routers::tcp(&mut translation);
    routers::udp(&mut translation);
    entry_points::finish(&mut translation);
    tls_options::finish(&mut translation);
    Ok(translation.model)
}

fn file(path: &Path, files: &dyn Files, model: &mut Model) -> Result<Tree, Unreadable> {
    let shown: Rc<str> = path.display().to_string().into();
    let text = files.read(path).map_err(|why| Unreadable(format!("{shown}: {why}")))?;
    if text.contains("{{") {
        let message = "Go templates are not read: import the file that they generate";
        return Err(Unreadable(format!("{shown}: {message}")));
    }
    if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("toml")) {
        return Tree::of_toml(&text, &shown);
    }
    let tree = Tree::of_yaml(&text, &shown)?;
    match compose::is_compose(&tree) {
        true => Ok(compose::labels(&tree, model)),
        false => Ok(tree),
    }
}

/// The files of `providers.file`.
fn provided(root: &Tree, paths: &[PathBuf], files: &dyn Files) -> Vec<PathBuf> {
    let folder = paths.first().and_then(|p| p.parent()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    if let Some(name) = root.text("providers.file.filename") {
        found.extend(local(&folder.join(name), folder, files));
    }
    if let Some(name) = root.text("providers.file.directory") {
        for end in ["*.yml", "*.yaml", "*.toml"] {
            let own = glob(files, &folder.join(name).join(end));
            let own = if own.is_empty() {
                // The folder is that of a container: the one of the same name beside the file.
                let last = Path::new(name).file_name().unwrap_or_default();
                glob(files, &folder.join(last).join(end))
            } else {
                own
            };
            found.extend(own);
        }
    }
    found.truncate(FILES_MAX);
    found
}

fn local(path: &Path, folder: &Path, files: &dyn Files) -> Option<PathBuf> {
    if files.read(path).is_ok() {
        return Some(path.to_owned());
    }
    let beside = folder.join(path.file_name()?);
    files.read(&beside).is_ok().then_some(beside)
}
