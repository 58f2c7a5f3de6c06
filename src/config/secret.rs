//! Secrets: the value of a variable, or the content of a file that another variable names, as
//! containers pass secrets.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::ConfigError;
use super::setting::{Setting, read_optional};

/// Far more than a secret or a list of secrets needs.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The two variables of a secret: its value, or the path of a file with the value.
pub(super) struct SecretVariable {
    pub(super) variable: &'static str,
    pub(super) file_variable: &'static str,
}

/// A secret and the variable it was loaded from.
pub(super) struct LoadedSecret {
    pub(super) variable: &'static str,
    secret: SecretString,
}

impl LoadedSecret {
    pub(super) fn text(&self) -> &str {
        self.secret.expose_secret()
    }

    pub(super) fn into_secret(self) -> SecretString {
        self.secret
    }
}

impl SecretVariable {
    /// A variable with an empty text counts as not set. It is an error to set both.
    pub(super) fn read(
        &self,
        value: Option<&SecretString>,
        file: Option<&Setting<PathBuf>>,
    ) -> Result<Option<LoadedSecret>, ConfigError> {
        let value = value.filter(|value| !value.expose_secret().is_empty());
        match (value, read_optional(file)?) {
            (None, None) => Ok(None),
            (Some(value), None) => Ok(Some(LoadedSecret { variable: self.variable, secret: value.clone() })),
            (None, Some(file)) => {
                let secret = contents(&file).map_err(|problem| ConfigError::new(self.file_variable, problem));
                Ok(Some(LoadedSecret { variable: self.file_variable, secret: secret? }))
            }
            (Some(_), Some(_)) => {
                let problem = format_args!("and {} are both set: keep one of them", self.variable);
                Err(ConfigError::new(self.file_variable, problem))
            }
        }
    }
}

/// Returns the file's text without the line ending that editors add. An empty file is an error: for
/// no secret, name no file.
fn contents(file: &Path) -> Result<SecretString, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = |bytes: &mut Vec<u8>| -> io::Result<usize> {
        // A buffer that grows would leave copies of the secret in memory.
        bytes.reserve_exact(usize::try_from(MAX_FILE_BYTES + 1).unwrap_or(usize::MAX));
        File::open(file)?.take(MAX_FILE_BYTES + 1).read_to_end(bytes)
    };
    let length = read(&mut bytes).map_err(|error| format!("names a file that cannot be read: {error}"))?;
    if length as u64 > MAX_FILE_BYTES {
        return Err(format!("names a file of more than {MAX_FILE_BYTES} bytes"));
    }
    let text = str::from_utf8(&bytes).map_err(|_| "names a file that is not text".to_owned())?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err("names an empty file".to_owned());
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const KEY: SecretVariable = SecretVariable { variable: "KEY", file_variable: "KEY_FILE" };

    fn load(value: Option<&str>, file: Option<&Path>) -> Result<Option<String>, String> {
        let value = value.map(SecretString::from);
        let file = file.map(|file| Setting::Valid(file.to_owned()));
        let loaded = KEY.read(value.as_ref(), file.as_ref()).map_err(|error| error.to_string())?;
        Ok(loaded.map(|loaded| format!("{} from {}", loaded.text(), loaded.variable)))
    }

    fn file(contents: &[u8]) -> Result<Option<String>, String> {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("key");
        fs::write(&path, contents).expect("written");
        load(None, Some(&path))
    }

    #[test]
    fn secret_is_read_from_variable_or_file() {
        assert_eq!(load(None, None), Ok(None));
        assert_eq!(load(Some(""), None), Ok(None));
        assert_eq!(load(Some("a"), None), Ok(Some("a from KEY".to_owned())));
        for contents in ["a", "a\n", "a\r\n"] {
            assert_eq!(file(contents.as_bytes()), Ok(Some("a from KEY_FILE".to_owned())), "{contents:?}");
        }
    }

    #[test]
    fn invalid_secret_file_is_named_by_its_variable() {
        let both = load(Some("a"), Some(Path::new("b")));
        assert_eq!(both, Err("KEY_FILE and KEY are both set: keep one of them".to_owned()));
        let missing = load(None, Some(Path::new("/nowhere/key"))).expect_err("no such file");
        assert!(missing.starts_with("KEY_FILE names a file that cannot be read: No such file"), "{missing}");
        for (contents, problem) in [
            (b"\n".to_vec(), "names an empty file"),
            (b"\xff".to_vec(), "names a file that is not text"),
            (b"a".repeat(65_537), "names a file of more than 65536 bytes"),
        ] {
            assert_eq!(file(&contents), Err(format!("KEY_FILE {problem}")));
        }
    }
}
