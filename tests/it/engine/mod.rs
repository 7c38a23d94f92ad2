//! The store and the dispatcher together, over a backend that does as a test tells it.

mod beside;
mod claims;
mod fake;
mod keys;
mod kill;
mod recovery;
mod running;
mod stopping;
mod store;
mod support;
