//! Files beside the configuration: what stands in the original and is a file of its own in Tidegate.
//!
//! They are written only next to `--output`: a configuration on standard output has no folder. A file that exists with
//! other content is kept, since somebody may have changed it.

use super::files::Files;
use super::model::{Companion, Model, Origin};
use crate::decision::password_hash;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What to do when there is no folder for a file.
pub(super) const NO_FOLDER: &str =
    "import with `--output FILE`, and the importer writes the file beside it";
/// The cost of bcrypt hashes that are made of passwords in clear text: some 50 ms each.
const BCRYPT_COST: u32 = 10;
/// Passwords in clear text of one list, at most.
const PLAIN_MAX: usize = 100;

/// A password as the original has it.
#[derive(Clone, Debug)]
pub(super) enum Password {
    /// A hash of any kind.
    Hash(String),
    /// The password itself.
    Plain(String),
}

/// A user of the original.
#[derive(Clone, Debug)]
pub(super) struct User {
    /// The name.
    pub(super) name: String,
    /// The password.
    pub(super) password: Password,
    /// The place.
    pub(super) at: Origin,
}

/// The name of a password file with these users; the file is made. Users whose hash Tidegate refuses are noted.
///
/// # Errors
/// Why there is none, as a hint.
pub(super) fn password_file(
    model: &mut Model,
    files: &dyn Files,
    stem: &str,
    users: &[User],
) -> Result<String, String> {
    let name = format!("{}.users", super::model::name(stem));
    if model.companions.iter().any(|known| known.name == name) {
        return Ok(name);
    }
    if !files.writes() {
        return Err(format!("its users are a password file (`auth.basic_file`): {NO_FOLDER}"));
    }
    let (mut text, mut plain) = (String::new(), 0);
    let mut known: Vec<&str> = Vec::new();
    for user in users {
        plain += usize::from(matches!(user.password, Password::Plain(_)));
        let line = match (known.contains(&user.name.as_str()), plain > PLAIN_MAX) {
            (true, _) => Err("another user has this name".to_owned()),
            (_, true) => Err("the list has more than 100 passwords in clear text".to_owned()),
            (false, false) => line(user),
        };
        match line {
            Ok(line) => {
                known.push(&user.name);
                text.push_str(&line);
            }
            Err(why) => {
                let hint = format!("{why}; the user cannot enter until you add a line to `{name}`");
                model.left_out(&user.at, &format!("user {}", user.name), &hint);
            }
        }
    }
    if known.is_empty() {
        return Err("no user has a hash that Tidegate accepts (bcrypt or argon2): write them to a file with `htpasswd -B`, and name it in `auth.basic_file`".to_owned());
    }
    if plain > 0 {
        let hint = "it has the bcrypt hashes of passwords that were in clear text";
        model.differs(&users[0].at, &name, hint);
    }
    model.companions.push(Companion { name: name.clone(), text });
    Ok(name)
}

/// A line of a password file.
fn line(user: &User) -> Result<String, String> {
    let valid = |c: char| !c.is_control() && c != ':';
    if user.name.is_empty() || user.name.starts_with('#') || !user.name.chars().all(valid) {
        return Err("its name cannot be in a password file".to_owned());
    }
    let hash = match &user.password {
        Password::Plain(password) => bcrypt::non_truncating_hash(password, BCRYPT_COST)
            .map_err(|_| "bcrypt takes passwords of 1 to 71 bytes".to_owned())?,
        Password::Hash(hash) => {
            password_hash::check(hash).map_err(|why| format!("its {why}"))?;
            hash.clone()
        }
    };
    match hash.chars().any(|c| c.is_control() || c.is_whitespace()) {
        true => Err("its hash is not valid".to_owned()),
        false => Ok(format!("{}:{hash}\n", user.name)),
    }
}

