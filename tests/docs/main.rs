//! Tests of the documentation, the packaging and the structure of the sources.

mod alerts;
mod documentation;
mod json_fields;
mod layers;
mod packaging;
mod picture;
mod quoted_messages;
mod scheduled;
