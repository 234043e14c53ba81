//! Tests with an object store.

mod absence;
mod configuration;
mod credentials;
mod faults_push;
mod faults_restore;
mod forms;
mod google;
mod issuers;
mod races;
mod requests;
mod rights;
mod slow_link;
mod storage;
mod support;
mod tls;
mod tools_never_wait_in_vain;
