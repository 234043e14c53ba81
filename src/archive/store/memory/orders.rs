//! Orders of faults and actions for requests to a store in memory.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Memory;
use crate::archive::failure::Asked;

/// A fault of a store, or of the connection to it.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The store responds that it is busy, and executes nothing.
    Busy,
    /// The store responds that the credentials lack permission.
    Refused,
    /// The store responds that the bucket does not exist.
    NoBucket,
    /// Something other than a store responds that the page does not exist.
    NoStore,
    /// The store does not support conditions.
    Unconditional,
    /// Nothing moves, and the timeout is reported at once.
    TimedOut,
    /// The connection breaks before the request arrives.
    BrokenOff,
    /// The request is executed, but the connection breaks before the response.
    AnswerLost,
    /// The response is delayed by this time.
    Slow(Duration),
    /// No response comes, and no timeout is reported.
    Silent,
    /// The connection breaks after this many bytes of an object, or names of a listing.
    TornAfter(usize),
}

/// Requests that an order applies to.
#[derive(Debug, Clone)]
pub struct When {
    asked: Asked,
    key: String,
    /// Number of requests until the order is executed once; `None` executes it for each.
    left: Option<usize>,
}

impl When {
    /// Selects the next request of that kind.
    #[must_use]
    pub fn first(asked: Asked) -> Self {
        Self::nth(1, asked)
    }

    /// Selects the `n`th request of that kind from now on.
    #[must_use]
    pub fn nth(n: usize, asked: Asked) -> Self {
        Self { asked, key: String::new(), left: Some(n) }
    }

    /// Selects every request of that kind.
    #[must_use]
    pub fn every(asked: Asked) -> Self {
        Self { asked, key: String::new(), left: None }
    }

    /// Restricts the selection to keys that contain this text.
    #[must_use]
    pub fn on(self, key: impl Into<String>) -> Self {
        Self { key: key.into(), ..self }
    }

    /// Returns `true` if the order applies to this request.
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

/// Action or fault of an order.
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

/// Pending orders.
#[derive(Debug, Default)]
pub(super) struct Orders(Vec<(When, Ordered)>);

impl Orders {
    pub(super) fn add(&mut self, when: When, ordered: Ordered) {
        self.0.push((when, ordered));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the orders for this request, and removes those that apply only once.
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
    fn an_order_applies_only_to_its_own_request() {
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
