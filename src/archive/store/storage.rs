//! Storage class and tags of archived files. Pure.

use object_store::{Attribute, PutMode, PutOptions, TagSet};

use crate::archive::url::Provider;

/// Classes of S3's protocol, Azure's tiers included, whose files must be brought back before they can be read. Google's can all
/// be read at once.
const COLD: [&str; 5] = ["GLACIER", "DEEP_ARCHIVE", "ARCHIVE", "COLD_ARCHIVE", "DEEP_COLD_ARCHIVE"];

/// Maximum numbers that Amazon and Azure accept: of tags, and of characters in a name and in a value.
const MOST_TAGS: usize = 10;
const MOST_IN_NAME: usize = 128;
const MOST_IN_VALUE: usize = 256;

/// How a store is to keep what is archived. Reports, which are replaced, are not among that.
#[derive(Debug, Clone, Default)]
pub(super) struct Storage {
    class: Option<String>,
    tags: TagSet,
}

impl Storage {
    /// Returns the options for creating an archived file.
    pub(super) fn options(&self, mode: PutMode) -> PutOptions {
        let mut options = PutOptions { tags: self.tags.clone(), ..PutOptions::from(mode) };
        if let Some(class) = &self.class {
            options.attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        options
    }

    /// Returns `true` if files get tags, which may need a right of its own.
    pub(super) fn has_tags(&self) -> bool {
        !self.tags.encoded().is_empty()
    }

    /// Sets the storage class. Refuses one from which no recovery could read.
    pub(super) fn set_class(&mut self, provider: Provider, value: &str) -> Result<(), String> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if value.is_empty() || !value.chars().all(is_word) {
            return Err(
                "it is not the name of a storage class; write it as the store does, such as \"STANDARD_IA\""
                    .to_owned(),
            );
        }
        let plain = value.to_ascii_uppercase().replace('-', "_");
        if provider != Provider::Google
            && COLD.iter().any(|cold| plain.replace('_', "") == cold.replace('_', ""))
        {
            let other =
                if provider == Provider::Azure { "\"Cool\"" } else { "\"STANDARD_IA\" or \"GLACIER_IR\"" };
            return Err(format!(
                "files in {value} must be brought back for hours before they can be read, so no recovery could use them, nor could \
                 a second push compare them; choose one that can be read at once, such as {other}"
            ));
        }
        self.class = Some(value.to_owned());
        Ok(())
    }

    /// Sets the tags, from a text such as `team=db, kind=wal`.
    pub(super) fn set_tags(&mut self, provider: Provider, value: &str) -> Result<(), String> {
        if provider == Provider::Google {
            return Err("Google's objects have no tags; leave it out".to_owned());
        }
        let pairs: Vec<(&str, &str)> = value
            .split(',')
            .map(|pair| pair.split_once('=').map(|(name, value)| (name.trim(), value.trim())))
            .collect::<Option<_>>()
            .ok_or("it must be names with values, such as \"team=db, kind=wal\"")?;
        let is_allowed = |c: char| c.is_alphanumeric() || " +-=._:/@".contains(c);
        let fits = |(name, value): &(&str, &str)| {
            (1..=MOST_IN_NAME).contains(&name.chars().count())
                && value.chars().count() <= MOST_IN_VALUE
                && name.chars().chain(value.chars()).all(is_allowed)
        };
        let names: std::collections::BTreeSet<&str> = pairs.iter().map(|(name, _)| *name).collect();
        if pairs.len() > MOST_TAGS || names.len() < pairs.len() || !pairs.iter().all(fits) {
            return Err(format!(
                "no store takes these: at most {MOST_TAGS} tags, each name once, with at most {MOST_IN_NAME} characters, a value with \
                 at most {MOST_IN_VALUE}, of letters, digits, spaces and + - = . _ : / @"
            ));
        }
        self.tags = TagSet::default();
        for (name, value) in pairs {
            self.tags.push(name, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_cannot_be_read_at_once_is_refused() {
        let set = |provider, class| Storage::default().set_class(provider, class);
        for class in ["GLACIER", "DEEP_ARCHIVE", "glacier", "Archive", "ColdArchive"] {
            let error = set(Provider::S3, class).unwrap_err();
            assert!(error.contains("no recovery") && error.contains("GLACIER_IR"), "{error}");
        }
        let error = set(Provider::Azure, "Archive").unwrap_err();
        assert!(error.contains("\"Cool\""), "{error}");
        for (provider, class) in [
            (Provider::S3, "STANDARD_IA"),
            (Provider::S3, "GLACIER_IR"),
            (Provider::S3, "INTELLIGENT_TIERING"),
            (Provider::Azure, "Cold"),
            (Provider::Google, "ARCHIVE"),
        ] {
            assert_eq!(set(provider, class), Ok(()), "{class}");
        }
        for class in ["", "STANDARD IA", "a\nb", "caf\u{e9}"] {
            assert!(set(Provider::S3, class).unwrap_err().contains("STANDARD_IA"), "{class}");
        }
    }

    #[test]
    fn tags_are_those_that_stores_take() {
        let mut storage = Storage::default();
        storage.set_tags(Provider::S3, "team = db, kind=wal=16").unwrap();
        assert_eq!(storage.options(PutMode::Create).tags.encoded(), "team=db&kind=wal%3D16");
        storage.set_tags(Provider::Azure, "a=").unwrap();
        assert_eq!(storage.options(PutMode::Create).tags.encoded(), "a=", "the last one counts");
        let long = format!("a={}", "x".repeat(257));
        let many = (0..11).map(|number| format!("n{number}=1")).collect::<Vec<_>>().join(",");
        for (wrong, why) in [
            ("", "such as"),
            ("team", "such as"),
            ("a=1,", "such as"),
            ("=1", "at most"),
            ("a=1,a=2", "each name once"),
            ("a=&b", "letters"),
            (&long, "256"),
            (&many, "10 tags"),
        ] {
            let set = storage.set_tags(Provider::S3, wrong);
            assert!(set.as_ref().is_err_and(|error| error.contains(why)), "{wrong}: {set:?}");
        }
        assert!(storage.set_tags(Provider::Google, "a=1").is_err());
    }
}
