//! Everything that is tested from outside: one binary, so that it is linked once.

mod openapi;
