//! What must not be shown: given by a variable, or by a file that another variable names, as containers pass secrets.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::ConfigError;

/// The largest file that is read: no secret, and no list of them, comes near.
const FILE_BYTES: u64 = 64 * 1024;

/// The two variables of a secret.
pub(super) struct SecretVariable {
    /// The one that holds it.
    pub(super) variable: &'static str,
    /// The one that names a file which holds it.
    pub(super) file_variable: &'static str,
}

/// A secret, and the variable that gave it.
pub(super) struct Given {
    pub(super) variable: &'static str,
    secret: SecretString,
}

impl Given {
    pub(super) fn text(&self) -> &str {
        self.secret.expose_secret()
    }

    pub(super) fn into_secret(self) -> SecretString {
        self.secret
    }
}

impl SecretVariable {
    /// Reads the secret from where it is. A variable that is set to nothing is not set; both are one too many.
    pub(super) fn read(
        &self,
        value: Option<&SecretString>,
        file: Option<&Path>,
    ) -> Result<Option<Given>, ConfigError> {
        let value = value.filter(|value| !value.expose_secret().is_empty());
        let file = file.filter(|file| !file.as_os_str().is_empty());
        match (value, file) {
            (None, None) => Ok(None),
            (Some(value), None) => Ok(Some(Given { variable: self.variable, secret: value.clone() })),
            (None, Some(file)) => {
                let secret = contents(file).map_err(|problem| ConfigError::new(self.file_variable, problem));
                Ok(Some(Given { variable: self.file_variable, secret: secret? }))
            }
            (Some(_), Some(_)) => {
                let problem = format_args!("is set beside {}: keep one of them", self.variable);
                Err(ConfigError::new(self.file_variable, problem))
            }
        }
    }
}

/// A file's text without the line's end that editors leave. An empty file is a mistake: to have no secret, name no file.
fn contents(file: &Path) -> Result<SecretString, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = |bytes: &mut Vec<u8>| -> io::Result<usize> {
        // All at once: a buffer that grew would leave copies behind.
        bytes.reserve_exact(usize::try_from(FILE_BYTES + 1).unwrap_or(usize::MAX));
        File::open(file)?.take(FILE_BYTES + 1).read_to_end(bytes)
    };
    let length = read(&mut bytes).map_err(|error| format!("names a file that cannot be read: {error}"))?;
    if length as u64 > FILE_BYTES {
        return Err(format!("names a file of more than {FILE_BYTES} bytes"));
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

    fn given(value: Option<&str>, file: Option<&Path>) -> Result<Option<String>, String> {
        let value = value.map(SecretString::from);
        let given = KEY.read(value.as_ref(), file).map_err(|error| error.to_string())?;
        Ok(given.map(|given| format!("{} from {}", given.text(), given.variable)))
    }

    fn file(contents: &[u8]) -> Result<Option<String>, String> {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("key");
        fs::write(&path, contents).expect("written");
        given(None, Some(&path))
    }

    #[test]
    fn a_secret_comes_from_its_variable_or_its_file() {
        assert_eq!(given(None, None), Ok(None));
        assert_eq!(given(Some(""), Some(Path::new(""))), Ok(None));
        assert_eq!(given(Some("a"), None), Ok(Some("a from KEY".to_owned())));
        for contents in ["a", "a\n", "a\r\n"] {
            assert_eq!(file(contents.as_bytes()), Ok(Some("a from KEY_FILE".to_owned())), "{contents:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_secret_is_told_by_the_variable_that_names_it() {
        let both = given(Some("a"), Some(Path::new("b")));
        assert_eq!(both, Err("KEY_FILE is set beside KEY: keep one of them".to_owned()));
        let missing = given(None, Some(Path::new("/nowhere/key"))).expect_err("no such file");
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
