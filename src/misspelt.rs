//! Recognition of misspelt names.

/// Least likeness of a name that is taken for a misspelling of another, from 0 to 1.
const ALIKE: f64 = 0.75;

/// Returns the name that this one is a misspelling of, or a part of, if there is one.
pub(crate) fn meant<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let names: Vec<&str> = names.into_iter().collect();
    let alike = names
        .iter()
        .copied()
        .map(|known| (likeness(name, known), known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    // Which one of several is meant, nobody knows.
    let only = |is_like: fn(&str, &str) -> bool| {
        let mut like = names.iter().copied().filter(|known| is_like(name, known));
        like.next().filter(|_| like.next().is_none())
    };
    alike.map(|(_, known)| known).or_else(|| only(is_beginning)).or_else(|| only(is_shortened))
}

/// Returns `true` if the word is a misspelling of the other, or the same.
pub(crate) fn is_alike(word: &str, known: &str) -> bool {
    likeness(word, known) >= ALIKE
}

fn likeness(name: &str, known: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(name, known)
}

/// Returns `true` for a name of two words or more, which are the first of the other's, or like them.
fn is_beginning(name: &str, known: &str) -> bool {
    let words = name.split('_').count();
    let alike = name.split('_').zip(known.split('_')).filter(|(word, known)| is_alike(word, known));
    words >= 2 && alike.count() == words
}

/// Returns `true` for a name of two words or more, each of which is one of the other's, in that order, or like it.
fn is_shortened(name: &str, known: &str) -> bool {
    let mut words = known.split('_');
    let mut count = 0;
    let are_all = name.split('_').all(|word| {
        count += 1;
        words.any(|known| is_alike(word, known))
    });
    are_all && count >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slip_is_recognized_and_another_word_is_not() {
        let names = ["region", "endpoint", "profile"];
        for (name, expected) in [
            ("regoin", Some("region")),
            ("endpiont", Some("endpoint")),
            ("profiles", Some("profile")),
            ("bucket", None),
            ("", None),
        ] {
            assert_eq!(meant(name, names), expected, "{name}");
        }
    }

    #[test]
    fn a_name_without_some_of_its_words_is_recognized_if_it_can_be_one_only() {
        let names = ["access_key_id", "secret_access_key", "session_token", "account_name", "account_key"];
        for (name, expected) in [
            ("acces_key", Some("access_key_id")),
            ("acces_key_id", Some("access_key_id")),
            ("key_id", Some("access_key_id")),
            ("secret_key", Some("secret_access_key")),
            ("secert_acess_key", Some("secret_access_key")),
            ("account", None),
            ("access", None),
            ("_", None),
            ("id", None),
        ] {
            assert_eq!(meant(name, names), expected, "{name}");
        }
        assert_eq!(meant("my_key", ["access_key_id", "region"]), None);
    }
}
