//! Recognition of misspelt names.

/// Least likeness of a name that is taken for a misspelling of another, from 0 to 1.
const ALIKE: f64 = 0.75;

/// Returns the name that this one is a misspelling of, if there is one.
pub(crate) fn meant<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names
        .into_iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
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
}
