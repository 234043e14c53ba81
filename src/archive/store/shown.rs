//! Texts of stores and libraries, as messages show them: short, in one line, without secrets. Pure.

/// Maximum length of a text, which must fit into one line of a log.
const MAX_TEXT: usize = 300;

/// Length from which a secret is hidden. A shorter one occurs in ordinary words: without the letter `o` no message is readable,
/// and no code recognized. Nobody keeps such a one secret for long either.
const SHORTEST_SECRET: usize = 6;

/// Returns the secrets that are hidden, the longest first: one may contain another.
fn hidden<'a>(secrets: &[&'a str]) -> Vec<&'a str> {
    let mut hidden: Vec<&str> =
        secrets.iter().copied().filter(|secret| secret.len() >= SHORTEST_SECRET).collect();
    hidden.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    hidden
}

/// Returns a text that a store has sent, shortened, in one line, without control characters and without these secrets. `None` if
/// it is empty.
pub(super) fn shown(text: &str, secrets: &[&str]) -> Option<String> {
    let text = hidden(secrets).into_iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"));
    let words = text.split(|letter: char| letter.is_whitespace() || letter.is_control() || turns(letter));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let text: String = words.join(" ").chars().take(MAX_TEXT).collect();
    (!text.is_empty()).then_some(text)
}

/// `true` for what changes the direction of a text, and so the order in which a terminal shows it.
fn turns(letter: char) -> bool {
    matches!(letter, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Returns `true` if a text contains one of these secrets.
pub(super) fn quotes_one(text: &str, secrets: &[&str]) -> bool {
    hidden(secrets).into_iter().any(|secret| text.contains(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_wherever_it_is() {
        assert_eq!(shown("not\n  s3cret, s3cret", &["s3cret"]).as_deref(), Some("not ***, ***"));
        assert_eq!(shown(" \n ", &[]), None);
        assert_eq!(shown("a\0b\x1b[31mc\u{202E}d", &[]).as_deref(), Some("a b [31mc d"));
        assert_eq!(shown(&"x".repeat(1000), &[]).map(|text| text.len()), Some(300));
        assert!(quotes_one("is s3cret", &["other!", "s3cret"]) && !quotes_one("is", &["s3cret", ""]));
    }

    #[test]
    fn a_secret_within_a_longer_one_leaves_nothing_of_that() {
        assert_eq!(shown("s3cret+more", &["s3cret", "s3cret+more"]).as_deref(), Some("***"));
    }

    #[test]
    fn a_secret_of_a_few_letters_changes_no_word() {
        for secret in ["", "N", "o", "Key", "Such"] {
            assert_eq!(shown("NoSuchKey", &[secret]).as_deref(), Some("NoSuchKey"), "{secret}");
            assert!(!quotes_one("NoSuchKey", &[secret]), "{secret}");
        }
    }
}
