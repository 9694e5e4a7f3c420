//! `userlist` as password files.

use super::super::companions::{Password, User, password_file};
use super::Translation;
use super::parse::{Line, Section};

/// Users of a list: all of them, or the members of groups.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Members {
    /// The name of the list.
    pub(super) list: String,
    /// The groups; if empty, all users of the list.
    pub(super) groups: Vec<String>,
}

/// The name of the password file of the members of lists; the file is made.
///
/// # Errors
/// Why there is none, as a hint.
pub(super) fn file(
    translation: &mut Translation<'_>,
    members: &[Members],
) -> Result<String, String> {
    let mut users = Vec::new();
    let mut stem = "haproxy".to_owned();
    for Members { list, groups } in members {
        let sections = translation.sections;
        let is_it = |section: &&Section| section.kind == "userlist" && section.name == *list;
        let Some(section) = sections.iter().find(is_it) else {
            return Err(format!("there is no userlist `{list}`"));
        };
        let of_groups = section
            .lines
            .iter()
            .filter(|line| line.word(0) == "user" && is_in(section, line, groups));
        users.extend(of_groups.filter_map(user));
        stem = [stem.as_str(), list]
            .iter()
            .copied()
            .chain(groups.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join("-");
    }
    if users.is_empty() {
        return Err("the userlist has no such user with a password".to_owned());
    }
    password_file(&mut translation.model, translation.files, &stem, &users)
}

fn user(line: &Line) -> Option<User> {
    let password = match (line.after("password"), line.after("insecure-password")) {
        (Some(hash), _) => Password::Hash(hash.to_owned()),
        (None, Some(plain)) => Password::Plain(plain.to_owned()),
        (None, None) => return None,
    };
    Some(User { name: line.word(1).to_owned(), password, at: line.at.clone() })
}

/// Whether a user is in one of the groups: by its own line, or by that of the group.
fn is_in(section: &Section, user: &Line, groups: &[String]) -> bool {
    let lists = |text: Option<&str>, name: &str| {
        text.is_some_and(|text| text.split(',').any(|one| one == name))
    };
    groups.is_empty()
        || groups.iter().any(|group| {
            let mut of_group =
                section.lines.iter().filter(|l| l.word(0) == "group" && l.word(1) == group);
            lists(user.after("groups"), group)
                || of_group.any(|line| lists(line.after("users"), user.word(1)))
        })
}

/// Notes the sections `userlist` and `http-errors` that no line refers to.
pub(super) fn note_unused(translation: &mut Translation<'_>) {
    let sections = translation.sections;
    for section in sections.iter().filter(|s| matches!(s.kind.as_str(), "userlist" | "http-errors"))
    {
        let names = |word: &String| match section.kind.as_str() {
            "userlist" => [
                format!("http_auth({})", section.name),
                format!("http_auth_group({})", section.name),
            ]
            .iter()
            .any(|sample| word.contains(sample)),
            _ => *word == section.name,
        };
        let lines =
            sections.iter().filter(|other| other.kind != section.kind).flat_map(|s| &s.lines);
        let mut lines = lines.filter(|line| section.kind == "userlist" || line.has("errorfiles"));
        if !lines.any(|line| line.words.iter().any(names)) {
            let what = format!("{} {}", section.kind, section.name);
            translation.model.unneeded(&section.at, &what, "nothing uses it");
        }
    }
}
