//! Names of clusters, from the section `[systems]`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::wrong;
use crate::error::Error;
use crate::misspelt::meant;
use crate::wal::{SystemChoice, SystemIdentifier, SystemName, SystemNames};

/// Names of clusters as the configuration gives them: a cluster has one at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Systems(pub SystemNames);

impl<'de> Deserialize<'de> for Systems {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Section)
    }
}

struct Section;

impl<'de> Visitor<'de> for Section {
    type Value = Systems;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names with system identifiers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut section: A) -> Result<Self::Value, A::Error> {
        let mut named: BTreeMap<SystemIdentifier, SystemName> = BTreeMap::new();
        while let Some(Named(name)) = section.next_key()? {
            let system = section.next_value_seed(Unnamed(&named))?;
            named.insert(system, name);
        }
        Ok(Systems(named.into_iter().map(|(system, name)| (name, system)).collect()))
    }
}

/// A key of the section.
struct Named(SystemName);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A value of the section: a cluster that has no name yet.
struct Unnamed<'a>(&'a BTreeMap<SystemIdentifier, SystemName>);

impl Unnamed<'_> {
    fn check<E: serde::de::Error>(
        &self,
        system: Option<SystemIdentifier>,
        given: Unexpected<'_>,
    ) -> Result<SystemIdentifier, E> {
        let system = system.ok_or_else(|| E::invalid_value(given, self))?;
        match self.0.get(&system) {
            Some(name) => Err(E::custom(format!("system {system} has the name {name} already"))),
            None => Ok(system),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Unnamed<'_> {
    type Value = SystemIdentifier;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unnamed<'_> {
    type Value = SystemIdentifier;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a system identifier")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.check(text.parse().ok(), Unexpected::Str(text))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
        self.check(u64::try_from(number).ok().and_then(SystemIdentifier::new), Unexpected::Signed(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
        self.check(SystemIdentifier::new(number), Unexpected::Unsigned(number))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(A::Error::custom(
            "a name with a dot is put in quotes, as in \"db.example\" = \"7381092445103374871\"",
        ))
    }
}

/// Returns the cluster that is meant.
pub(super) fn chosen(
    choice: Option<&SystemChoice>,
    names: &SystemNames,
) -> Result<Option<SystemIdentifier>, Error> {
    let name = match choice {
        None => return Ok(None),
        Some(SystemChoice::Identifier(system)) => return Ok(Some(*system)),
        Some(SystemChoice::Name(name)) => name,
    };
    if let Some(system) = names.system(name.as_str()) {
        return Ok(Some(system));
    }
    let error = wrong(format!("no system has the name {name}"));
    let Some(listed) = names.listed() else {
        return Err(error.hint(
            "there are no names: give the identifier, or write it as NAME = \"ID\" below [systems] into the configuration file",
        ));
    };
    let meant = meant(name.as_str(), names.iter().map(|(name, _)| name));
    let suggestion = meant.map_or_else(String::new, |meant| format!("did you mean {meant}? "));
    Err(error.hint(format!("{suggestion}[systems] has {listed}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Given, Settings};

    fn of_text(text: &str) -> Result<SystemNames, String> {
        let text = format!("archive = '/a'\n{text}");
        let settings = Settings::of_text(&text, 0o644, BTreeMap::new());
        settings.map(|settings| settings.archive.names).map_err(|error| error.report())
    }

    #[test]
    fn a_name_stands_for_an_identifier_with_and_without_quotes() {
        let names = of_text("[systems]\nmain = \"7\"\n\"a.b\" = 18 # here\nold-1_x = '18446744073709551615'")
            .unwrap();
        let all: Vec<_> = names.iter().map(|(name, system)| (name, system.to_string())).collect();
        let expected = [("a.b", "18"), ("main", "7"), ("old-1_x", "18446744073709551615")];
        assert_eq!(all, expected.map(|(name, system)| (name, system.to_owned())));
        assert_eq!(of_text(""), Ok(SystemNames::default()));
    }

    #[test]
    fn a_mistake_is_named_with_its_file_line_and_name() {
        let entry = "is a system identifier, as in main = \"7381092445103374871\"";
        for (line, expected) in [
            ("main = 'x'", format!("main in [systems] {entry}")),
            ("main = 0", format!("main in [systems] {entry}")),
            ("main = -1", format!("main in [systems] {entry}")),
            ("main = 1.5", format!("main in [systems] {entry}")),
            ("main = ['7']", format!("main in [systems] {entry}")),
            ("main = 7\nmain = 8", "main in [systems]: duplicate key".to_owned()),
            ("main = 7\nother = '7'", "other in [systems]: system 7 has the name main already".to_owned()),
            ("7 = '7'", "7 in [systems]: a name has more than digits, which would be a system identifier".to_owned()),
            ("-main = '7'", "-main in [systems]: a name has letters without accents, digits, \"-\", \"_\" and \".\", and begins with a letter or a digit".to_owned()),
            ("my.main = '7'", "my.main in [systems]: a name with a dot is put in quotes, as in \"db.example\" = \"7381092445103374871\"".to_owned()),
            ("keep_days = 14", "keep_days belongs above [systems]".to_owned()),
            ("spool = '/spool'", "spool belongs above [systems]".to_owned()),
        ] {
            let number = if line.contains('\n') { 4 } else { 3 };
            let said = of_text(&format!("[systems]\n{line}")).unwrap_err();
            assert_eq!(said, format!("/etc/walkeep/walkeep.toml, line {number}: {expected}"), "{line}");
        }
        let long = of_text(&format!("[systems]\n{} = 7", "x".repeat(33))).unwrap_err();
        assert!(long.contains("line 3: ") && long.ends_with("a name has 1 to 32 characters"), "{long}");
        assert!(of_text("[system]\nmain = 7").unwrap_err().ends_with("did you mean [systems]?"));
        assert!(of_text("systems = 7").unwrap_err().contains("systems is a section of its own"));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let chosen = |text: &str, names: &str| {
            let given = Given { system: Some(text.parse().unwrap()), ..toml::from_str(names).unwrap() };
            chosen(given.system.as_ref(), &given.systems.0)
                .map(|system| system.map(|system| system.to_string()))
                .map_err(|error| error.report())
        };
        let names = "[systems]\nmain = 7\nother = 8";
        assert_eq!(chosen("main", names), Ok(Some("7".to_owned())));
        assert_eq!(chosen("9", names), Ok(Some("9".to_owned())));
        assert_eq!(
            chosen("mian", names).unwrap_err(),
            "no system has the name mian; did you mean main? [systems] has main, other"
        );
        assert_eq!(chosen("x", names).unwrap_err(), "no system has the name x; [systems] has main, other");
        assert!(chosen("main", "").unwrap_err().contains("there are no names: give the identifier"));
    }
}
