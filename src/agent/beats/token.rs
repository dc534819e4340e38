//! The token: from systemd's credential, else from a file. It is in no log and in no error.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::link::Failure;
use crate::agent::config::Config;
use crate::agent::layout::{CONFIG, TOKEN};
use crate::api::{ErrorClass, Phase};

/// Lengths that the operator accepts, in characters.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=256;

/// The token of this agent: from the folder of credentials that systemd gives, else from the file of the configuration, else
/// from the usual one.
///
/// # Errors
/// There is none, it cannot be read, or it is no token; as a heartbeat that failed before it was sent.
pub fn read(credentials: Option<&Path>, config: &Config) -> Result<String, Failure> {
    let token = find(credentials, config.token_file.as_deref()).and_then(|path| read_file(&path));
    token.map_err(|error| Failure::new(ErrorClass::Internal, Phase::Policy, error))
}

fn find(credentials: Option<&Path>, token_file: Option<&Path>) -> Result<PathBuf, String> {
    let of_systemd = credentials.map(|folder| folder.join("token")).filter(|path| path.exists());
    let usual = || Some(PathBuf::from(TOKEN)).filter(|path| path.exists());
    let of_file = of_systemd.or_else(|| token_file.map(Path::to_path_buf));
    if let (None, Some(folder)) = (&of_file, credentials)
        && std::fs::File::open(TOKEN).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    {
        return Err(format!(
            "systemd gave the agent no credential \"token\" in {}: see LoadCredential= of the unit; in a container, / must \
             be a shared mount (mount --make-rshared /)",
            folder.display()
        ));
    }
    of_file.or_else(usual).ok_or_else(|| {
        format!(
            "there is no token: systemd gives no credential \"token\", tokenFile: in {CONFIG} is not set, and {TOKEN} does \
             not exist"
        )
    })
}

fn read_file(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let token = text.and_then(|text| checked(&text).map(str::to_owned));
    token.map_err(|error| format!("the token in {}: {error}", path.display()))
}

/// The token in `text`, without the white space around it.
///
/// # Errors
/// It is no token.
pub fn checked(text: &str) -> Result<&str, String> {
    let token = text.trim();
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it has other characters than the visible ones of ASCII".to_owned());
    }
    match LENGTH.contains(&token.len()) {
        true => Ok(token),
        false => Err(format!("a token has {} to {} characters", LENGTH.start(), LENGTH.end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_a_token_is_dropped_and_no_error_shows_it() {
        let token = "0123456789abcdef0123456789abcdef";
        assert_eq!(checked(&format!("\u{feff}{token}")).unwrap_err().find("0123"), None);
        assert_eq!(checked(&format!(" {token}\r\n")), Ok(token));
        for bad in ["", "short", "0123456789abcdef 0123456789abcdef", &"x".repeat(257)] {
            assert!(!checked(bad).unwrap_err().contains("0123"), "{bad}");
        }
    }

    #[test]
    fn the_credential_of_systemd_comes_before_the_file() {
        let folder = std::env::temp_dir().join(format!("vigie-token-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = Path::new("/etc/vigie/token");
        assert_eq!(find(Some(&folder), Some(file)).as_deref(), Ok(file));
        std::fs::write(folder.join("token"), "x").unwrap();
        assert_eq!(find(Some(&folder), Some(file)), Ok(folder.join("token")));

        std::fs::remove_dir_all(folder).unwrap();
    }
}
