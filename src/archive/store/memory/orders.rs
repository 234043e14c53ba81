//! What is to go wrong, and with which request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Memory;
use crate::archive::failure::Asked;

/// What a store does, and the way to it.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It says that it is busy. Nothing is done.
    Busy,
    /// It says that the credentials do not allow it.
    Refused,
    /// It says that there is no such bucket.
    NoBucket,
    /// Something in between says that there is no such page.
    NoStore,
    /// It does not know conditions.
    Unconditional,
    /// Nothing moves for as long as anybody waits, which is noticed at once.
    TimedOut,
    /// The connection breaks off before the request has arrived.
    BrokenOff,
    /// It is done, and the connection breaks off before that is heard.
    AnswerLost,
    /// It is answered after so long.
    Slow(Duration),
    /// It is not answered, and nobody notices.
    Silent,
    /// The connection breaks off after so many bytes of an object, or names of a listing.
    TornAfter(usize),
}

/// Which requests an order is about.
#[derive(Debug, Clone)]
pub struct When {
    asked: Asked,
    key: String,
    /// How many such requests until it is carried out, once; `None`: at every one.
    left: Option<usize>,
}

impl When {
    /// The next request of that kind.
    #[must_use]
    pub fn first(asked: Asked) -> Self {
        Self::nth(1, asked)
    }

    /// The `n`th request of that kind from now on.
    #[must_use]
    pub fn nth(n: usize, asked: Asked) -> Self {
        Self { asked, key: String::new(), left: Some(n) }
    }

    /// Every request of that kind.
    #[must_use]
    pub fn every(asked: Asked) -> Self {
        Self { asked, key: String::new(), left: None }
    }

    /// Only those with that in their key.
    #[must_use]
    pub fn on(self, key: impl Into<String>) -> Self {
        Self { key: key.into(), ..self }
    }

    /// Whether the order is due with this request.
    fn meets(&mut self, asked: Asked, key: &str) -> bool {
        if asked != self.asked || !key.contains(&self.key) {
            return false;
        }
        match &mut self.left {
            None => true,
            Some(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
        }
    }
}

pub(super) type Action = Arc<dyn Fn(&Memory) + Send + Sync>;

/// What is ordered.
#[derive(Clone)]
pub(super) enum Ordered {
    Fault(Fault),
    Before(Action),
    After(Action),
}

impl fmt::Debug for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Before(_) => f.write_str("Before"),
            Self::After(_) => f.write_str("After"),
        }
    }
}

/// The orders that stand.
#[derive(Debug, Default)]
pub(super) struct Orders(Vec<(When, Ordered)>);

impl Orders {
    pub(super) fn add(&mut self, when: When, ordered: Ordered) {
        self.0.push((when, ordered));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What is due with this request. What was ordered for it alone stands no longer.
    pub(super) fn due(&mut self, asked: Asked, key: &str) -> (Vec<Action>, Option<Fault>, Vec<Action>) {
        let (mut before, mut fault, mut after) = (Vec::new(), None, Vec::new());
        self.0.retain_mut(|(when, ordered)| {
            if !when.meets(asked, key) {
                return true;
            }
            match ordered {
                Ordered::Fault(ordered) => drop(fault.get_or_insert_with(|| ordered.clone())),
                Ordered::Before(action) => before.push(Arc::clone(action)),
                Ordered::After(action) => after.push(Arc::clone(action)),
            }
            when.left.is_none()
        });
        (before, fault, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(orders: &mut Orders, requests: &[(Asked, &str)]) -> Vec<Option<&'static str>> {
        let name = |fault| match fault {
            Fault::Busy => "busy",
            Fault::Refused => "refused",
            _ => "other",
        };
        requests.iter().map(|(asked, key)| orders.due(*asked, key).1.map(name)).collect()
    }

    #[test]
    fn an_order_is_carried_out_with_the_request_it_is_about_and_no_other() {
        use Asked::{List, Read};
        let mut orders = Orders::default();
        orders.add(When::nth(2, Read).on("b"), Ordered::Fault(Fault::Busy));
        let requests = [(Read, "a"), (Read, "b"), (List, "b"), (Read, "b"), (Read, "b")];
        assert_eq!(faults(&mut orders, &requests), [None, None, None, Some("busy"), None]);
        orders.add(When::every(List), Ordered::Fault(Fault::Refused));
        orders.add(When::first(List), Ordered::Fault(Fault::Busy));
        assert_eq!(faults(&mut orders, &[(List, ""), (List, "x")]), [Some("refused"); 2]);
        orders.clear();
        assert_eq!(faults(&mut orders, &[(List, "")]), [None]);
    }
}