/// The name of a file with an error page; the file is made.
pub(super) fn page(model: &mut Model, stem: &str, suffix: &str, body: &str) -> String {
    use crate::decision::template::{Purpose, Template};
    let is_plain = Template::parse(body, Purpose::Page)
        .is_ok_and(|template| template.constant() == Some(body));
    // The original has no variables.
    let text = if is_plain { body.to_owned() } else { body.replace('{', "{{") };
    let base = super::model::name(stem);
    let mut name = format!("{base}.{suffix}");
    let mut number = 2;
    while let Some(known) = model.companions.iter().find(|known| known.name == name) {
        if known.text == text {
            return name;
        }
        name = format!("{base}-{number}.{suffix}");
        number += 1;
    }
    model.companions.push(Companion { name: name.clone(), text });
    name
}

/// Writes files to a folder, readable by the owner alone; what happened to each, as lines.
///
/// # Errors
/// The file that cannot be written, and why.
pub(super) fn write(folder: &Path, companions: &[Companion]) -> Result<Vec<String>, String> {
    let mut told = Vec::new();
    for Companion { name, text } in companions {
        let path = folder.join(name);
        let shown = path.display();
        if let Ok(known) = std::fs::read_to_string(&path) {
            if known != *text {
                told.push(format!("{shown}: it exists already, so it is kept as it is"));
            }
            continue;
        }
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| format!("cannot write {shown}: {error}"))?;
        told.push(format!("{shown}: written"));
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::super::tests::table;
    use super::*;

    fn user(name: &str, password: Password) -> User {
        User { name: name.to_owned(), password, at: Origin { file: "f".into(), line: 1 } }
    }

    #[test]
    fn a_password_file_has_the_users_whose_hashes_tidegate_accepts() {
        let known = bcrypt::hash("secret", 4).unwrap();
        let users = [
            user("ann", Password::Hash(known.clone())),
            user("bob", Password::Plain("word".to_owned())),
            user("eve", Password::Hash("$5$salt$hash".to_owned())),
            user("ann", Password::Plain("again".to_owned())),
            user("a:b", Password::Plain("x".to_owned())),
            user("old", Password::Hash(known.replacen("$04$", "$20$", 1))),
            user("cut", Password::Hash("$argon2id$v=19$m".to_owned())),
        ];
        let mut model = Model::default();
        let name = password_file(&mut model, &table(&[]), "the list", &users).unwrap();
        assert_eq!(name, "the-list.users");
        let text = &model.companions[0].text;
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("ann:{known}"));
        let made = lines[1].strip_prefix("bob:").unwrap();
        assert!(bcrypt::verify("word", made).unwrap() && !text.contains(":word"));
        assert_eq!(lines.len(), 2, "{text}");
        let noted: Vec<&str> = model.notes.iter().map(|note| note.what.as_str()).collect();
        assert_eq!(
            noted,
            ["user eve", "user ann", "user a:b", "user old", "user cut", "the-list.users"]
        );
    }

    #[test]
    fn files_that_exist_are_kept_and_others_can_read_none() {
        use std::os::unix::fs::PermissionsExt;
        let folder =
            std::env::temp_dir().join(format!("tidegate-companions-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let companion =
            |text: &str| [Companion { name: "a.users".to_owned(), text: text.to_owned() }];
        let first = write(&folder, &companion("one")).unwrap();
        let same = write(&folder, &companion("one")).unwrap();
        let other = write(&folder, &companion("two")).unwrap();
        let path = folder.join("a.users");
        let (text, mode) = (
            std::fs::read_to_string(&path).unwrap(),
            std::fs::metadata(&path).unwrap().permissions().mode(),
        );
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(first[0].ends_with("a.users: written") && same.is_empty(), "{first:?} {same:?}");
        assert!(other[0].contains("it is kept"), "{other:?}");
        assert_eq!((text.as_str(), mode & 0o777), ("one", 0o600));
    }

    #[test]
    fn braces_of_a_page_are_no_variables() {
        let mut model = Model::default();
        assert_eq!(page(&mut model, "e", "html", "a { b: c }"), "e.html");
        assert_eq!(page(&mut model, "e", "html", "a { b: c }"), "e.html");
        assert_eq!(page(&mut model, "e", "html", "{status}"), "e-2.html");
        assert_eq!(model.companions[0].text, "a { b: c }");
        assert_eq!(model.companions[1].text, "{{status}");
    }
}
