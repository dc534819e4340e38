//! A unit, container or compose service: what an agent looks after.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::MAX_UNIT;

/// What is looked after: `NAME.service`, `container:NAME` or `compose:PROJECT:SERVICE`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// A unit of systemd, for example `ztna-connector.service`.
    Unit(String),
    /// A container, by its name.
    Container(String),
    /// A service of docker compose.
    Compose {
        /// The name of the compose project.
        project: String,
        /// The name of the service in it.
        service: String,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(name) => f.write_str(name),
            Self::Container(name) => write!(f, "container:{name}"),
            Self::Compose { project, service } => write!(f, "compose:{project}:{service}"),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither NAME.service nor container:NAME nor compose:PROJECT:SERVICE");
        if text.len() > MAX_UNIT {
            return Err(format!("a target of {} bytes is longer than {MAX_UNIT}", text.len()));
        }
        let target = match text.split(':').collect::<Vec<_>>()[..] {
            ["container", name] if is_docker_name(name) => Self::Container(name.to_owned()),
            ["compose", project, service] if is_docker_name(project) && is_docker_name(service) => {
                Self::Compose { project: project.to_owned(), service: service.to_owned() }
            }
            _ if is_unit(text) => Self::Unit(text.to_owned()),
            _ => return Err(wrong()),
        };
        Ok(target)
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl Target {
    /// The command that creates the absent container of a compose service, whose project is in `directory`. `None` for
    /// other targets, and where the directory has a character that a shell could interpret: it is a label of another
    /// container, and the command is there to be copied into a terminal.
    pub fn creation_command(&self, directory: Option<&str>) -> Option<String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
        let directory = directory.filter(|directory| !directory.is_empty() && directory.bytes().all(is_plain));
        match (self, directory) {
            (Self::Compose { service, .. }, Some(directory)) => {
                Some(format!("cd {directory} && docker compose up -d {service}"))
            }
            _ => None,
        }
    }
}

/// The names that Docker accepts. They become part of a path of its API.
fn is_docker_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) && name.bytes().all(is_inner)
}

/// A name that systemd accepts as that of one service. It becomes an argument of `systemctl`, so it has no leading dash, and
/// none of `*?[`, with which `systemctl` means several units.
fn is_unit(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.' | b'\\' | b'@' | b'-');
    let stem = name.strip_suffix(".service").unwrap_or_default();
    !stem.is_empty() && !stem.starts_with('-') && stem.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_unit_a_container_or_a_service_of_compose() {
        let unit = |name: &str| Target::Unit(name.to_owned());
        let compose = Target::Compose { project: "orders".into(), service: "backend".into() };
        for (text, expected) in [
            ("ztna-connector.service", unit("ztna-connector.service")),
            ("getty@tty1.service", unit("getty@tty1.service")),
            (r"a\x2db.service", unit(r"a\x2db.service")),
            ("container:app_1", Target::Container("app_1".into())),
            ("compose:orders:backend", compose),
            // systemd allows a colon in a name, and the ending says that it is a unit.
            ("container:a:b.service", unit("container:a:b.service")),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target, expected);
            assert_eq!(target.to_string(), text);
        }
    }

    #[test]
    fn an_absent_service_of_compose_is_created_by_a_command_that_a_shell_cannot_misread() {
        let target: Target = "compose:orders:backend".parse().unwrap();
        let command = "cd /srv/orders-1.2 && docker compose up -d backend";
        assert_eq!(target.creation_command(Some("/srv/orders-1.2")).as_deref(), Some(command));
        for hostile in ["/srv/a b", "/srv;reboot", "$(reboot)", "/srv\n", "/srv`id`", "/srv'", ""] {
            assert_eq!(target.creation_command(Some(hostile)), None, "{hostile:?}");
        }
        assert_eq!(target.creation_command(None), None);
        assert_eq!("a.service".parse::<Target>().unwrap().creation_command(Some("/srv")), None);
    }

    #[test]
    fn nothing_that_could_be_an_option_or_a_pattern_or_a_path_is_a_target() {
        let long = format!("{}.service", "a".repeat(250));
        for text in [
            "",
            ".service",
            "-x.service",
            "a*.service",
            "a/b.service",
            "a b.service",
            "a.timer",
            "a.socket",
            "ssh",
            "container:",
            "container:../x",
            "container:a/b",
            "container:-a",
            "container:a?force=1",
            "compose:a",
            "compose:a:",
            "compose:a:b:c",
            "compose::b",
            "a\n.service",
            &long,
        ] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }
}
