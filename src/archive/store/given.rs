//! Objects that code hands over, where a user would name a provider.

use std::fmt;
use std::sync::Arc;

use object_store::ObjectStore;

/// What holds the objects of an archive instead of the provider that its URL names.
#[derive(Clone)]
pub struct Objects {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// Which ones they are, in this process.
    pub(super) identity: usize,
}

/// Says nothing of what is in it.
impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.identity).finish()
    }
}

/// The same place, whatever is in it.
impl PartialEq for Objects {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Objects {}
