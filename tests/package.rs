//! What is packaged, without building it: the systemd unit, the scripts, the workflow, the compose file. `make dist-test`
//! installs and runs the packages themselves.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests are named by their promises, and fail by panicking"
)]

#[path = "files/mod.rs"]
mod files;

use files::{read, root};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidegate::config::load;

/// Runs a program; `None` if it is not installed and may be missing.
fn run(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    match Command::new(program).args(arguments).current_dir(root()).output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
        }
        Err(error) => {
            let may = std::env::var_os("TIDEGATE_SKIP_MISSING_TOOLS").is_some();
            assert!(may, "{program}: {error}; TIDEGATE_SKIP_MISSING_TOOLS=1 skips what needs it");
            None
        }
    }
}

const UNIT: &str = "config/package/tidegate.service";

#[test]
fn systemd_accepts_the_unit() {
    // The program and the user of the package are not on this machine: the copy names others.
    let folder = std::env::temp_dir().join(format!("tidegate-unit-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let unit = folder.join("tidegate.service");
    let text =
        read(UNIT).replace("/usr/bin/tidegate", "/bin/true").replace("=tidegate\n", "=root\n");
    std::fs::write(&unit, text).unwrap();
    let verified = run("systemd-analyze", &["verify", "--man=no", unit.to_str().unwrap()]);
    std::fs::remove_dir_all(&folder).unwrap();
    let Some((_, said)) = verified else { return };
    // Known to systemd 253 and newer; an older one keeps `Type=notify`, as the unit says.
    let of_unit = said.lines().filter(|line| line.contains("tidegate.service"));
    let wrong: Vec<_> = of_unit.filter(|line| !line.contains("notify-reload")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_unit_exposes_little() {
    let arguments = ["security", "--offline=true", "--threshold=20", "--no-pager", UNIT];
    let Some((is_below, said)) = run("systemd-analyze", &arguments) else { return };
    assert!(is_below && said.contains("Overall exposure level"), "{said}");
}

#[test]
fn the_scripts_are_valid() {
    let mut count = 0;
    for folder in ["config/package", "docker", "docs"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if !text.starts_with("#!/bin/sh") {
                continue;
            }
            count += 1;
            let (is_valid, said) = run("sh", &["-n", path.to_str().unwrap()]).unwrap();
            assert!(is_valid, "{}: {said}", path.display());
            assert!(text.contains("\nset -e"), "{} goes on after an error", path.display());
        }
    }
    assert!(count >= 10, "{count}");
}

/// What `make TARGET` says with these programs before those of `path`; each is a shell script.
fn make(target: &str, programs: &[(&str, &str)], path: &str) -> (bool, String) {
    use std::os::unix::fs::PermissionsExt;
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("tidegate-make-{}-{call}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, script) in programs {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{path}", folder.display());
    let command = Command::new("make")
        .args(["--no-print-directory", target])
        .env("PATH", path)
        .env_remove("CARGO")
        // `make test` passes these on, and a `make` inside another `make` prints other messages.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .current_dir(root())
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    (command.status.success(), String::from_utf8_lossy(&command.stderr).into_owned())
}

#[test]
fn make_says_in_one_line_what_is_missing() {
    let new = r#"[ "$1" = --version ] && echo "cargo 1.99.0 (x 2030-01-01)""#;
    let path = std::env::var("PATH").unwrap();
    let table = [
        (r#"[ "$1" = --version ] && echo "cargo 1.80.1 (x 2024-01-01)""#, "rustup update"),
        ("exit 127", "https://rustup.rs"),
        (new, "connect to the network"),
    ];
    for (cargo, part) in table {
        let (is_ok, said) = make("rust", &[("cargo", cargo)], &path);
        is_one_line_with(part, is_ok, &said);
    }
    let (is_ok, said) = make("rust", &[("cargo", &format!("{new}\nexit 0"))], &path);
    assert!(is_ok, "{said}");
}

#[track_caller]
fn is_one_line_with(part: &str, is_ok: bool, said: &str) {
    let ours: Vec<_> = said.lines().filter(|line| !line.starts_with("make: ***")).collect();
    assert!(!is_ok && ours.len() == 1 && ours[0].contains(part), "{part}: {said}");
}

#[test]
fn make_says_in_one_line_what_it_cannot_install() {
    // A machine without a C compiler and without sudo.
    let folder = std::env::temp_dir().join(format!("tidegate-bare-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for program in ["cut", "make", "sed", "sh", "sort", "uname"] {
        let real = ["/usr/bin", "/bin"].map(|place| Path::new(place).join(program));
        let real = real.iter().find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(real, folder.join(program)).unwrap();
    }
    let cargo = ("cargo", "echo 'cargo 1.99.0 (x 2030-01-01)'");
    let table = [
        ("echo 1000", "sudo is missing: run `apt-get install gcc libc6-dev` as root"),
        ("echo 0", "(no network, or not Debian?): install gcc libc6-dev yourself"),
    ];
    for (id, part) in table {
        let programs = [cargo, ("id", id), ("apt-get", "exit 100")];
        let (is_ok, said) = make("rust", &programs, folder.to_str().unwrap());
        is_one_line_with(part, is_ok, &said);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_download_of_make_fails_in_one_line() {
    let makefile = read("Makefile");
    let lines = makefile.replace("\\\n", " ");
    let downloads = ["pip install", "npm ", "$(CARGO) install", "rustup component"];
    let mut count = 0;
    for line in lines.lines().filter(|line| line.starts_with(['\t', ' ']) || line.contains(" = @"))
    {
        let is_tool = line.contains("$(call debian,");
        if !is_tool && downloads.iter().any(|words| line.contains(words)) {
            count += 1;
            let may_fail = line.contains("goes on without it");
            assert!(may_fail || line.contains("$(call or_offline,"), "{line}");
        }
    }
    assert!(count >= 6, "{count}");
}

/// The values of `run:` of a workflow.
fn runs(workflow: &str) -> Vec<&str> {
    workflow
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("run: "))
        .collect()
}

#[test]
fn the_workflow_calls_make_alone() {
    let (workflow, makefile) = (read(".github/workflows/release.yml"), read("Makefile"));
    let commands = runs(&workflow);
    assert!(commands.len() >= 4, "{commands:?}");
    assert!(!workflow.contains("run: |"), "a script belongs into the Makefile");
    for command in commands {
        let words = command.strip_prefix("make ").unwrap_or_else(|| panic!("{command}"));
        for target in words.split(' ').take_while(|word| !word.contains('=')) {
            assert!(
                makefile.lines().any(|line| line.starts_with(&format!("{target}:"))),
                "{target}"
            );
        }
    }
    for machine in ["ubuntu-24.04 }", "ubuntu-24.04-arm }"] {
        assert!(workflow.contains(machine), "{machine}");
    }
    // The tools of `make test` have the names of Debian's packages.
    let container = format!("image: \"rust:{}-bookworm\"", manifest("rust-version"));
    assert_eq!(workflow.matches(&container).count(), 2, "{container}");
}

/// A value of Cargo.toml's first section.
fn manifest(key: &str) -> String {
    let text = read("Cargo.toml");
    let rest = text.split(&format!("\n{key} = \"")).nth(1).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[test]
fn the_documents_name_this_version_and_the_oldest_rust() {
    let (version, rust) = (manifest("version"), manifest("rust-version"));
    let mut count = 0;
    for page in ["README.md", "CONTRIBUTING.md", "docs/kubernetes.md", "docs/systemd.md"] {
        let text = read(page);
        let marks =
            ["tidegate-", "tidegate_", "tidegate:", "The version is "].map(|mark| (mark, &version));
        for (mark, value) in marks.into_iter().chain([("Rust ", &rust)]) {
            for rest in text
                .split(mark)
                .skip(1)
                .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            {
                count += 1;
                assert!(
                    rest.starts_with(value.as_str()),
                    "{page}: `{mark}` is not followed by {value}"
                );
            }
        }
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn the_demonstration_has_three_sites_with_valid_files() {
    let compose = read("docker/compose.yaml");
    let mut files = Vec::new();
    for line in compose.lines().filter(|line| line.contains("volumes:")) {
        let file = line.split("\"./").nth(1).unwrap().split(':').next().unwrap();
        files.push(format!("docker/{file}"));
    }
    files.push("docker/tidegate.yaml".to_owned());
    for file in &files {
        let outcome = load(&read(file), Path::new("docker"), &|_| None);
        let errors: Vec<_> = outcome.problems.iter().map(|p| p.render(file)).collect();
        assert!(outcome.config.is_some(), "{errors:#?}");
    }
    let edge = read("docker/demo/edge.yaml");
    let ports = compose.lines().filter(|line| line.contains("ports: ["));
    let mut sites = 0;
    for line in ports {
        let port = line.split("127.0.0.1:").nth(1).unwrap().split(':').next().unwrap();
        assert!(edge.contains(&format!("127.0.0.1:{port}")), "{port}");
        sites += 1;
    }
    assert_eq!(sites, 3);
}

#[test]
fn the_image_runs_without_root_and_asks_its_own_health() {
    let docker = read("docker/Dockerfile");
    for part in [
        "FROM scratch",
        "USER 65532:65532",
        "\"healthcheck\", \"--config\"",
        "sh docker/rootfs.sh",
        "sh config/package/build.sh",
    ] {
        assert!(docker.contains(part), "{part}");
    }
    let rust = format!("rust:{}-bookworm", manifest("rust-version"));
    assert!(docker.contains(&format!("FROM {rust} ")), "the image's Rust is the oldest allowed");
    assert!(read("docker/rootfs.sh").contains("/etc/ssl/certs/ca-certificates.crt"));
}
