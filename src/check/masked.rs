//! Hides secrets in a server's commands before they are shown. Pure.

/// Stands for what is hidden.
const MASK: &str = "***";

/// Parts of the names of what is secret.
const SECRET: [&str; 9] =
    ["key", "secret", "token", "password", "passwd", "pwd", "credential", "sig", "auth"];

/// Variables that say where something is, and are no secrets.
const PLACES: [&str; 9] =
    ["PATH", "HOME", "LANG", "TZ", "USER", "PGDATA", "AWS_REGION", "AWS_PROFILE", "TMPDIR"];

/// Hides the values of variables that may be secret, and of flags whose names say so, and who logs in in URLs. The text need
/// be no command that a shell understands.
pub(super) fn masked(command: &str) -> String {
    without_user_info(&without_values(command))
}

fn without_values(command: &str) -> String {
    let letters: Vec<char> = command.chars().collect();
    let at = |place: usize| letters.get(place).copied();
    let (mut shown, mut quote, mut place) = (String::new(), None, 0);
    while let Some(letter) = at(place) {
        let before = place.checked_sub(1).and_then(at);
        let begins = is_of_name(letter) && !before.is_some_and(is_of_name);
        if !begins {
            quote = match (quote, letter) {
                (None, '\'' | '"') => Some(letter),
                (Some(open), _) if open == letter => None,
                _ => quote,
            };
            shown.push(letter);
            place += 1;
            continue;
        }
        let name: String = letters.iter().skip(place).take_while(|letter| is_of_name(**letter)).collect();
        shown.push_str(&name);
        place += name.chars().count();
        let is_flag = name.starts_with("--");
        let separator = match at(place) {
            Some('=') => '=',
            Some(' ') if is_flag => ' ',
            _ => continue,
        };
        if !is_secret(&name, is_flag) {
            continue;
        }
        let end = end_of_value(&letters, place + 1, quote);
        shown.push(separator);
        if end > place + 1 {
            shown.push_str(MASK);
        }
        place = end;
    }
    shown
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == '-'
}

fn is_secret(name: &str, is_flag: bool) -> bool {
    let small = name.to_ascii_lowercase();
    if SECRET.iter().any(|part| small.contains(part)) {
        return true;
    }
    let is_variable = !is_flag && name.chars().all(|letter| !letter.is_ascii_lowercase());
    is_variable && !name.starts_with("WALKEEP_") && !name.starts_with("LC_") && !PLACES.contains(&name)
}

/// Returns where a value ends that begins in that quote.
fn end_of_value(letters: &[char], from: usize, quote: Option<char>) -> usize {
    let (mut inner, mut place) = (None, from);
    while let Some(letter) = letters.get(place).copied() {
        let is_end = Some(letter) == quote && inner != Some(letter)
            || inner.is_none() && (letter.is_whitespace() || ";|&<>()".contains(letter));
        if is_end {
            return place;
        }
        inner = match (inner, letter) {
            (Some(open), _) if open == letter => None,
            (None, '\'' | '"') => Some(letter),
            _ => inner,
        };
        place += if letter == '\\' { 2 } else { 1 };
    }
    letters.len()
}

fn without_user_info(command: &str) -> String {
    let mut parts = command.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|letter: char| letter.is_whitespace() || "'\"".contains(letter));
        let (url, rest) = part.split_at(end.unwrap_or(part.len()));
        shown.push_str("://");
        // A secret may have a slash in it.
        match url.rsplit_once('@') {
            Some((_, host)) => shown.extend([MASK, "@", host]),
            None => shown.push_str(url),
        }
        shown.push_str(rest);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        for command in [
            "AWS_SECRET_ACCESS_KEY=PLANTED walkeep-archive %p",
            "env AWS_SECRET_ACCESS_KEY='PLANTED x' walkeep-archive %p",
            "A=\"PLANTED x\"y walkeep-archive %p",
            "sh -c 'AWS_SECRET_ACCESS_KEY=PLANTED walkeep-archive %p'",
            "sh -c \"X='PLANTED PLANTED' walkeep-archive %p\"",
            "export PGPASSWORD=PLANTED; walkeep-archive %p",
            "WALKEEP_STORE_SECRET=PLANTED walkeep-archive %p",
            "walkeep-archive --archive s3://ID:PLANTED@bucket %p",
            "walkeep-archive --archive s3://ID:PLA/PLANTED@bucket %p",
            "x --secret-key PLANTED %p",
            "x --password=PLANTED %p",
            "curl 'https://host/x?sig=PLANTED&y=1' %p",
            "A=PLAN\\ PLANTED walkeep-archive %p",
            "A='PLANTED walkeep-archive %p",
        ] {
            let shown = masked(command);
            assert!(!shown.contains("PLANTED") && shown.contains(MASK), "{command}: {shown}");
        }
        assert_eq!(
            masked("AWS_SECRET_ACCESS_KEY=x walkeep-archive --archive s3://a:b@c/d %p"),
            "AWS_SECRET_ACCESS_KEY=*** walkeep-archive --archive s3://***@c/d %p"
        );
    }

    #[test]
    fn all_else_stays_as_it_is() {
        for command in [
            "walkeep-archive --archive s3://bucket/prefix --config /etc/w.toml %p",
            "WALKEEP_ARCHIVE=/mnt/a PATH=/usr/bin walkeep-archive %p && true",
            "dd if=%p of='/mnt/a b'/%f",
            "walkeep-archive --archive=/mnt/größe@home %p",
            "",
        ] {
            assert_eq!(masked(command), command);
        }
    }
}
