//! What the documentation, the packaging and the order of the sources promise.

mod documentation;
mod layers;
mod packaging;
mod quoted_messages;
